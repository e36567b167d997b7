# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pair as the operator described it, read into values that the rest can trust.

The action plugin enters with the plain dict `ha_cluster` and the names of the group's hosts, and
leaves with a `Cluster` (see `_pair`) or with sentences.  This room looks at each value by itself;
how they fit together is judged in `_cluster_checks`.  It imports nothing of Ansible, opens no file,
and keeps no key longer than it takes to see that it is one.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster_values import (
    CLUSTER_KEYS,
    DEVICE,
    DNS_KEYS,
    DYNAMIC,
    DYNAMIC_KEYS,
    FIXED_ONLY,
    INTERFACE_KEYS,
    KEY_BYTES,
    LOGICAL,
    NAME,
    NFT_WORDS,
    OWN_TIMERS,
    PROFILES,
    ROUTE_KEYS,
    SIDE_KEYS,
    TIMERS,
    key_length,
    parsed,
    unusable,
    whole_number,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._named_sets import named_sets
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import (
    Address,
    Cluster,
    Dns,
    Interface,
    NextHop,
    Route,
    Side,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

ROLES = ("service", "sync")
KEY_ID_MAX = 255
REPLICATION_PORT = 6780
DEFAULT_RULESET = "edge.nft.j2"


class Reader:
    """Reads one `ha_cluster`; `problems` holds what was wrong with it."""

    def __init__(self, raw: object, hosts: t.Sequence[str]) -> None:
        self.raw = raw
        self.hosts = tuple(hosts)
        self.problems = Problems()

    def read(self) -> Cluster | None:
        """The pair, or None if something was wrong."""
        found = self.mapping("ha_cluster", self.raw, CLUSTER_KEYS)
        if found is None:
            return None
        key_ids, send_key = self.keys(found)
        profile, timers = self.timing(found)
        port = found.get("replication_port", REPLICATION_PORT)
        interfaces = self.interfaces(found)
        cluster = Cluster(
            id=self.number("ha_cluster.id", found.get("id"), 1, 65535),
            name=self.word("ha_cluster.name", found.get("name"), NAME),
            profile=profile,
            timers=timers,
            key_ids=key_ids,
            send_key=send_key,
            primary=self.host("ha_cluster.primary", found.get("primary")),
            backup=self.host("ha_cluster.backup", found.get("backup")),
            interfaces=interfaces,
            ruleset=self.ruleset(found.get("ruleset", DEFAULT_RULESET)),
            routes=self.routes(found.get("routes", [])),
            dns=self.dns(found.get("dns", {})),
            replication_port=self.number("ha_cluster.replication_port", port, 1, 65535),
            wait_for_peer=self.flag("ha_cluster.wait_for_peer", found.get("wait_for_peer", False)),
            damping=self.flag("ha_cluster.damping", found.get("damping", True)),
            replicate_sets=named_sets(found.get("replicate_sets", []), self.problems),
        )
        if cluster.primary and cluster.primary == cluster.backup:
            self.problems.add(
                "ha_cluster.backup", cluster.backup, "the host that is not the primary"
            )
        return None if self.problems else cluster

    # Values ----------------------------------------------------------------------------------

    def mapping(self, path: str, value: object, known: t.Sequence[str]) -> dict[str, t.Any] | None:
        """A dict whose keys are all known."""
        if value is None:
            self.problems.missing(path, "a dict with " + ", ".join(known))
            return None
        if not isinstance(value, dict):
            self.problems.add(path, value, "a dict with " + ", ".join(known))
            return None
        for key in value:
            if key in known:
                continue
            if key in DYNAMIC_KEYS:
                self.problems.add(f"{path}.{key}", value[key], FIXED_ONLY)
            else:
                self.problems.say(f"{path}.{key} is not known, expected only {', '.join(known)}.")
        return value

    def number(self, path: str, value: object, low: int, high: int) -> int:
        """A whole number within bounds."""
        expected = f"a whole number from {low} to {high}"
        if value is None:
            self.problems.missing(path, expected)
            return low
        found = whole_number(value)
        if found is None or not low <= found <= high:
            self.problems.add(path, value, expected)
            return low
        return found

    def word(self, path: str, value: object, pattern: re.Pattern[str]) -> str:
        """A name of letters, digits and a few signs."""
        expected = "a name of at most 32 letters, digits, '-', '_' and '.'"
        if value is None:
            self.problems.missing(path, expected)
        elif not isinstance(value, str) or not pattern.fullmatch(value):
            self.problems.add(path, value, expected)
        else:
            return value
        return ""

    def choice(self, path: str, value: object, known: t.Sequence[str]) -> str:
        """One of the known words."""
        if value not in known:
            self.problems.add(path, value, "one of " + ", ".join(known))
            return known[0]
        return str(value)

    def flag(self, path: str, value: object) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            self.problems.add(path, value, "true or false")
            return True
        return value

    def sequence(self, path: str, value: object, what: str) -> list[t.Any]:
        """A list."""
        if not isinstance(value, list):
            self.problems.add(path, value, f"a list of {what}")
            return []
        return value

    def host(self, path: str, value: object) -> str:
        """One of the two hosts of the group."""
        expected = f"one of the two hosts of the group, {' or '.join(self.hosts)}"
        if value is None:
            self.problems.missing(path, expected)
        elif value not in self.hosts:
            self.problems.add(path, value, expected)
        else:
            return str(value)
        return ""

    def timing(self, found: t.Mapping[str, t.Any]) -> tuple[str, dict[str, int]]:
        """The profile, or the word for durations of the operator's own, and these."""
        if found.get("timers") is None:
            return self.choice("ha_cluster.profile", found.get("profile", "virtual"), PROFILES), {}
        if "profile" in found:
            self.problems.add("ha_cluster.profile", found["profile"], "nothing beside `timers`")
        given = self.mapping("ha_cluster.timers", found["timers"], TIMERS) or {}
        path = "ha_cluster.timers."
        return OWN_TIMERS, {k: self.number(path + k, given.get(k), 1, 3000) for k in TIMERS}

    # Parts -----------------------------------------------------------------------------------

    def keys(self, found: t.Mapping[str, t.Any]) -> tuple[tuple[int, ...], int]:
        """Key ids and the one that is sent with; the keys' values are looked at and forgotten."""
        raw = found.get("keys")
        if not isinstance(raw, dict) or not raw:
            self.problems.say(
                "ha_cluster.keys is missing or no dict, expected at least one key, "
                f"as in {{1: base64 of {KEY_BYTES} random bytes}}."
            )
            return (), 0
        ids: dict[int, str] = {}
        for name, value in raw.items():
            number = whole_number(name)
            if number is None or not 1 <= number <= KEY_ID_MAX:
                # Not shown: whoever mixes up ids and keys would find a key in the log.
                self.problems.say(
                    f"ha_cluster.keys has an id that is no whole number from 1 to {KEY_ID_MAX}, "
                    "expected keys by such ids."
                )
                continue
            length = key_length(value)
            if length != KEY_BYTES:
                found_text = "is not base64" if length is None else f"has {length} bytes"
                self.problems.say(
                    f"ha_cluster.keys[{number}] {found_text}, expected base64 of "
                    f"exactly {KEY_BYTES} random bytes, as from "
                    f"`head -c {KEY_BYTES} /dev/urandom | base64`."
                )
            elif value in ids.values():
                twin = next(other for other, known in ids.items() if known == value)
                self.problems.say(
                    f"ha_cluster.keys[{number}] is the same key as ha_cluster.keys[{twin}], "
                    "expected a key of its own."
                )
            ids[number] = value
        default = next(iter(ids)) if len(ids) == 1 else None
        send = found.get("send_key", default)
        expected = "the id of one of ha_cluster.keys, " + " or ".join(str(i) for i in sorted(ids))
        if send is None:
            self.problems.missing("ha_cluster.send_key", expected)
        elif whole_number(send) is None:
            self.problems.say(f"ha_cluster.send_key is no number, expected {expected}.")
        elif whole_number(send) not in ids:
            self.problems.add("ha_cluster.send_key", send, expected)
        return tuple(sorted(ids)), whole_number(send) or 0

    def interfaces(self, found: t.Mapping[str, t.Any]) -> tuple[Interface, ...]:
        """All interfaces by their logical names."""
        raw = found.get("interfaces")
        if not isinstance(raw, dict) or not raw:
            self.problems.missing(
                "ha_cluster.interfaces", "a dict of interfaces by their logical names"
            )
            return ()
        manage = self.flag("ha_cluster.manage_addresses", found.get("manage_addresses", True))
        interfaces = []
        for link, name in enumerate(sorted(raw, key=str), start=1):
            path = f"ha_cluster.interfaces.{name}"
            if not isinstance(name, str) or not LOGICAL.fullmatch(name) or name in NFT_WORDS:
                self.problems.say(
                    f"{path} is no logical name that the ruleset can use, expected a letter "
                    "followed by letters, digits, '-' or '_', and no word of the nft language."
                )
                continue
            interfaces.append(self.interface(path, name, link, raw[name], manage))
        return tuple(interface for interface in interfaces if interface is not None)

    def interface(
        self, path: str, name: str, link: int, raw: object, manage: bool
    ) -> Interface | None:
        """One interface."""
        found = self.mapping(path, raw, INTERFACE_KEYS)
        if found is None:
            return None
        sides = {}
        nodes = found.get("nodes")
        if not isinstance(nodes, dict):
            self.problems.missing(f"{path}.nodes", f"a dict with {' and '.join(self.hosts)}")
            nodes = {}
        for host in nodes:
            if host not in self.hosts:
                self.problems.say(
                    f"{path}.nodes.{host} is no host of the group, expected "
                    f"{' and '.join(self.hosts)}."
                )
        for host in self.hosts:
            if host in nodes:
                sides[host] = self.side(f"{path}.nodes.{host}", nodes[host])
            elif isinstance(found.get("nodes"), dict):
                self.problems.missing(
                    f"{path}.nodes.{host}", "the device of this interface on that node"
                )
        mtu = found.get("mtu")
        return Interface(
            name=name,
            link=link,
            role=self.choice(f"{path}.role", found.get("role", "service"), ROLES),
            shared=self.addresses(f"{path}.shared", found.get("shared", [])),
            sides=sides,
            manage_addresses=self.flag(
                f"{path}.manage_addresses", found.get("manage_addresses", manage)
            ),
            mtu=None if mtu is None else self.number(f"{path}.mtu", mtu, 576, 65535),
            neighbours=self.neighbours(f"{path}.neighbours", found.get("neighbours", [])),
            monitor=self.flag(f"{path}.monitor", found.get("monitor", False)),
        )

    def neighbours(self, path: str, raw: object) -> tuple[NextHop, ...]:
        """Addresses of equipment that both nodes must reach."""
        found = []
        for index, value in enumerate(self.sequence(path, raw, "addresses")):
            address = parsed(ipaddress.ip_address, value)
            if address is None or address.is_multicast or address.is_unspecified:
                expected = "the address of a host, as in 10.20.1.100 or fd20:1::100"
                self.problems.add(f"{path}[{index}]", value, expected)
            else:
                found.append(address)
        return tuple(found)

    def side(self, path: str, raw: object) -> Side:
        """One node's part of an interface."""
        found = self.mapping(path, raw, SIDE_KEYS) or {}
        device = found.get("device")
        if device is None:
            self.problems.missing(f"{path}.device", "the name of a network device, as in `ip link`")
        elif not isinstance(device, str) or not DEVICE.fullmatch(device):
            self.problems.add(
                f"{path}.device", device, "the name of a network device, as in `ip link`"
            )
        elif device.startswith("ppp"):
            self.problems.add(f"{path}.device", device, FIXED_ONLY)
        elif device == "lo":
            self.problems.add(f"{path}.device", device, "a device that has a wire")
        return Side(
            device=device if isinstance(device, str) else "",
            addresses=self.addresses(f"{path}.addresses", found.get("addresses", [])),
        )

    def addresses(self, path: str, raw: object) -> tuple[Address, ...]:
        """A list of addresses with their prefixes."""
        if isinstance(raw, str) and DYNAMIC.fullmatch(raw):
            self.problems.add(path, raw, FIXED_ONLY)
            return ()
        found = []
        for index, value in enumerate(self.sequence(path, raw, "addresses with prefixes")):
            address = self.address(f"{path}[{index}]", value)
            if address is not None:
                found.append(address)
        return tuple(found)

    def address(self, path: str, value: object) -> Address | None:
        """One address with its prefix."""
        if isinstance(value, str) and DYNAMIC.fullmatch(value):
            self.problems.add(path, value, FIXED_ONLY)
            return None
        expected = "an address with its prefix, as in 10.20.1.1/24 or fd20:1::1/64"
        if not isinstance(value, str) or "/" not in value:
            self.problems.add(path, value, expected)
            return None
        try:
            found = ipaddress.ip_interface(value)
        except ValueError:
            self.problems.add(path, value, expected)
            return None
        fault = unusable(found)
        if fault:
            self.problems.add(path, value, f"an address that a host can have, and this is {fault}")
            return None
        return found

    def ruleset(self, value: object) -> str:
        """The name of the operator's template."""
        if not isinstance(value, str) or not value.strip():
            self.problems.add("ha_cluster.ruleset", value, "the name of an nftables template")
            return ""
        return value

    def routes(self, raw: object) -> tuple[Route, ...]:
        """Routes of both nodes."""
        found = []
        for index, value in enumerate(self.sequence("ha_cluster.routes", raw, "routes")):
            path = f"ha_cluster.routes[{index}]"
            item = self.mapping(path, value, ROUTE_KEYS)
            if item is None:
                continue
            via = parsed(ipaddress.ip_address, item.get("via"))
            if via is None:
                self.problems.add(f"{path}.via", item.get("via"), "the address of a next hop")
                continue
            to_text = item.get("to", "default")
            if to_text == "default":
                to_text = "0.0.0.0/0" if via.version == 4 else "::/0"
            to = parsed(ipaddress.ip_network, to_text)
            if to is None or to.version != via.version:
                self.problems.add(
                    f"{path}.to",
                    to_text,
                    f"'default' or an IPv{via.version} network, like its next hop",
                )
                continue
            interface = item.get("interface")
            found.append(Route(path, to, via, None if interface is None else str(interface)))
        return tuple(found)

    def dns(self, raw: object) -> Dns:
        """Resolvers and search domains."""
        item = self.mapping("ha_cluster.dns", raw, DNS_KEYS) or {}
        servers = self.sequence("ha_cluster.dns.servers", item.get("servers", []), "addresses")
        for index, value in enumerate(servers):
            if parsed(ipaddress.ip_address, value) is None:
                self.problems.add(
                    f"ha_cluster.dns.servers[{index}]", value, "the address of a resolver"
                )
        search = self.sequence("ha_cluster.dns.search", item.get("search", []), "domains")
        return Dns(tuple(str(s) for s in servers), tuple(str(s) for s in search))
