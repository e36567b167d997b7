# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate in a real kernel, made by the real service: what opens it, what it lets through.

Profile `relaxed`: its lease of 1.4 s leaves a slow machine time to look before it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import gate_bench as gb
import pytest
from gate_bench import LAN, MGMT, WAN, Beat, Bench

from amaranten_ha.io.gate import GateReader, GateState

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

LEASE_MS = 1404
LINGER_MS = 104
SLACK_MS = 250
TOKEN = b"amaranten-probe!"


class Node:
    """The bench with the gate's service running, and the probes that tell what passes."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.service = bench.service().ready()
        self.reader = GateReader(bench.settings)
        self.wire = {name: bench.host(name) for name in gb.HOST}
        self.device = {name: bench.device(name) for name in gb.HOST}

    def state(self) -> GateState:
        with gb.inside(self.bench.node):
            return self.reader.check()

    def left_ms(self) -> int:
        with gb.inside(self.bench.node):
            return self.reader.lease_left_ms()

    def open(self) -> None:
        self.bench.beat()
        state = self.state()
        assert state.open_lease and state.open_voice, state

    def close(self) -> None:
        self.bench.beat(Beat(kind=gb.CLOSE))
        state = self.state()
        assert not state.open_lease and not state.open_voice, state

    def asked(self, name: str, kind: int, payload: bytes) -> list[bytes]:
        """Send a frame to the node; return what came back before the node answered for itself."""
        wire = self.wire[name]
        wire.drain()
        wire.send(self.device[name].mac, kind, payload)
        wire.send(b"\xff" * 6, gb.ARP, gb.arp(1, wire.mac, gb.HOST[name], gb.OWN[name]))
        return wire.collect(gb.is_arp(2, gb.OWN[name]))

    def arp_answered(self, address: str, name: str = LAN) -> bool:
        question = gb.arp(1, self.wire[name].mac, gb.HOST[name], address)
        return any(map(gb.is_arp(2, address), self.asked(name, gb.ARP, question)))

    def nd_answered(self, address: str, name: str = LAN) -> bool:
        body = gb.neighbour(135, address, 1, self.wire[name].mac)
        packet = gb.ip6(gb.HOST6[name], address, 58, body)
        answer = gb.packed(address)
        return any(
            frame[12:14] == b"\x86\xdd" and frame[54] == 136 and frame[62:78] == answer
            for frame in self.asked(name, gb.IP6, packet)
        )

    def ping_answered(self, address: str, name: str = LAN) -> bool:
        packet = gb.echo(gb.HOST[name], address, TOKEN)
        return any(
            frame[26:30] == gb.packed(address) and frame[34] == 0 and TOKEN in frame
            for frame in self.asked(name, gb.IP, packet)
        )

    def forwards(self, source: str = LAN, target: str = WAN, prefix: bytes = b"") -> bool:
        """A host that believes this node to be its router sends a datagram to another network."""
        return self._passes(source, target, gb.IP, gb.HOST, gb.ip4, prefix)

    def forwards6(self, source: str = LAN, target: str = WAN) -> bool:
        return self._passes(source, target, gb.IP6, gb.HOST6, gb.ip6, b"")

    def _passes(
        self,
        source: str,
        target: str,
        kind: int,
        hosts: dict[str, str],
        packet: Callable[[str, str, int, bytes], bytes],
        prefix: bytes,
    ) -> bool:
        self.wire[target].drain()
        payload = packet(hosts[source], hosts[target], 17, gb.udp(5000, 5001, TOKEN))
        if prefix:
            self.asked(source, 0x8100, prefix + struct.pack(">H", kind) + payload)
        else:
            self.asked(source, kind, payload)
        return any(TOKEN in frame for frame in self.wire[target].drain())

    def leaves(self, kind: int, payload: bytes, name: str = LAN) -> bool:
        """The node itself sends a frame; is it seen on the wire?"""
        wire = self.wire[name]
        wire.drain()
        self.device[name].send(wire.mac, kind, payload)
        self.device[name].send(wire.mac, gb.OTHER, b"the last one")
        frames = wire.collect(lambda frame: b"the last one" in frame)
        head = struct.pack(">H", kind) + payload[:30]
        return any(head in frame for frame in frames)


@pytest.fixture(scope="module", autouse=True)
def one_processor() -> Iterator[None]:
    """Frames are worked on in the order in which one processor gets them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def made() -> Iterator[Node]:
    bench = Bench()
    try:
        bench.up()
        yield Node(bench)
    finally:
        bench.down()


