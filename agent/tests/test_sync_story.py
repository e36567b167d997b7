# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of replication over two kernels that are played: they overflow, repeat, lag, refuse.

Both sides are the shipped ones; the test carries messages, cuts the line, and is both kernels. When
it is quiet again the tables are equal, or what is missing is counted with its reason.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_played import QUEUE_MAX, Kernel, Pair
from sync_samples import tcp_entry

from amaranten_ha.core import flow, standing, stream, tlv
from amaranten_ha.core.beat import Role
from amaranten_ha.core.source import Survey

FTP = tlv.nest(flow.HELP, tlv.attribute(1, b"ftp\0"))


def key(sport: int) -> bytes:
    return flow.parse(tcp_entry(sport)).key


script = st.lists(
    st.tuples(
        st.sampled_from(
            ["up", "up", "up", "gone", "flood", "repeat", "turn", "rest", "rest", "hold", "cut"]
            + ["restart active", "restart passive", "passive loses", "passive loses silently"]
            + ["passive is spoilt", "strange entry", "full", "no helper", "ask anew"]
            + ["reuse", "reuse", "half-open", "swap", "other translation", "helped"]
        ),
        st.integers(1, 12),
        st.integers(3, 8),
    ),
    min_size=4,
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(script)
def test_whatever_happens_the_tables_are_equal_when_it_is_quiet(
    steps: list[tuple[str, int, int]],
) -> None:
    pair = Pair()
    for step, sport, state in steps:
        perform(pair, step, sport, state)
    pair.passive.kernel.capacity = 1 << 20
    pair.quiet(35)
    assert pair.passive.kernel.survivable == pair.active.kernel.survivable
    audit = pair.passive.copy.audit
    assert (audit.missing, audit.stale, audit.surplus) == (0, 0, 0)
    assert pair.passive.copy.share_permille == 1000
    assert pair.active.source.told == len(pair.active.kernel.survivable)
    assert pair.active.source.lag_entries == pair.active.source.lag_ms(pair.now_ns) == 0


def perform(pair: Pair, step: str, sport: int, state: int) -> None:
    """One event of a story."""
    active, passive = pair.active.kernel, pair.passive.kernel
    if step == "turn":
        pair.turn()
    elif step == "rest":
        pair.quiet(1)
    elif step == "hold":
        pair.held = not pair.held
    elif step == "cut":
        pair.cut()
    elif step.startswith("restart"):
        (pair.active if step.endswith("active") else pair.passive).restart()
        pair.cut()
    elif step == "ask anew":
        pair.passive.copy.start()
    elif step == "swap":
        pair.swap()
    elif step in ("up", "gone", "flood", "repeat", "reuse", "half-open", "helped"):
        happens(active, step, sport, state)
    else:
        goes_wrong(passive, step, sport, state)


def happens(active: Kernel, step: str, sport: int, state: int) -> None:
    """Traffic on the active."""
    if step == "up":
        active.becomes(tcp_entry(sport, state))
    elif step == "reuse":
        active.becomes(reused(sport, state))
    elif step == "helped":
        active.becomes(tcp_entry(sport, state) + FTP)
    elif step == "half-open":
        active.ends(key(sport))
        active.becomes(tcp_entry(sport, 1, port=port(state)))
    elif step == "gone":
        active.ends(key(sport))
    elif step == "flood":
        for more in range(QUEUE_MAX + 4):
            active.becomes(tcp_entry(sport + more, state))
            active.ends(key(sport + more + 1))
    else:
        active.events.extend(list(active.events)[-2:])


def port(number: int) -> int | None:
    """Return a port of translation, of few: what ends gives its own away. None: that of `up`."""
    return 300 + number if number < 8 else None


def reused(sport: int, number: int) -> bytes:
    """Return a young connection from a port that may have been used before, translated anew."""
    return tcp_entry(sport, port=port(number), status=0x18A)


def goes_wrong(passive: Kernel, step: str, sport: int, state: int) -> None:
    """What nobody wishes the passive."""
    held = sorted(passive.table)
    victim = held[sport % len(held)] if held else b""
    if step.startswith("passive loses"):
        passive.ends(victim, silently=step.endswith("silently"))
    elif step == "passive is spoilt":
        if victim:
            said = flow.parse(passive.table[victim])
            port = int.from_bytes(said.key[40:42], "big")
            passive.table[victim] = tcp_entry(port, 11 - said.state)
    elif step == "other translation":
        if victim:
            passive.ends(victim, silently=True)
            passive.becomes(reused(int.from_bytes(victim[40:42], "big"), state))
            passive.events.clear()
    elif step == "strange entry":
        passive.table[key(500 + sport)] = tcp_entry(500 + sport, state)
    elif step == "full":
        passive.capacity = sport
    else:
        passive.no_helper = True


def test_a_full_table_on_the_passive_is_said_and_heals_when_there_is_room_again() -> None:
    pair = Pair()
    pair.passive.kernel.capacity = 50
    for sport in range(1, 101):
        pair.active.kernel.becomes(tcp_entry(sport))
        pair.turn()
    pair.quiet(5)
    copy = pair.passive.copy
    assert len(pair.passive.kernel.table) == 50
    assert (copy.audit.missing, copy.share_permille) == (50, 500)
    state, reason = standing.standing(
        Role.PASSIVE, stream.State(Role.ACTIVE), copy, "fw-a", standing.Troubles("", "")
    )
    assert state == "synced" and "table full" in reason and "50 missing on the passive" in reason
    pair.passive.kernel.capacity = 1000
    pair.quiet(15)
    assert len(pair.passive.kernel.table) == 100
    assert (copy.audit.missing, copy.share_permille) == (0, 1000)


def test_what_was_told_before_a_bulk_is_not_waited_for_after_it() -> None:
    pair = Pair()
    pair.quiet(1)
    pair.held = True
    pair.active.kernel.becomes(tcp_entry(1))
    pair.turn()
    pair.turn()
    assert pair.active.source.lag_entries == 1
    pair.active.kernel.ends(key(1))
    pair.passive.copy.start()
    pair.quiet(2)
    assert pair.passive.copy.complete and not pair.active.kernel.table
    assert pair.active.source.lag_entries == pair.active.source.lag_ms(pair.now_ns) == 0


def test_after_a_repair_the_tables_are_compared_again_at_once() -> None:
    pair = Pair()
    for sport in range(1, 101):
        pair.active.kernel.becomes(tcp_entry(sport))
        pair.turn()
    pair.quiet(2)
    for sport in range(1, 101):
        pair.passive.kernel.table[key(sport)] = tcp_entry(sport, 7)
    pair.passive.survey(Survey.RENEWAL, pair.now_ns)
    audit, wrong = pair.passive.copy.audit, []
    for _turn in range(160):  # 1.6 s: one digest, and those that follow from it
        pair.turn()
        wrong.append(audit.stale)
    assert max(wrong) > 30 and wrong[-1] == 0
    assert sum(map(bool, wrong)) < 50


def test_a_digest_is_needed_for_what_no_event_told() -> None:
    """The control: without digests and surveys a silent loss stays."""
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1))
    for _turn in range(4):
        pair.turn()
    assert len(pair.passive.kernel.table) == 1
    pair.passive.kernel.ends(key(1), silently=True)
    for _turn in range(20):
        pair.turn()
    assert len(pair.passive.kernel.table) == 0
    pair.quiet(3)
    assert len(pair.passive.kernel.table) == 1


