# SPDX-License-Identifier: GPL-3.0-or-later
"""The margins: what counts as a near miss, what both nodes know, what follows for the timers."""

from __future__ import annotations

import dataclasses

import pytest
from simulator.story import Story

from amaranten_ha.core.beat import Floors
from amaranten_ha.core.margin import Arrivals, Limits, Margins, Worst
from amaranten_ha.core.timing import MS_NS, PROFILES

VIRTUAL = PROFILES["virtual"]
HOUR_NS = 3600 * 1000 * MS_NS


def arrivals(*gaps_ms: int, sequences: list[int] | None = None) -> Arrivals:
    """Beats of one session with these gaps between them."""
    made, at_ms = Arrivals(VIRTUAL), 1000
    for number, gap_ms in enumerate((0, *gaps_ms)):
        at_ms += gap_ms
        made.heard(9, sequences[number] if sequences else number, at_ms * MS_NS)
    return made


@pytest.mark.parametrize(
    ("gap_ms", "near_misses", "outages"),
    [(40, 0, 0), (144, 0, 0), (145, 1, 0), (249, 1, 0), (250, 0, 1), (9000, 0, 1)],
)
def test_a_near_miss_lies_between_half_the_way_and_dead(
    gap_ms: int, near_misses: int, outages: int
) -> None:
    made = arrivals(40, gap_ms, 40)
    assert (made.near_misses, made.outages) == (near_misses, outages)
    silence_ms = max(40, gap_ms) if not outages else 40
    assert made.margin().silence_us == silence_ms * 1000


def test_a_beat_that_comes_out_of_order_is_not_lost_and_a_repeat_is_nothing() -> None:
    made = arrivals(40, 80, 1, 39, sequences=[1, 2, 4, 3, 5])
    assert (made.lost, made.near_misses) == (0, 0)
    assert arrivals(40, 80, sequences=[1, 2, 5]).lost == 2
    assert arrivals(40, 0, 0, sequences=[1, 2, 2, 2]).lost == 0


def test_a_new_session_is_no_silence() -> None:
    made = arrivals(40, 40)
    made.heard(10, 1, 9000 * MS_NS)
    made.heard(10, 2, 9040 * MS_NS)
    assert (made.lost, made.near_misses, made.outages, made.beats) == (0, 0, 0, 5)


def test_jitter_is_none_for_even_beats_and_comes_down_again() -> None:
    assert arrivals(*[40] * 50).margin().jitter_us == 0
    made = arrivals(*[30, 50] * 50)
    assert 8000 < made.margin().jitter_us <= 10_000
    at_ns = made._at_ns
    for number in range(1, 200):
        made.heard(9, 100 + number, at_ns + number * 40 * MS_NS)
    assert made.margin().jitter_us == 0


def test_a_worst_value_is_forgotten_after_a_day() -> None:
    worst = Worst()
    worst.note(7, 0)
    worst.note(3, 10 * HOUR_NS)
    assert worst.value == 7
    worst.note(2, 23 * HOUR_NS)
    assert worst.value == 7
    worst.note(2, 24 * HOUR_NS)
    assert worst.value == 3


def test_the_limits_are_those_of_the_worse_of_the_two_nodes() -> None:
    margins = Margins(VIRTUAL, [1], 0)
    margins.woke(5 * MS_NS, MS_NS)
    margins.asked(1, 0)
    margins.answered(1, 2 * MS_NS)
    margins.answered(1, 900 * MS_NS)
    assert margins.limits() == Limits(6000, 15_000, 0)
    margins.peer_floors = Floors(late_us=40_000, answer_us=1000, silence_us=90_000)
    assert margins.limits() == Limits(6000, 120_000, 50_000)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(), []),
        (Limits(dead_us=250_000, lease_us=320_000, excess_us=209_000), []),
        (Limits(dead_us=250_001), ["dead is 250 ms: expected at least 250.1 ms, 3 times"]),
        (Limits(lease_us=321_000), ["lease is 320 ms: expected at least 321 ms, 3 times"]),
        (Limits(excess_us=210_000), ["dead is 250 ms: expected more than 250 ms, one beat and"]),
    ],
)
def test_timers_below_a_floor_are_told_with_the_figure(limits: Limits, words: list[str]) -> None:
    problems = limits.problems(VIRTUAL)
    assert len(problems) == len(words)
    assert all(found.startswith(said) for found, said in zip(problems, words, strict=True))


def test_the_advice_names_the_fastest_profile_that_fits() -> None:
    assert Limits().advice("virtual", VIRTUAL) == (
        "virtual fits; the fastest profile that fits is metal"
    )
    quiet = Limits(dead_us=45_000, lease_us=100_000)
    assert quiet.advice("fast", PROFILES["fast"]) == "fast fits"
    assert quiet.advice("metal", PROFILES["metal"]).endswith(
        "the fastest profile that fits is fast"
    )
    assert Limits(dead_us=9_000_000).advice("virtual", VIRTUAL).endswith("; no profile fits")


def test_both_nodes_know_both_directions() -> None:
    world = Story()
    world.settle()
    world.run(10_000)
    one, other = (world.machines[number].heart.margins for number in (1, 2))
    for link in (1, 2, 3, 4):
        there, said = other.links[link].margin(), one.out[link]
        assert said.beats > 200 and there.beats - said.beats in (0, 1, 2)
        assert said == dataclasses.replace(there, beats=said.beats, jitter_us=said.jitter_us)
    assert one.peer_floors.measured_s >= 10
    assert one.peer_floors.answer_us and other.floors().answer_us < 2000


def test_one_link_that_loses_beats_in_one_direction_is_told_apart() -> None:
    world = Story()
    world.settle()
    for _round in range(20):
        world.drop_beats(1, 2)
        world.run(160)
        world.heal()
        world.run(400)
    one, other = (world.machines[number].heart.margins for number in (1, 2))
    assert other.links[2].near_misses >= 15 and other.links[2].lost >= 60
    assert one.out[2].near_misses == other.links[2].near_misses
    assert other.peer.near_misses == 0
    assert [other.links[link].near_misses for link in (1, 3, 4)] == [0, 0, 0]
    assert [one.links[link].lost for link in (1, 2, 3, 4)] == [0, 0, 0, 0]
