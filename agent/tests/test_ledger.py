# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger against a naive model: whatever happens, the peer ends with what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sync_samples import tcp_entry, udp_entry

from amaranten_ha.core import flow
from amaranten_ha.core.ledger import (
    CROWD,
    HOLD_LOADED_NS,
    HOLD_NS,
    Ledger,
    Mark,
    MarkKind,
    Op,
)

LATER = 10**18
KEYS = [flow.parse(tcp_entry(sport=sport)).key for sport in range(1000, 1005)]


def at(number: int, state: int) -> flow.Entry:
    return flow.parse(tcp_entry(sport=1000 + number, state=state))


def told(ledger: Ledger, peer: dict[bytes, int]) -> None:
    """Apply everything that is pending, as strictly as a kernel does."""
    while (taken := ledger.take(1, LATER)) is not None:
        if isinstance(taken, Mark):
            continue
        for op, payload in taken:
            if op is Op.DELETE:
                peer.pop(payload, None)
                continue
            entry = flow.parse(payload)
            assert (op is Op.REPLACE) <= (entry.key in peer), "a replacement of nothing"
            if op is Op.LAST:
                assert entry.state == 7
                peer.pop(entry.key, None)
            else:
                peer[entry.key] = entry.state


steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), st.integers(0, 4), st.integers(3, 8)),
        st.tuples(st.just("gone"), st.integers(0, 4), st.just(0)),
        st.tuples(st.just("closed"), st.integers(0, 4), st.just(7)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
        st.tuples(st.just("mark"), st.integers(0, 4), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_the_peer_ends_with_what_there_is(script: list[tuple[str, int, int]]) -> None:
    ledger, here, peer = Ledger(), dict[bytes, int](), dict[bytes, int]()
    for step, number, state in script:
        if step == "up":
            entry = at(number, state)
            ledger.upsert(entry, 0, known=entry.key in here)
            here[entry.key] = state
        elif step == "gone" and KEYS[number] in here:
            ledger.delete(KEYS[number], 0)
            del here[KEYS[number]]
        elif step == "closed":
            ledger.last(at(number, state), 0, known=here.pop(KEYS[number], None) is not None)
        elif step == "take":
            told(ledger, peer)
        elif step == "mark":
            ledger.mark(MarkKind.BARRIER, number, 0)
        pending = len(ledger)
        assert pending <= len(KEYS) + 1
        assert len(here) - ledger.births + ledger.deaths == len(peer)
    told(ledger, peer)
    assert peer == here
    assert (len(ledger), ledger.oldest_ns, ledger.births, ledger.deaths) == (0, None, 0, 0)


def test_born_and_dead_in_the_window_is_never_told() -> None:
    ledger = Ledger()
    ledger.upsert(at(0, 3), 5, known=False)
    ledger.upsert(at(0, 8), 6, known=True)
    ledger.delete(KEYS[0], 7)
    assert ledger.take(10_000, LATER) is None


def test_born_and_closed_in_the_window_is_told_once() -> None:
    """What both sides have closed may still have something to send again."""
    ledger = Ledger()
    ledger.upsert(at(0, 3), 5, known=False)
    ledger.last(at(0, 7), 6, known=True)
    assert (ledger.births, ledger.deaths) == (0, 0)
    assert ledger.take(10_000, LATER) == [(Op.LAST, at(0, 7).record)]


def test_a_successor_of_the_same_tuple_is_a_replacement() -> None:
    ledger = Ledger()
    ledger.delete(KEYS[0], 1)
    ledger.upsert(at(0, 3), 2, known=False)
    assert ledger.take(10_000, LATER) == [(Op.REPLACE, at(0, 3).record)]


def test_a_mark_waits_for_everything_before_it() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.upsert(at(number, 3), 1, known=False)
    ledger.mark(MarkKind.BARRIER, 9, 1)
    ledger.upsert(at(3, 3), 2, known=False)
    first = ledger.take(100_000, LATER)
    assert isinstance(first, list) and len(first) == 3
    assert ledger.take(100_000, LATER) == Mark(MarkKind.BARRIER, 9)
    last = ledger.take(100_000, LATER)
    assert isinstance(last, list) and len(last) == 1


def test_beyond_its_bound_it_says_so_and_does_not_grow() -> None:
    ledger = Ledger(pending_max=4)
    for number in range(1000):
        ledger.upsert(flow.parse(tcp_entry(sport=number + 1)), 1, known=False)
        assert len(ledger) <= 4
    assert ledger.overflowed
    ledger.clear()
    assert not ledger.overflowed


def test_the_oldest_is_what_is_still_pending() -> None:
    ledger = Ledger()
    assert ledger.oldest_ns is None
    for number in range(3):
        ledger.upsert(at(number, 3), 10 + number, known=False)
    ledger.mark(MarkKind.BARRIER, 1, 20)
    ledger.upsert(at(0, 4), 30, known=True)
    assert ledger.oldest_ns == 10
    ledger.take(1, LATER)
    assert ledger.oldest_ns == 11
    ledger.take(10_000, LATER)
    assert ledger.oldest_ns == 20
    assert ledger.take(10_000, LATER) == Mark(MarkKind.BARRIER, 1)
    assert ledger.oldest_ns is None


def test_what_is_established_goes_first_and_what_ends_may_wait() -> None:
    ledger = Ledger()
    ledger.upsert(at(0, 6), 0, known=True)
    ledger.delete(KEYS[1], 0)
    ledger.upsert(at(2, 3), 1, known=False)
    taken = ledger.take(100_000, -1)
    assert taken == [(Op.UPSERT, at(2, 3).record)]
    assert ledger.take(100_000, 0) == [(Op.UPSERT, at(0, 6).record), (Op.DELETE, KEYS[1])]


def test_a_connection_that_is_answered_meanwhile_waits_no_longer() -> None:
    ledger = Ledger()
    unanswered = flow.parse(udp_entry(7, status=0x188))
    answered = flow.parse(udp_entry(7, status=0x18A))
    ledger.upsert(unanswered, 0, known=False)
    assert ledger.take(100_000, -1) is None
    ledger.upsert(answered, 1, known=True)
    assert ledger.take(100_000, -1) == [(Op.UPSERT, answered.record)]


def test_patience_grows_with_the_crowd_and_is_bounded() -> None:
    ledger = Ledger()
    ledger.delete(KEYS[0], 0)
    assert HOLD_NS <= (ledger.due_ns or 0) < 2 * HOLD_NS
    for sport in range(1, 3 * CROWD):
        ledger.delete(flow.parse(tcp_entry(sport=sport)).key, 0)
    assert ledger.due_ns == HOLD_LOADED_NS
    assert ledger.take_due(10_000, HOLD_LOADED_NS - 1) is None
    ledger.upsert(flow.parse(tcp_entry(sport=9999)), HOLD_NS, known=False)
    assert ledger.due_ns == 2 * HOLD_NS, "an established connection waits for nobody"
    assert len(ledger.take_due(10_000, 2 * HOLD_NS) or []) == 1
    assert ledger.take_due(10_000, HOLD_LOADED_NS) is not None


def test_what_is_patient_goes_together() -> None:
    """One that is due takes along what has waited for half as long; not one each turn."""
    ledger = Ledger()
    gap_ns = HOLD_LOADED_NS // (2 * CROWD)
    for number in range(2 * CROWD):
        ledger.delete(flow.parse(tcp_entry(sport=number + 1)).key, number * gap_ns)
    taken = ledger.take_due(1 << 20, HOLD_LOADED_NS)
    assert isinstance(taken, list) and len(taken) == CROWD + 1
    assert (ledger.due_ns or 0) > HOLD_LOADED_NS + HOLD_LOADED_NS // 3


def test_what_has_ended_meanwhile_may_wait_unless_a_mark_waits_for_it() -> None:
    for marked in (False, True):
        ledger = Ledger()
        for number in range(2):
            ledger.upsert(at(number, 3), 0, known=True)
        if marked:
            ledger.mark(MarkKind.BARRIER, 1, 0)
        ledger.delete(KEYS[0], 1)
        ledger.last(at(1, 7), 1, known=True)
        taken = ledger.take(100_000, -1)
        assert taken == ([(Op.DELETE, KEYS[0]), (Op.LAST, at(1, 7).record)] if marked else None)


def test_a_mark_waits_for_the_patient_too() -> None:
    ledger = Ledger()
    ledger.delete(KEYS[0], 5)
    ledger.mark(MarkKind.BARRIER, 1, 6)
    ledger.delete(KEYS[1], 7)
    assert ledger.take(100_000, 0) == [(Op.DELETE, KEYS[0])]
    assert ledger.take(100_000, 0) == Mark(MarkKind.BARRIER, 1)
    assert ledger.take(100_000, 0) is None
    assert ledger.take(100_000, 7) == [(Op.DELETE, KEYS[1])]
