# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces, bridges and cables: what the lab's networks are made of, and how they are broken.

Devices are created inside their namespaces and never pass through the machine's own; nothing here
touches the machine's network. A cut is a lost carrier. A silence drops every frame at the
switch's port, both ways, with the carrier unchanged.
"""

from __future__ import annotations

from enum import Enum

from .plan import (
    HOST_NETWORK,
    NETWORKS,
    ROUTES,
    LabError,
    Plan,
    Wire,
    address,
    host_wires,
    node_wires,
)
from .shell import run

# A new namespace copies IPv4 settings from the machine's own; the lab begins with the kernel's.
PLAIN_SETTINGS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.arp_ignore": "0",
    "net.ipv4.conf.default.arp_ignore": "0",
    "net.ipv4.conf.all.arp_announce": "0",
    "net.ipv4.conf.default.arp_announce": "0",
    "net.ipv4.conf.all.accept_redirects": "1",
    "net.ipv4.conf.default.accept_redirects": "1",
    "net.ipv6.conf.all.disable_ipv6": "0",
    "net.ipv6.conf.default.disable_ipv6": "0",
}
# The switch has no addresses, speaks for nobody, and no packet filter sees what it forwards.
SWITCH_SETTINGS = {
    "net.ipv4.ip_forward": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}
BRIDGE_SETTINGS = {
    "net.bridge.bridge-nf-call-iptables": "0",
    "net.bridge.bridge-nf-call-ip6tables": "0",
    "net.bridge.bridge-nf-call-arptables": "0",
}
SILENCE_TABLE = "netdev silence"


class Direction(Enum):
    """Which way a silence works, as the node sees it."""

    BOTH = "both"
    FROM_NODE = "from"
    TO_NODE = "to"

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks of the switch's port that drop."""
        return {
            Direction.BOTH: ("ingress", "egress"),
            Direction.FROM_NODE: ("ingress",),
            Direction.TO_NODE: ("egress",),
        }[self]