def test_a_spoilt_copy_is_seen_by_a_survey_and_mended_by_a_digest() -> None:
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1))
    pair.quiet(1)
    pair.passive.kernel.table[key(1)] = tcp_entry(1, 7)
    pair.quiet(3)
    assert pair.passive.kernel.survivable == pair.active.kernel.survivable


def test_ports_that_are_used_anew_through_the_other_node_are_translated_anew_at_once() -> None:
    """The former active keeps its closed connection; the bulk says nothing of its end."""
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1))
    pair.quiet(1)
    pair.active.kernel.becomes(tcp_entry(1, 7))
    pair.quiet(1)
    pair.swap()
    pair.active.kernel.becomes(reused(1, 3))
    for _turn in range(4):
        pair.turn()
    assert pair.passive.copy.complete
    assert pair.passive.kernel.survivable == pair.active.kernel.survivable
    assert not pair.passive.copy.refused


@pytest.mark.parametrize("told", [True, False], ids=["told before", "closed at once"])
def test_the_last_word_harms_nobody_who_has_its_port_by_now(told: bool) -> None:
    """Where ports are short the kernel removes a closed connection for the next one: unheard."""
    pair = Pair()
    pair.quiet(1)
    if told:
        pair.active.kernel.becomes(tcp_entry(1))
        pair.quiet(1)
    pair.active.kernel.becomes(tcp_entry(1, 7))
    pair.active.kernel.becomes(tcp_entry(8, port=2))
    for turn in range(40):
        pair.turn()
        settled = pair.passive.kernel.survivable == pair.active.kernel.survivable
        assert settled or turn < 2
    assert not pair.passive.copy.refused


def test_a_half_open_connection_of_which_nobody_told_gives_way_at_once() -> None:
    pair = Pair()
    pair.passive.kernel.table[key(1)] = tcp_entry(1, 1)
    pair.quiet(1)
    pair.active.kernel.becomes(reused(1, 3))
    for _turn in range(4):
        pair.turn()
    assert pair.passive.kernel.survivable == pair.active.kernel.survivable
    assert not pair.passive.copy.refused


def test_a_status_that_no_update_takes_away_is_gone_after_two_surveys() -> None:
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1, status=0x18A))
    pair.quiet(1)
    pair.passive.kernel.table[key(1)] = tcp_entry(1)
    pair.quiet(3)
    assert pair.passive.kernel.survivable != pair.active.kernel.survivable, "no update helps"
    assert pair.passive.copy.audit.stale == 0, "and nobody knows"
    pair.quiet(3)
    assert pair.passive.kernel.survivable == pair.active.kernel.survivable
