# SPDX-License-Identifier: GPL-3.0-or-later
"""Two routers between a client and a server, and a way to swap the router in use.

Both routers carry the shared addresses and the same ruleset; the hosts have a cable to each, and
their default routes say which one is used. Replication is the agent's own code without its
service: dump here, record, create there.
"""

from __future__ import annotations

import re

from amaranten_ha.core import flow, rewrite
from amaranten_ha.core.scope import Scope
from amaranten_ha.io.netlink import CREATE_EXCLUSIVE, CT_NEW, Dump, Request, Table

from .net import Net

CLIENT, CLIENT6 = "10.71.1.100", "fd71:1::100"
SERVER, SERVER6 = "192.0.2.100", "2001:db8:71::100"
SHARED, SHARED6 = "192.0.2.1", "2001:db8:71::1"
GATEWAY, GATEWAY6 = "10.71.1.1", "fd71:1::1"
HOST_MAC = "02:00:00:0c:00:01"
MACS = {"a": "02:00:00:0a:00:0", "b": "02:00:00:0b:00:0"}

NAT = f"""
table inet nat {{
    chain before {{
        type nat hook prerouting priority dstnat;
        iifname wan0 ip daddr {SHARED} tcp dport 8080 dnat ip to {CLIENT}:80
        iifname wan0 ip6 daddr {SHARED6} tcp dport 8080 dnat ip6 to [{CLIENT6}]:80
    }}
    chain after {{
        type nat hook postrouting priority srcnat;
        iifname lan0 oifname wan0 ip saddr {CLIENT} snat ip to {SHARED}
        iifname lan0 oifname wan0 ip6 saddr {CLIENT6} snat ip6 to {SHARED6}
    }}
}}
"""

FILTER = """
table inet fw {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state invalid counter drop
        meta l4proto tcp ct state new tcp flags & (fin|syn|rst|ack) != syn counter drop
        ct state established,related accept
        iifname lan0 ct state new accept
        ct status dnat accept
    }
}
"""


class Routers:
    """Router ``a`` is used first; ``use("b")`` pulls the hosts over."""

    def __init__(self, rules: str = NAT + FILTER) -> None:
        self.client, self.server = Net.new(), Net.new()
        self.a, self.b = Net.new(), Net.new()
        for net in (self.client, self.server, self.a, self.b):
            net.set("net/ipv6/conf/default/accept_dad", 0)
            net.set("net/ipv6/conf/default/router_solicitations", 0)
        self._at_client = [f"addr add {CLIENT}/32 dev lo", f"addr add {CLIENT6}/128 dev lo nodad"]
        self._at_server = [f"addr add {SERVER}/32 dev lo", f"addr add {SERVER6}/128 dev lo nodad"]
        for name, router in (("a", self.a), ("b", self.b)):
            self._router(name, router, rules)
        self.use("a")

    def _router(self, name: str, router: Net, rules: str) -> None:
        """Cables to both hosts, addresses, rules; nobody ever has to ask who has an address."""
        near, far = f"{MACS[name]}1", f"{MACS[name]}2"
        peer = f"peer name to-{name} address"
        router.ip(
            f"link add lan0 address {near} type veth {peer} {HOST_MAC} netns {self.client.path}",
            f"link add wan0 address {far} type veth {peer} {HOST_MAC} netns {self.server.path}",
            "link set lan0 up",
            "link set wan0 up",
            f"addr add {GATEWAY}/24 dev lan0",
            f"addr add {GATEWAY6}/64 dev lan0 nodad",
            f"addr add {SHARED}/24 dev wan0",
            f"addr add {SHARED6}/64 dev wan0 nodad",
            *(f"neigh add {each} lladdr {HOST_MAC} dev lan0" for each in (CLIENT, CLIENT6)),
            *(f"neigh add {each} lladdr {HOST_MAC} dev wan0" for each in (SERVER, SERVER6)),
        )
        for later, mac, gateways in (
            (self._at_client, near, (GATEWAY, GATEWAY6)),
            (self._at_server, far, (SHARED, SHARED6)),
        ):
            later.append(f"link set to-{name} up")
            later += [f"neigh add {each} lladdr {mac} dev to-{name}" for each in gateways]
        router.set("net/ipv4/ip_forward", 1)
        router.set("net/ipv6/conf/all/forwarding", 1)
        router.nft(rules)  # connection tracking begins with the first rule that asks for it
        router.set("net/netfilter/nf_conntrack_tcp_loose", 0)
        router.set("net/netfilter/nf_conntrack_events", 1)

    def use(self, name: str) -> None:
        """From now on both hosts send everything to this router."""
        for host, later, own, own6, gateway, gateway6 in (
            (self.client, self._at_client, CLIENT, CLIENT6, GATEWAY, GATEWAY6),
            (self.server, self._at_server, SERVER, SERVER6, SHARED, SHARED6),
        ):
            host.ip(
                *later,
                f"route replace default via {gateway} dev to-{name} onlink src {own}",
                f"route replace default via {gateway6} dev to-{name} onlink src {own6}",
            )
            later.clear()

    def refused(self, router: Net) -> int:
        """Packets that the router dropped as invalid, or as new without being a SYN."""
        shown = router.run("nft", "list", "chain", "inet", "fw", "forward")
        return sum(int(each) for each in re.findall(r"counter packets (\d+)", shown))


def entries(router: Net) -> list[flow.Entry]:
    """All survivable entries of a router, by the agent's dump."""
    with router:
        dump = Dump()
    found = []
    while not dump.done:
        found += [flow.parse(each) for each in dump.read()]
    everybody = Scope(frozenset())
    return [each for each in found if everybody.survives(each)]


def create(router: Net, told: list[tuple[int, bytes]]) -> dict[int, int]:
    """Create entries (family, attributes); the kernel's refusals by index."""
    with router:
        table = Table()
    errors = table.change(
        [Request(CT_NEW, CREATE_EXCLUSIVE, family, attributes) for family, attributes in told]
    )
    table.close()
    return errors


def replicate(source: Net, target: Net) -> list[flow.Entry]:
    """What the two sync services do, without the wire: every entry travels as a record."""
    travelled = [flow.parse(each.record) for each in entries(source)]
    refused = create(target, [(each.family, rewrite.creation(each)) for each in travelled])
    if refused:
        raise AssertionError(f"the kernel refused: {refused}")
    return travelled
