# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate lets through, in a real kernel, made by the real service."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator

import gate_bench as gb
import gate_frames as gf
import pytest
from gate_bench import LAN, MGMT, WAN
from gate_node import TOKEN, Node, closed, running_node

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def made() -> Iterator[Node]:
    with running_node() as node:
        yield node


@pytest.fixture
def node(made: Node) -> Node:
    return closed(made)


def test_the_passive_is_reachable_at_its_own_addresses_only(node: Node) -> None:
    node.bench.share()
    try:
        assert node.ping_answered(gb.OWN[LAN])
        assert node.arp_answered(gb.OWN[LAN])
        assert node.nd_answered(gb.OWN6[LAN])
        assert not node.ping_answered(gb.SHARED[LAN])
        assert not node.arp_answered(gb.SHARED[LAN])
        assert not node.nd_answered(gb.SHARED6[LAN])
        assert not node.nd_answered("fe80::1")
        node.open()
        assert node.ping_answered(gb.SHARED[LAN])
        assert node.arp_answered(gb.SHARED[LAN])
        assert node.nd_answered(gb.SHARED6[LAN])
        assert node.nd_answered("fe80::1")
    finally:
        node.bench.unshare()


def test_the_subnet_router_anycast_address_is_answered_by_the_active_only(node: Node) -> None:
    assert not node.nd_answered("fd20:1::")
    node.open()
    assert node.nd_answered("fd20:1::")


def test_a_stale_neighbour_gets_nothing_through_a_closed_gate(node: Node) -> None:
    assert not node.forwards() and not node.forwards(WAN, LAN)
    assert not node.forwards6() and not node.forwards6(WAN, LAN)
    node.open()
    assert node.forwards() and node.forwards(WAN, LAN)
    assert node.forwards6() and node.forwards6(WAN, LAN)


def test_what_enters_at_an_ungated_device_is_not_forwarded_into_a_gated_one(node: Node) -> None:
    assert not node.forwards(MGMT, LAN)
    node.open()
    assert node.forwards(MGMT, LAN)


def test_what_enters_at_a_gated_device_does_not_leave_at_an_ungated_one(node: Node) -> None:
    assert not node.forwards(LAN, MGMT)
    node.open()
    assert node.forwards(LAN, MGMT)


def test_a_priority_tag_does_not_lead_around_the_gate(node: Node) -> None:
    assert not node.forwards(prefix=b"\xa0\0")
    node.open()
    assert node.forwards(prefix=b"\xa0\0")


def test_the_management_address_is_reachable_through_a_gated_device(node: Node) -> None:
    assert node.ping_answered(gb.OWN[MGMT], LAN)
    node.bench.address(MGMT, "10.20.9.3/24")
    try:
        gb.until(lambda: node.ping_answered("10.20.9.3", LAN), "a new management address is own")
    finally:
        node.bench.address(MGMT, "10.20.9.3/24", verb="del")
    gb.until(lambda: not node.ping_answered("10.20.9.3", LAN), "and no longer")


def test_a_static_address_that_nobody_declared_is_not_own(node: Node) -> None:
    node.bench.address(LAN, "10.20.1.99/32")
    try:
        node.bench.address(MGMT, "10.20.9.3/24")
        gb.until(lambda: node.ping_answered("10.20.9.3", LAN), "the service has looked")
        assert not node.ping_answered("10.20.1.99") and not node.arp_answered("10.20.1.99")
    finally:
        node.bench.address(MGMT, "10.20.9.3/24", verb="del")
        node.bench.address(LAN, "10.20.1.99/32", verb="del")


