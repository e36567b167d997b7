# SPDX-License-Identifier: GPL-3.0-or-later
"""What opens and closes the gate: heart's frames and time, in a real kernel, and nothing else.

Profile `relaxed`: its lease of 1.4 s leaves a slow machine time to look before it ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import gate_bench as gb
import gate_frames as gf
import pytest
from gate_bench import LAN, WAN
from gate_frames import Beat
from gate_node import Node, closed, running_node

from amaranten_ha.core.beat import Flag

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

LEASE_MS = 1404
DAMPED_LEASE_MS = 5604
LINGER_MS = 104
JIFFY_MS_MAX = 10


@pytest.fixture(scope="module")
def made() -> Iterator[Node]:
    with running_node() as node:
        yield node


@pytest.fixture
def node(made: Node) -> Node:
    return closed(made)


FORGED = {
    "wrong cluster": Beat(cluster=8),
    "wrong node": Beat(node=2),
    "no mark": Beat(mark=0),
    "wrong mark": Beat(mark=1),
    "wrong magic": Beat(magic=b"AmHB"),
    "starting": Beat(role=gf.STARTING),
    "passive": Beat(role=gf.PASSIVE),
    "fault": Beat(role=gf.FAULT),
    "a role that does not exist": Beat(role=6),
    "unsure": Beat(kind=gf.UNSURE),
    "a kind that does not exist": Beat(kind=7),
    "linger without a lease": Beat(kind=gf.LINGER),
    "restarting without a voice": Beat(kind=gf.RESTARTING),
    "another EtherType": Beat(ethertype=0x88B6),
}


@pytest.mark.parametrize("text", FORGED)
def test_a_frame_that_is_no_heartbeat_of_an_active_opens_nothing(node: Node, text: str) -> None:
    node.bench.beat(FORGED[text])
    state = node.state()
    assert (state.open_lease, state.open_voice) == (False, False)


def test_a_heartbeat_from_the_wire_opens_nothing(node: Node) -> None:
    wire = gb.Wire(node.bench.hosts[LAN], "lan1", gf.MARK)
    wire.send(node.device[LAN].mac, gf.BEATS, Beat().payload())
    wire.close()
    assert node.arp_answered(gb.OWN[LAN])
    assert not node.state().open_lease


@pytest.mark.parametrize("role", [gf.ACTIVE, gf.HANDING_OVER])
@pytest.mark.parametrize("major", [1, 9])
def test_a_beat_of_an_active_opens_both(node: Node, role: int, major: int) -> None:
    node.bench.beat(Beat(role=role, major=major), WAN)
    state = node.state()
    assert state.open_lease and state.open_voice
    assert 0 < node.left_ms() <= LEASE_MS


@pytest.mark.parametrize("kind", [gf.CLOSE, gf.FAREWELL])
def test_close_and_farewell_close_at_once(node: Node, kind: int) -> None:
    node.open()
    assert node.forwards()
    node.bench.beat(Beat(kind=kind, role=gf.PASSIVE))
    state = node.state()
    assert not state.open_lease and not state.open_voice
    assert not node.forwards()


def test_linger_forwards_without_a_voice(node: Node) -> None:
    """The linger is shorter than a slow machine's turn: try until everything fitted into it."""
    node.bench.share()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            node.open()
            start = time.monotonic()
            node.bench.beat(Beat(kind=gf.LINGER, role=gf.PASSIVE))
            forwarded, state, left_ms = node.forwards(), node.state(), node.left_ms()
            answered = node.arp_answered(gb.SHARED[LAN]), node.nd_answered(gb.SHARED6[LAN])
            us = node.device[LAN].mac
            question = gf.neighbour(135, gb.HOST6[LAN], 1, us)
            spoke = (
                node.leaves(gf.ARP, gf.arp(2, us, gb.SHARED[LAN], gb.HOST[LAN])),
                node.leaves(gf.IP6, gf.ip6(gb.SHARED6[LAN], gb.HOST6[LAN], 58, question)),
            )
            if time.monotonic() - start < 0.09:
                break
        else:
            pytest.fail("this machine never did five probes within 90 ms")
        assert (forwarded, answered, spoke) == (True, (False, False), (False, False))
        assert (state.open_lease, state.open_voice) == (True, False)
        assert left_ms <= LINGER_MS
        gb.until(lambda: not node.state().open_lease, "the linger ends")
        assert not node.forwards()
    finally:
        node.bench.unshare()


def test_an_announced_restart_keeps_the_gate_open_and_a_beat_shortens_it_again(node: Node) -> None:
    node.open()
    node.bench.beat(Beat(kind=gf.RESTARTING))
    state = node.state()
    assert state.open_lease and state.open_voice
    assert node.left_ms() > LEASE_MS
    node.bench.beat()
    assert node.left_ms() <= LEASE_MS


def test_a_damped_beat_keeps_the_gate_open_for_longer(node: Node) -> None:
    node.open()
    node.bench.beat(Beat(flags=Flag.DAMPED | Flag.ELIGIBLE))
    assert LEASE_MS < node.left_ms() <= DAMPED_LEASE_MS
    node.bench.beat(Beat(flags=Flag.ELIGIBLE))
    assert node.left_ms() <= LEASE_MS
    node.bench.beat(Beat(flags=Flag.DAMPED, role=gf.PASSIVE))
    assert node.left_ms() <= LEASE_MS


def test_silence_closes_the_gate_within_the_lease(node: Node) -> None:
    """Times are taken so that a stalled test can only miss a fault, never invent one."""
    for _round in range(2):
        before_ns = time.monotonic_ns()
        node.bench.beat()
        after_ns = time.monotonic_ns()
        while True:
            sent_ns = time.monotonic_ns()
            passed = node.forwards()
            done_ns = time.monotonic_ns()
            if not passed:
                break
            assert sent_ns - after_ns <= LEASE_MS * 1_000_000, "forwards longer than the lease"
        assert done_ns - before_ns >= (LEASE_MS - JIFFY_MS_MAX) * 1_000_000, "closed too early"
        state = node.state()
        assert not state.open_lease and not state.open_voice
