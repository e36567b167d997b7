# SPDX-License-Identifier: GPL-3.0-or-later
"""A link's budget: a backlog is heard at once, a flood is not."""

from __future__ import annotations

from amaranten_ha.core.budget import BURST, PER_MS, TURN_MAX, Budget
from amaranten_ha.core.timing import MS_NS, PROFILES

START_NS = 10**12


def turn(budget: Budget, now_ns: int, waiting: int) -> int:
    """Take what is waiting, as far as it goes."""
    granted = budget.grant(now_ns)
    budget.took(min(waiting, granted), granted)
    return min(waiting, granted)


def test_a_backlog_of_a_whole_buffer_is_taken_in_turns_without_a_pause() -> None:
    budget, taken, turns = Budget(), 0, 0
    while taken < 1400:
        taken += turn(budget, START_NS, 1400 - taken)
        turns += 1
        assert not budget.spent
    assert turns == -(-1400 // TURN_MAX)


def test_a_flood_costs_no_more_than_the_rate_and_one_burst() -> None:
    budget, taken = Budget(), 0
    for number in range(10_000):
        taken += turn(budget, START_NS + number * MS_NS // 10, 10**6)
    assert BURST + 990 * PER_MS <= taken <= BURST + 1001 * PER_MS
    assert budget.spent


def test_after_a_flood_the_link_is_listened_to_again() -> None:
    budget = Budget()
    for _turn in range(20):
        turn(budget, START_NS, 10**6)
    assert budget.spent and budget.grant(START_NS) == 0
    assert turn(budget, START_NS + 5 * MS_NS, 3) == 3
    assert not budget.spent


def test_every_profile_beats_far_below_the_rate() -> None:
    assert all(PER_MS * row.beat_ms >= 10 for row in PROFILES.values())