def test_what_a_closed_node_takes_in(node: Node) -> None:
    def to4(target: str) -> tuple[int, bytes]:
        return gf.IP, gf.ip4(gb.HOST[LAN], target, 17, gf.udp(1, 2, TOKEN))

    def to6(target: str, protocol: int = 17) -> tuple[int, bytes]:
        return gf.IP6, gf.ip6(gb.HOST6[LAN], target, protocol, b"\x80\0" + TOKEN)

    def ask(target: str) -> tuple[int, bytes]:
        if ":" not in target:
            return gf.ARP, gf.arp(1, node.wire[LAN].mac, "10.20.1.55", target)
        body = gf.neighbour(135, target, 1, node.wire[LAN].mac)
        return gf.IP6, gf.ip6("fd20:1::55", "ff02::1:ff00:1", 58, body)

    allowed = {
        "own": to4(gb.OWN[WAN]),
        "own of management": to4(gb.OWN[MGMT]),
        "directed broadcast": to4("10.20.1.255"),
        "broadcast": to4("255.255.255.255"),
        "multicast": to4("224.0.0.251"),
        "own, IPv6": to6(gb.OWN6[WAN]),
        "link-local": to6("fe80::42"),
        "multicast, IPv6": to6("ff02::1"),
        "who has an address of others": ask("10.20.1.77"),
        "who has an address of others, IPv6": ask("fd20:1::77"),
        "LLDP": (0x88CC, TOKEN + bytes(40)),
        "VLAN 5": (*to4("198.51.100.9"), b"\x81\0\0\5"),
        "service VLAN 5": (*to4("198.51.100.9"), b"\x88\xa8\0\5"),
    }
    forbidden = {
        "shared": to4(gb.SHARED[LAN]),
        "another": to4(gb.HOST[WAN]),
        "shared, IPv6": to6(gb.SHARED6[LAN]),
        "shared link-local": to6("fe80::1"),
        "another, IPv6": to6(gb.HOST6[WAN]),
        "ping to another, IPv6": to6(gb.HOST6[WAN], 58),
        "who has a shared address": ask(gb.SHARED[LAN]),
        "who has a shared address, IPv6": ask(gb.SHARED6[LAN]),
        "who has the shared link-local address": ask("fe80::1"),
        "VLAN 0": (*to4("198.51.100.9"), b"\x81\0\xa0\0"),
    }
    for text, frame in allowed.items():
        assert node.takes_in(*frame), text
    for text, frame in forbidden.items():
        assert not node.takes_in(*frame), text
        node.open()
        assert node.takes_in(*frame), text
        node.close()


def test_what_a_closed_node_may_say(node: Node) -> None:
    own, own6, us = gb.OWN[LAN], gb.OWN6[LAN], node.device[LAN].mac
    shared, shared6, them = gb.SHARED[LAN], gb.SHARED6[LAN], gb.HOST[LAN]
    datagram, advert = gf.udp(1, 2, TOKEN), struct.pack(">BBHBBH", 134, 0, 0, 64, 0, 1800)
    farewell = struct.pack(">BBHBBH", 134, 0, 0, 64, 0, 0)
    all_nodes = "ff02::1"
    allowed = {
        "ARP for itself": (gf.ARP, gf.arp(1, us, own, them)),
        "ARP probe": (gf.ARP, gf.arp(1, us, "0.0.0.0", shared)),
        "IPv4 from itself": (gf.IP, gf.ip4(own, them, 17, datagram)),
        "DHCP": (gf.IP, gf.ip4("0.0.0.0", "255.255.255.255", 17, datagram)),
        "IPv6 from itself": (gf.IP6, gf.ip6(own6, gb.HOST6[LAN], 17, datagram)),
        "link-local": (gf.IP6, gf.ip6("fe80::42", all_nodes, 17, datagram)),
        "duplicate address detection": (
            gf.IP6,
            gf.ip6("::", "ff02::1:ff00:2", 58, gf.neighbour(135, own6, 14, us)),
        ),
        "ND for itself": (gf.IP6, gf.ip6(own6, all_nodes, 58, gf.neighbour(136, own6, 2, us))),
        "router no more": (gf.IP6, gf.ip6("fe80::42", all_nodes, 58, farewell)),
        "LLDP": (0x88CC, TOKEN + bytes(40)),
    }
    forbidden = {
        "ARP as shared": (gf.ARP, gf.arp(2, us, shared, them)),
        "gratuitous ARP": (gf.ARP, gf.arp(1, us, shared, shared)),
        "IPv4 as shared": (gf.IP, gf.ip4(shared, them, 17, datagram)),
        "IPv4 of another": (gf.IP, gf.ip4("198.51.100.100", them, 17, datagram)),
        "IPv6 of another": (gf.IP6, gf.ip6(gb.HOST6[WAN], gb.HOST6[LAN], 17, datagram)),
        "ping of another": (gf.IP6, gf.ip6(gb.HOST6[WAN], gb.HOST6[LAN], 58, b"\x80\0" + TOKEN)),
        "IPv6 as shared": (gf.IP6, gf.ip6(shared6, gb.HOST6[LAN], 17, datagram)),
        "IPv6 as shared link-local": (gf.IP6, gf.ip6("fe80::1", all_nodes, 17, datagram)),
        "ND as shared": (gf.IP6, gf.ip6(own6, all_nodes, 58, gf.neighbour(136, shared6, 2, us))),
        "ND from shared": (
            gf.IP6,
            gf.ip6(shared6, all_nodes, 58, gf.neighbour(135, gb.HOST6[LAN], 1, us)),
        ),
        "router": (gf.IP6, gf.ip6("fe80::42", all_nodes, 58, advert)),
    }
    for text, frame in allowed.items():
        assert node.leaves(*frame), text
    for text, frame in forbidden.items():
        assert not node.leaves(*frame), text
        node.open()
        assert node.leaves(*frame), text
        node.close()


