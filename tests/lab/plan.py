# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab on paper: every name, address and device in it, derived from the prefix alone.

Everybody in this package asks here how a thing is called, so that what one run made another run
finds again and removes. Pure: nothing is looked up and nothing is changed here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DISKS = Path("/var/lib/amaranten-ha-lab")
CACHE = Path("/var/cache/amaranten-ha-lab")
LOCKS = Path("/run/lock")
NETNS = Path("/run/netns")

NODES = ("fw-a", "fw-b")
HOSTS = ("client", "server", "dmzhost")
NETWORKS = ("lan", "wan", "dmz", "sync", "mgmt")
FIREWALLED = ("lan", "wan", "dmz")

IPV4 = {
    "lan": "10.20.1.{}/24",
    "wan": "198.51.100.{}/24",
    "dmz": "10.20.3.{}/24",
    "sync": "10.20.4.{}/24",
    "mgmt": "10.20.9.{}/24",
}
IPV6 = {
    "lan": "fd20:1::{}/64",
    "wan": "2001:db8:51::{}/64",
    "dmz": "fd20:3::{}/64",
    "sync": "fd20:4::{}/64",
    "mgmt": "fd20:9::{}/64",
}
DEVICES = {
    "fw-a": {"lan": "enp1s0", "wan": "enp2s0", "dmz": "enp3s0", "sync": "enp4s0", "mgmt": "enp9s0"},
    "fw-b": {"lan": "ens5", "wan": "ens4", "dmz": "ens7", "sync": "ens6", "mgmt": "ens9"},
}
HOST_NETWORK = {"client": "lan", "server": "wan", "dmzhost": "dmz", "control": "mgmt"}
LAST_OCTET = {"fw-a": 2, "fw-b": 3, "client": 100, "server": 100, "dmzhost": 100, "control": 254}

# What a host may reach beyond its own network. The server knows no way to lan's or dmz's IPv4
# networks, so that a connection without NAT cannot come back; for IPv6 it is the provider's
# router, which routes the site's networks to the site.
ROUTES = {
    "client": ("default via 10.20.1.1", "default via fd20:1::1"),
    "server": ("fd20:1::/64 via 2001:db8:51::1", "fd20:3::/64 via 2001:db8:51::1"),
    "dmzhost": ("default via 10.20.3.1", "default via fd20:3::1"),
    "control": (),
}


def own_prefix(word: str) -> str:
    """A lab's prefix that no other working copy on this machine uses: tests may run in both."""
    return word + hashlib.blake2s(str(ROOT).encode(), digest_size=2).hexdigest()


class LabError(Exception):
    """The lab cannot do what was asked; the sentence says why and what to do."""


class BadRequest(LabError):
    """What was asked for cannot exist, so nothing was begun."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The names of one lab; two labs with different prefixes share nothing but the image."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"([a-z][a-z0-9]{0,9})?", self.prefix):
            raise BadRequest(
                f"prefix {self.prefix!r}: expected at most 10 lower-case letters and digits, "
                "the first one a letter"
            )

    @property
    def name(self) -> str:
        """What everything of this lab that the machine can see begins with."""
        return f"amha-{self.prefix}" if self.prefix else "amha"

    @property
    def build(self) -> Path:
        """What the lab writes for its users: inventory, keys, known hosts, state."""
        return ROOT / "build" / (f"lab-{self.prefix}" if self.prefix else "lab")

    @property
    def disks(self) -> Path:
        """Where the disks of the nodes are."""
        return DISKS / self.name

    @property
    def owner(self) -> Path:
        """The file that says which working copy made this lab."""
        return self.disks / "owner"

    @property
    def lock(self) -> Path:
        """The lock that whoever makes, changes or removes this lab holds."""
        return LOCKS / f"{self.name}-lab.lock"

    def disk(self, node: str) -> Path:
        """The directory that holds what a node wrote, its mount point and its console log."""
        return self.disks / node

    def namespace(self, place: str) -> str:
        """The network namespace of a node, a host, ``control`` or ``switch``."""
        return f"{self.name}-{place}"

    def namespace_path(self, place: str) -> Path:
        """The file through which that namespace can be entered."""
        return NETNS / self.namespace(place)

    def namespaces(self) -> list[str]:
        """Every place that has a namespace."""
        return ["switch", *NODES, *HOSTS, "control"]

    def cgroup(self, node: str) -> str:
        """The control group in which everything of a node runs."""
        return f"{self.name}-{node}"

    def address_name(self, node: str) -> str:
        """The name by which SSH knows a node; unique per lab, so that no session is shared."""
        return f"{node}.{self.prefix}.lab" if self.prefix else f"{node}.lab"


@dataclass(frozen=True, slots=True)
class Wire:
    """One cable: a device at its owner, a port at the switch, and the bridge it is in."""

    owner: str
    network: str

    @property
    def device(self) -> str:
        """The device at the owner's end."""
        if self.owner in DEVICES:
            return DEVICES[self.owner][self.network]
        return "eth0"

    @property
    def port(self) -> str:
        """The device at the switch's end."""
        return f"{self.owner}-{self.network}"

    @property
    def mac(self) -> str:
        """The hardware address of the owner's end, the same for ever."""
        return f"02:41:6d:00:{NETWORKS.index(self.network) + 1:02x}:{LAST_OCTET[self.owner]:02x}"

    @property
    def port_mac(self) -> str:
        """The hardware address of the switch's end."""
        return self.mac.replace("02:41:6d:00", "02:41:6d:ff")


def node_wires(node: str) -> list[Wire]:
    """The cables of a node."""
    return [Wire(node, network) for network in NETWORKS]


def host_wires() -> Iterator[Wire]:
    """The cables of the hosts and of the control place."""
    for host, network in HOST_NETWORK.items():
        yield Wire(host, network)


def address(place: str, network: str, family: int = 4) -> str:
    """The address that a place has on a network, with its prefix length."""
    text = (IPV4 if family == 4 else IPV6)[network]
    return text.format(LAST_OCTET[place])


def shared_addresses(network: str) -> list[str]:
    """What the pair shares on a network."""
    addresses = [IPV4[network].format(1), IPV6[network].format(1)]
    return [*addresses, "fe80::1/64"] if network != "wan" else addresses


def wire_of(node: str, interface: str) -> Wire:
    """The cable of a node on a network, both checked."""
    if node not in NODES:
        raise BadRequest(f"node {node!r}: expected one of {', '.join(NODES)}")
    if interface not in NETWORKS:
        raise BadRequest(f"interface {interface!r}: expected one of {', '.join(NETWORKS)}")
    return Wire(node, interface)