class Wires:
    """The networks of one lab."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def ip(self, place: str, *lines: str) -> None:
        """Run ``ip`` commands in a namespace, all in one go."""
        command = ["ip", "-n", self.plan.namespace(place), "-batch", "-"]
        run(command, given="\n".join(lines) + "\n")

    def nft(self, text: str) -> None:
        """One nftables transaction in the switch."""
        command = ["ip", "netns", "exec", self.plan.namespace("switch"), "nft", "-f", "-"]
        run(command, given=text)

    def settings(self, place: str, wanted: dict[str, str], ignore_absent: bool = False) -> None:
        """Set kernel parameters in a namespace."""
        flags = ["-e"] if ignore_absent else []
        pairs = [f"{name}={value}" for name, value in wanted.items()]
        where = ["ip", "netns", "exec", self.plan.namespace(place)]
        run([*where, "sysctl", "-q", *flags, "-w", *pairs], check=not ignore_absent)

    # Making and removing -------------------------------------------------------------------

    def make(self) -> None:
        """The switch, its bridges, the hosts and their cables; nodes come with their boot."""
        self.make_namespace("switch", SWITCH_SETTINGS)
        self.settings("switch", BRIDGE_SETTINGS, ignore_absent=True)
        bridge = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        self.ip("switch", *(f"link add {name} {bridge}" for name in NETWORKS))
        self.ip("switch", *(f"link set {name} up" for name in NETWORKS))
        self.nft(f"table {SILENCE_TABLE} {{ }}\n")
        for host in HOST_NETWORK:
            self.make_namespace(host, PLAIN_SETTINGS)
        for wire in host_wires():
            self.add_cable(wire)
            self._address_host(wire)

    def _address_host(self, wire: Wire) -> None:
        lines = [
            f"address add {address(wire.owner, wire.network)} dev {wire.device}",
            f"address add {address(wire.owner, wire.network, 6)} dev {wire.device} nodad",
            f"link set {wire.device} up",
            *(f"route add {route}" for route in ROUTES[wire.owner]),
        ]
        self.ip(wire.owner, *lines)

    def make_namespace(self, place: str, settings: dict[str, str]) -> None:
        """An empty namespace with plain settings."""
        run(["ip", "netns", "add", self.plan.namespace(place)])
        self.ip(place, "link set lo up")
        self.settings(place, settings)

    def make_node(self, node: str) -> None:
        """The namespace and cables of a node, new: nothing of an earlier boot is left."""
        self.remove_node(node)
        self.make_namespace(node, PLAIN_SETTINGS)
        for wire in node_wires(node):
            self.add_cable(wire)

    def remove_node(self, node: str) -> None:
        """Take a node's cables out of the switch, its silences away, and its namespace too."""
        ports = self.ports()
        self.restore(*(wire for wire in node_wires(node) if wire.port in ports))
        gone = [wire.port for wire in node_wires(node) if wire.port in ports]
        if gone:
            self.ip("switch", *(f"link delete {port}" for port in gone))
        if self.plan.namespace_path(node).exists():
            run(["ip", "netns", "delete", self.plan.namespace(node)])

    def add_cable(self, wire: Wire) -> None:
        """A cable from the switch to its owner; the owner's end is left down, as delivered."""
        owner = self.plan.namespace(wire.owner)
        ends = (
            f"link add {wire.port} address {wire.port_mac} type veth "
            f"peer name {wire.device} address {wire.mac} netns {owner}"
        )
        self.ip("switch", ends, f"link set {wire.port} master {wire.network} up")

    def remove_cable(self, wire: Wire) -> None:
        """Take a cable away, and with it the device of its owner."""
        self.restore(wire)
        self.ip("switch", f"link delete {wire.port}")

    def remove(self) -> None:
        """Remove every namespace of this lab, and with them all that is in them."""
        for place in self.plan.namespaces():
            if self.plan.namespace_path(place).exists():
                run(["ip", "netns", "delete", self.plan.namespace(place)])

    # Looking -------------------------------------------------------------------------------

    def ports(self) -> dict[str, bool]:
        """The devices of the switch, and whether each is administratively up."""
        command = ["ip", "-n", self.plan.namespace("switch"), "-o", "link", "show"]
        found = {}
        for line in run(command).stdout.splitlines():
            _index, name, flags = line.split()[:3]
            found[name.partition("@")[0].rstrip(":")] = "UP" in flags.strip("<>").split(",")
        return found

    def silenced(self) -> set[str]:
        """The names of the dropping chains that exist."""
        switch = self.plan.namespace("switch")
        listed = run(["ip", "netns", "exec", switch, "nft", "list", "table", "netdev", "silence"])
        words = [line.split() for line in listed.stdout.splitlines()]
        return {word[1] for word in words if word[:1] == ["chain"]}

    def whole(self) -> bool:
        """Whether all that ``make`` makes is there."""
        places = ["switch", *HOST_NETWORK]
        if not all(self.plan.namespace_path(place).exists() for place in places):
            return False
        try:
            ports = self.ports()
            self.silenced()
        except LabError:
            return False
        return all(name in ports for name in (*NETWORKS, *(w.port for w in host_wires())))

    # Breaking ------------------------------------------------------------------------------

    def cut(self, *wires: Wire) -> None:
        """Take the carrier away."""
        self.ip("switch", *(f"link set {wire.port} down" for wire in wires))

    def silence(self, *wires: Wire, direction: Direction = Direction.BOTH) -> None:
        """Drop every frame of these cables, in one transaction; the carrier stays."""
        self.nft("".join(_dropping(wire, hook) for wire in wires for hook in direction.hooks))

    def restore(self, *wires: Wire) -> None:
        """Undo what ``cut`` and ``silence`` did to these cables."""
        chains = self.silenced()
        gone = [
            f"delete chain {SILENCE_TABLE} {_chain(wire, hook)}\n"
            for wire in wires
            for hook in Direction.BOTH.hooks
            if _chain(wire, hook) in chains
        ]
        if gone:
            self.nft("".join(gone))
        ports = self.ports()
        down = [wire.port for wire in wires if ports.get(wire.port) is False]
        if down:
            self.ip("switch", *(f"link set {port} up" for port in down))


def _chain(wire: Wire, hook: str) -> str:
    return f"{wire.port}-{hook}"


def _dropping(wire: Wire, hook: str) -> str:
    return (
        f"add chain {SILENCE_TABLE} {_chain(wire, hook)} "
        f'{{ type filter hook {hook} device "{wire.port}" priority -500; policy drop; }}\n'
    )
