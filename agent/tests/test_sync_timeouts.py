# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a copy lives: longer than its original is silent, and never for ever.

The arithmetic of renewals over an hour and more, by the shipped parts; and on real routers what the
first packet after a switch does to a copy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_netns import udp
from sync_pair import SERVER, Pair
from sync_samples import tcp_entry, udp_entry

from amaranten_ha.core import flow
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.walker import RENEWAL_NS

S_NS = 1_000_000_000
WALK_S = 10
"""Longer than any walk of a table that this product is for."""


def lives(timeout_s: int, packet_every_s: int, seconds: int, survey_s: int) -> list[int]:
    """Play a UDP flow with packets at a distance; return what its copy has left, each second."""
    mirror = Mirror(Scope(frozenset()))
    entry = flow.parse(udp_entry(timeout=timeout_s))
    mirror.note(entry, 0)
    copy_ends_s = flow.copy_timeout_s(entry)
    left = []
    for now_s in range(1, seconds):
        remaining_s = timeout_s - now_s % packet_every_s
        if now_s % survey_s == 0:
            seen = flow.parse(udp_entry(timeout=remaining_s))
            if mirror.due(seen, now_s):
                mirror.note(seen, now_s)
                copy_ends_s = now_s + flow.copy_timeout_s(seen)
        left.append(copy_ends_s - now_s - remaining_s)
    return left


def test_a_flow_that_is_alive_for_an_hour_is_there_in_its_59th_minute() -> None:
    survey_s = RENEWAL_NS // S_NS + WALK_S
    left = lives(timeout_s=120, packet_every_s=100, seconds=3600, survey_s=survey_s)
    assert len(left) == 3599
    assert all(seconds + 120 - (at + 1) % 100 > 0 for at, seconds in enumerate(left))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 900), st.integers(1, 900))
def test_the_copy_of_a_living_flow_never_ends_whatever_the_timeouts_are(
    timeout_s: int, packet_every_s: int
) -> None:
    packet_every_s = min(packet_every_s, timeout_s)
    survey_s = RENEWAL_NS // S_NS + WALK_S
    left = lives(timeout_s, packet_every_s, 3000, survey_s)
    for at, margin_s in enumerate(left, 1):
        remaining_s = timeout_s - at % packet_every_s
        assert margin_s + remaining_s > 0, f"the copy ended after {at} s"


@given(st.integers(0, 432_000))
def test_no_copy_of_an_idle_entry_lives_much_longer_than_its_original(timeout_s: int) -> None:
    for attributes in (udp_entry(timeout=timeout_s), tcp_entry()):
        entry = flow.parse(attributes)
        lives_s = flow.copy_timeout_s(entry)
        assert entry.timeout_s < lives_s <= max(180, entry.timeout_s + flow.COPY_LONGER_S)


def test_a_copy_that_is_not_renewed_in_time_would_end() -> None:
    """The control: surveys every three minutes would be too few."""
    left = lives(timeout_s=120, packet_every_s=10, seconds=3600, survey_s=185)
    assert min(left) < -100


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    for node in (made.a, made.b):
        for name in ("udp_timeout", "udp_timeout_stream"):
            node.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=20")
    made.begin()
    yield made
    made.remove()


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")
def test_after_a_switch_the_first_packet_sets_the_own_timeout_and_the_dead_stay_dead(
    pair: Pair,
) -> None:
    talk, idle, dead = (
        udp(pair.client, pair.server, SERVER, port)[0] for port in (5401, 5402, 5403)
    )
    assert all(each.exchange() for each in (talk, idle, dead))
    pair.settle()
    pair.a.run("conntrack", "-D", "-p", "udp", "--dport", "5403", check=False)
    pair.settle()
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert talk.exchange()
    left = {
        port: int(line.split()[2])
        for port in (5401, 5402, 5403)
        for line in pair.b.entries_to(port)
    }
    assert left.keys() == {5401, 5402}, "a dead flow came back"
    assert left[5401] <= 20, "a packet gives an entry the timeout of the node that forwards it"
    assert 20 < left[5402] <= 180, "an idle one ends when its copy would have"
    for each in (talk, idle, dead):
        each.close()


FASTER = """
from amaranten_ha import walker
from amaranten_ha.core import flow
flow.COPY_S_MIN, flow.COPY_LONGER_S, walker.RENEWAL_NS = 4, 2, 700_000_000
"""
"""The shortest life of a copy and the distance of the surveys, by 30: an hour in two minutes."""


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")
def test_a_flow_goes_on_that_has_outlived_the_first_life_of_its_copy(pair: Pair) -> None:
    """UDP with two packets a second, which is no event, and copies that live for six seconds.

    The control is a flow that is silent from the beginning: it is gone on both before the switch.
    """
    for node in (pair.a, pair.b):
        node.altered = FASTER
        for name in ("udp_timeout", "udp_timeout_stream"):
            node.run("sysctl", "-qw", f"net.netfilter.nf_conntrack_{name}=4")
    pair.begin()
    talk, idle = (udp(pair.client, pair.server, SERVER, port)[0] for port in (5411, 5412))
    assert talk.exchange() and idle.exchange()
    pair.settle()
    for _half_second in range(20):
        time.sleep(0.5)
        assert talk.exchange()
    assert len(pair.b.entries_to(5411)) == 1
    assert not pair.b.entries_to(5412)
    assert talk.exchange()
    pair.hand_over(pair.a, pair.b, 2)
    # From outside: for the router this is the answer of a known flow, or new and dropped.
    talk.far.send(b"in its 59th minute")
    assert talk.near.recv(64) == b"in its 59th minute"
    assert talk.exchange()
    for each in (talk, idle):
        each.close()