@pytest.fixture
def node(made: Node) -> Node:
    """The node, closed, without shared addresses, with its gate as it should be."""
    made.bench.beat(Beat(kind=gb.CLOSE))
    gb.until(lambda: made.state().intact, "the gate is whole again")
    return made


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


def test_what_a_closed_node_may_say(node: Node) -> None:
    own, own6, us = gb.OWN[LAN], gb.OWN6[LAN], node.device[LAN].mac
    shared, shared6, them = gb.SHARED[LAN], gb.SHARED6[LAN], gb.HOST[LAN]
    datagram, advert = gb.udp(1, 2, TOKEN), struct.pack(">BBHBBH", 134, 0, 0, 64, 0, 1800)
    farewell = struct.pack(">BBHBBH", 134, 0, 0, 64, 0, 0)
    all_nodes = "ff02::1"
    allowed = {
        "ARP for itself": (gb.ARP, gb.arp(1, us, own, them)),
        "ARP probe": (gb.ARP, gb.arp(1, us, "0.0.0.0", shared)),
        "IPv4 from itself": (gb.IP, gb.ip4(own, them, 17, datagram)),
        "DHCP": (gb.IP, gb.ip4("0.0.0.0", "255.255.255.255", 17, datagram)),
        "IPv6 from itself": (gb.IP6, gb.ip6(own6, gb.HOST6[LAN], 17, datagram)),
        "link-local": (gb.IP6, gb.ip6("fe80::42", all_nodes, 17, datagram)),
        "duplicate address detection": (
            gb.IP6,
            gb.ip6("::", "ff02::1:ff00:2", 58, gb.neighbour(135, own6, 14, us)),
        ),
        "ND for itself": (gb.IP6, gb.ip6(own6, all_nodes, 58, gb.neighbour(136, own6, 2, us))),
        "router no more": (gb.IP6, gb.ip6("fe80::42", all_nodes, 58, farewell)),
        "LLDP": (0x88CC, TOKEN + bytes(40)),
    }
    forbidden = {
        "ARP as shared": (gb.ARP, gb.arp(2, us, shared, them)),
        "gratuitous ARP": (gb.ARP, gb.arp(1, us, shared, shared)),
        "IPv4 as shared": (gb.IP, gb.ip4(shared, them, 17, datagram)),
        "IPv4 of another": (gb.IP, gb.ip4("198.51.100.100", them, 17, datagram)),
        "IPv6 as shared": (gb.IP6, gb.ip6(shared6, gb.HOST6[LAN], 17, datagram)),
        "IPv6 as shared link-local": (gb.IP6, gb.ip6("fe80::1", all_nodes, 17, datagram)),
        "ND as shared": (gb.IP6, gb.ip6(own6, all_nodes, 58, gb.neighbour(136, shared6, 2, us))),
        "ND from shared": (
            gb.IP6,
            gb.ip6(shared6, all_nodes, 58, gb.neighbour(135, gb.HOST6[LAN], 1, us)),
        ),
        "router": (gb.IP6, gb.ip6("fe80::42", all_nodes, 58, advert)),
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
                node.device[LAN].send(node.wire[LAN].mac, gb.OTHER, b"the last one")
                frames = node.wire[LAN].collect(lambda frame: b"the last one" in frame)
                assert any(TOKEN in frame for frame in frames) is passes
    finally:
        node.bench.unshare()


FORGED = {
    "wrong cluster": Beat(cluster=8),
    "wrong node": Beat(node=2),
    "no mark": Beat(mark=0),
    "wrong mark": Beat(mark=1),
    "wrong magic": Beat(magic=b"AmHB"),
    "starting": Beat(role=gb.STARTING),
    "passive": Beat(role=gb.PASSIVE),
    "fault": Beat(role=gb.FAULT),
    "a role that does not exist": Beat(role=6),
    "unsure": Beat(kind=gb.UNSURE),
    "a kind that does not exist": Beat(kind=7),
    "linger without a lease": Beat(kind=gb.LINGER),
    "restarting without a voice": Beat(kind=gb.RESTARTING),
    "another EtherType": Beat(ethertype=0x88B6),
}


@pytest.mark.parametrize("text", FORGED)
def test_a_frame_that_is_no_heartbeat_of_an_active_opens_nothing(node: Node, text: str) -> None:
    node.bench.beat(FORGED[text])
    state = node.state()
    assert (state.open_lease, state.open_voice) == (False, False)


def test_a_heartbeat_from_the_wire_opens_nothing(node: Node) -> None:
    wire = gb.Wire(node.bench.hosts[LAN], "lan1", gb.MARK)
    wire.send(node.device[LAN].mac, gb.BEATS, Beat().payload())
    wire.close()
    assert node.arp_answered(gb.OWN[LAN])
    assert not node.state().open_lease


@pytest.mark.parametrize("role", [gb.ACTIVE, gb.HANDING_OVER])
@pytest.mark.parametrize("major", [1, 9])
def test_a_beat_of_an_active_opens_both(node: Node, role: int, major: int) -> None:
    node.bench.beat(Beat(role=role, major=major), WAN)
    state = node.state()
    assert state.open_lease and state.open_voice
    assert LEASE_MS - SLACK_MS <= node.left_ms() <= LEASE_MS


@pytest.mark.parametrize("kind", [gb.CLOSE, gb.FAREWELL])
def test_close_and_farewell_close_at_once(node: Node, kind: int) -> None:
    node.open()
    assert node.forwards()
    node.bench.beat(Beat(kind=kind, role=gb.PASSIVE))
    state = node.state()
    assert not state.open_lease and not state.open_voice
    assert not node.forwards()


def test_linger_forwards_without_a_voice(node: Node) -> None:
    """The linger is shorter than a slow machine's turn: try until everything fitted into it."""
    node.bench.share()
    try:
        for _packet in range(30):
            node.open()
            start = time.monotonic()
            node.bench.beat(Beat(kind=gb.LINGER, role=gb.PASSIVE))
            forwarded, state = node.forwards(), node.state()
            answered = node.arp_answered(gb.SHARED[LAN]), node.nd_answered(gb.SHARED6[LAN])
            us = node.device[LAN].mac
            spoke = node.leaves(gb.ARP, gb.arp(2, us, gb.SHARED[LAN], gb.HOST[LAN]))
            if time.monotonic() - start < 0.09:
                break
        else:
            pytest.fail("this machine never did four probes within 90 ms")
        assert (forwarded, answered, spoke) == (True, (False, False), False)
        assert (state.open_lease, state.open_voice) == (True, False)
        gb.until(lambda: not node.state().open_lease, "the linger ends")
        assert time.monotonic() - start < LEASE_MS / 1000
        assert not node.forwards()
    finally:
        node.bench.unshare()


def test_an_announced_restart_keeps_the_gate_open_and_a_beat_shortens_it_again(node: Node) -> None:
    node.open()
    node.bench.beat(Beat(kind=gb.RESTARTING))
    state = node.state()
    assert state.open_lease and state.open_voice
    assert node.left_ms() > LEASE_MS
    node.bench.beat()
    assert node.left_ms() <= LEASE_MS


def test_silence_closes_the_gate_within_the_lease(node: Node) -> None:
    node.open()
    assert node.forwards()
    node.bench.beat()
    start = time.monotonic()
    gb.until(lambda: not node.forwards(), "the lease ends")
    assert LEASE_MS - 20 <= (time.monotonic() - start) * 1000 <= LEASE_MS + SLACK_MS
    state = node.state()
    assert not state.open_lease and not state.open_voice
    node.open()
    assert node.forwards()


def test_a_stranger_can_neither_flush_nor_delete_nor_change(node: Node) -> None:
    node.open()
    bench = node.bench
    bench.shell("nft flush ruleset")
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
    assert state.intact and state.owned and state.open_lease, state
    assert node.forwards()
    node.close()
    assert not node.forwards()


def test_nft_prints_the_gate_for_people(node: Node) -> None:
    text = node.bench.shell("nft list table netdev amaranten_ha").stdout
    flat = re.sub(r"\s+", " ", text)
    key = "meta mark & 0x00000000"
    for part in (
        "flags owner",
        'type filter hook ingress device "lan0" priority -500; policy accept; jump arriving }',
        'type filter hook egress device "wan0" priority -500; policy accept; jump leaving }',
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