def test_a_program_bound_to_a_shared_address_is_not_heard(node: Node) -> None:
    node.bench.share()
    try:
        with gb.inside(node.bench.node):
            speaker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with speaker:
            speaker.bind((gb.SHARED[LAN], 0))
            for passes in (False, True):
                if passes:
                    node.open()
                node.wire[LAN].drain()
                with contextlib.suppress(OSError):  # ENOBUFS: dropped at the gate
                    speaker.sendto(TOKEN, (gb.HOST[LAN], 5001))
                node.device[LAN].send(node.wire[LAN].mac, gf.OTHER, b"the last one")
                frames = node.wire[LAN].collect(lambda frame: b"the last one" in frame)
                assert any(TOKEN in frame for frame in frames) is passes
    finally:
        node.bench.unshare()


def test_a_stranger_can_neither_flush_nor_delete_nor_change(node: Node) -> None:
    bench = node.bench
    bench.announce()
    bench.shell("nft flush ruleset")
    assert node.state().open_lease
    refused = (
        "nft delete table netdev amaranten_ha",
        "nft flush table netdev amaranten_ha",
        "nft flush chain netdev amaranten_ha arriving",
        "nft insert rule netdev amaranten_ha arriving accept",
        "nft 'add element netdev amaranten_ha lease { 0 timeout 1h }'",
        "nft 'add table netdev amaranten_ha { flags dormant; }'",
    )
    for command in refused:
        assert bench.shell(command, check=False).returncode != 0, command
    state = node.state()
    assert state.intact and state.owned, state
    node.close()
    assert not node.forwards()


def test_nft_prints_the_gate_for_people(node: Node) -> None:
    text = node.bench.shell("nft list table netdev amaranten_ha").stdout
    flat = re.sub(r"\s+", " ", text)
    key = "meta mark & 0x00000000"
    lease = "meta protocol & 0x0000 @lease accept comment"
    most = (
        f'meta protocol ip {lease} "this node forwards" '
        f'meta l4proto != ipv6-icmp meta protocol ip6 {lease} "the same for IPv6"'
    )
    based = f"priority -500; policy accept; {most}"
    for part in (
        "flags owner",
        f'type filter hook ingress device "lan0" {based} jump arriving }}',
        f'type filter hook egress device "wan0" {based} jump leaving }}',
        f"@nh,40,8 0x1 @nh,72,8 0x3-0x4 update @lease {{ {key} timeout 1s404ms }} "
        f"update @voice {{ {key} timeout 1s404ms }} accept",
        f"update @lease {{ {key} timeout 104ms }} delete @voice {{ {key} }} accept",
        "@nh,48,16 != 0x7 accept",
        "meta mark != 0x416d4841 accept",
        "arp operation request arp daddr ip @shared4 goto with_voice",
        "ip daddr @own4 accept",
        "ip daddr 224.0.0.0/3 accept",
        "meta protocol ip drop",
        "ip6 saddr fe80::/10 accept",
        'comment "VLANs gate themselves"',
    ):
        assert part in flat, part


def test_another_rulesets_changes_do_not_disturb_the_reader(node: Node) -> None:
    bench = node.bench
    bench.shell("nft add table ip stranger; nft add chain ip stranger c")
    try:
        for _round in range(6):
            bench.shell("nft add rule ip stranger c counter")
            assert node.state().intact
    finally:
        bench.shell("nft delete table ip stranger")


def test_a_device_that_is_made_again_is_gated_again(node: Node) -> None:
    bench = node.bench
    bench.unplug(WAN)
    assert node.ping_answered(gb.OWN[LAN])
    bench.plug(WAN)
    node.device[WAN], node.wire[WAN] = bench.device(WAN), bench.host(WAN)
    gb.until(lambda: node.state().intact, "the gate covers the new device")
    assert node.ping_answered(gb.OWN[WAN], WAN)
    assert not node.forwards() and not node.forwards(WAN, LAN)
    bench.address(WAN, f"{gb.SHARED[WAN]}/32")
    try:
        assert not node.arp_answered(gb.SHARED[WAN], WAN)
        bench.beat(name=WAN)
        assert node.arp_answered(gb.SHARED[WAN], WAN)
    finally:
        bench.address(WAN, f"{gb.SHARED[WAN]}/32", verb="del")
    assert node.forwards() and node.forwards(WAN, LAN)
