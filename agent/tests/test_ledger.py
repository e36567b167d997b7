# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger against a naive model: whatever happens, the peer ends with what there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sync_samples import tcp_entry

from amaranten_ha.core import flow
from amaranten_ha.core.ledger import Ledger, Mark, MarkKind, Op

KEYS = [flow.parse(tcp_entry(sport=sport)).key for sport in range(1000, 1005)]


def at(number: int, state: int) -> flow.Entry:
    return flow.parse(tcp_entry(sport=1000 + number, state=state))


def told(ledger: Ledger, peer: dict[bytes, int]) -> None:
    """Apply everything that is pending, as strictly as a kernel does."""
    while (taken := ledger.take(1)) is not None:
        if isinstance(taken, Mark):
            continue
        for op, payload in taken:
            if op is Op.DELETE:
                peer.pop(payload, None)
                continue
            entry = flow.parse(payload)
            assert (op is Op.REPLACE) <= (entry.key in peer), "a replacement of nothing"
            peer[entry.key] = entry.state


steps = st.lists(
    st.one_of(
        st.tuples(st.just("up"), st.integers(0, 4), st.integers(3, 8)),
        st.tuples(st.just("gone"), st.integers(0, 4), st.just(0)),
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
    assert ledger.take(10_000) is None


def test_a_successor_of_the_same_tuple_is_a_replacement() -> None:
    ledger = Ledger()
    ledger.delete(KEYS[0], 1)
    ledger.upsert(at(0, 3), 2, known=False)
    assert ledger.take(10_000) == [(Op.REPLACE, at(0, 3).record)]


def test_a_mark_waits_for_everything_before_it() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.upsert(at(number, 3), 1, known=False)
    ledger.mark(MarkKind.BARRIER, 9, 1)
    ledger.upsert(at(3, 3), 2, known=False)
    first = ledger.take(100_000)
    assert isinstance(first, list) and len(first) == 3
    assert ledger.take(100_000) == Mark(MarkKind.BARRIER, 9)
    last = ledger.take(100_000)
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
    ledger.take(1)
    assert ledger.oldest_ns == 11
    ledger.take(10_000)
    assert ledger.oldest_ns == 20
    assert ledger.take(10_000) == Mark(MarkKind.BARRIER, 1)
    assert ledger.oldest_ns is None
