# SPDX-License-Identifier: GPL-3.0-or-later
"""The role table and a node that was away: it must neither trust what it knew, nor wait for ever.

Two shipped engines in virtual time, under plans that are played without the quiet at their end.
"""

from __future__ import annotations

import pytest
from simulator.plan import Fault, Plan
from simulator.run import play

from amaranten_ha.core.beat import Role
from amaranten_ha.core.timing import MS_NS


def elected_without_standing(unanswered_ms: int) -> tuple[Fault, ...]:
    """Both are booted while no third party answers, so that whoever is elected has no standing."""
    return (
        Fault(at_ms=0, what="gateways", for_ms=unanswered_ms),
        Fault(at_ms=100, what="crash", node=1, for_ms=50),
        Fault(at_ms=100, what="crash", node=2, for_ms=50),
    )


def test_who_is_unsure_opens_no_gate_by_a_claim_with_standing() -> None:
    world = play(
        Plan(
            gateways=True,
            faults=(
                *elected_without_standing(2500),
                Fault(at_ms=2480, what="stall", node=1, for_ms=420),
                Fault(at_ms=2830, what="beats", node=2, for_ms=200),
                Fault(at_ms=4000, what="lag", amount=2),
            ),
        )
    )
    assert world.both_forward_ns == 0


@pytest.mark.parametrize("phase_ms", range(2640, 2700, 5))
def test_who_was_away_gains_no_standing_before_it_has_heard_who_carried(phase_ms: int) -> None:
    world = play(
        Plan(
            gateways=True,
            faults=(
                *elected_without_standing(11900),
                Fault(at_ms=phase_ms, what="pause", node=1, for_ms=9380),
                Fault(at_ms=15020, what="lag", amount=2),
            ),
        )
    )
    assert world.roles() == (Role.PASSIVE, Role.ACTIVE)


LATE_AGAIN = [
    Fault(at_ms=2401 + 101 * each, what="stall", node=1, for_ms=100) for each in range(60)
]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(at_ms=0, what="crash", node=2), Fault(at_ms=2000, what="stall", node=1, for_ms=400)],
        [Fault(at_ms=0, what="hold", node=2), Fault(at_ms=2000, what="stall", node=1, for_ms=400)],
        [Fault(at_ms=2060, what="stall", node=1, for_ms=340)],
    ],
    ids=["nobody is there", "nobody may follow", "nobody has reason to follow"],
)
def test_who_is_late_at_every_turn_does_not_stay_unsure(faults: list[Fault]) -> None:
    world = play(Plan(faults=(*faults, *LATE_AGAIN)))
    assert world.nobody_forwards_ns < 500 * MS_NS


BUSY = (
    Fault(at_ms=6000, what="starve", node=1, for_ms=364),
    Fault(at_ms=6354, what="busy", node=1, for_ms=10_000, amount=252),
)


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(at_ms=6000, what="one-way", node=1)],
        [Fault(at_ms=6000, what="crash", node=2)],
        [
            Fault(at_ms=10, what="crash", node=2),
            Fault(at_ms=6000, what="carrier", node=1, for_ms=380),
        ],
    ],
    ids=["who does not hear it", "who has just gone", "who had gone before its own cable was out"],
)
def test_who_is_busy_does_not_stay_unsure_beside_a_peer_that_may_not_follow(
    faults: list[Fault],
) -> None:
    """The peer's heartbeats and an own carrier are no reason to go on listening."""
    world = play(Plan(faults=(Fault(at_ms=0, what="hold", node=2), *faults, *BUSY)))
    assert world.nobody_forwards_ns < 1000 * MS_NS


def test_who_is_late_at_every_turn_follows_who_is_gone() -> None:
    late = [Fault(at_ms=2001 + 301 * each, what="stall", node=2, for_ms=300) for each in range(40)]
    world = play(Plan(faults=(Fault(at_ms=2000, what="crash", node=1), *late)))
    assert world.roles() == (None, Role.ACTIVE)
    assert world.nobody_forwards_ns < 5000 * MS_NS


LATE_ONCE = {
    "heartbeats were lost, the kernel answered": Plan(
        profile="metal",
        latency_us=1000,
        faults=(
            Fault(at_ms=0, what="beats", node=1, for_ms=400),
            Fault(at_ms=200, what="stall", node=2, for_ms=20),
        ),
    ),
    "and what came meanwhile is lost, too": Plan(
        profile="metal",
        latency_us=1000,
        faults=(
            Fault(at_ms=0, what="beats", node=1, for_ms=400),
            Fault(at_ms=200, what="starve", node=2, for_ms=8),
        ),
    ),
    "and more than once": Plan(
        profile="metal",
        latency_us=1000,
        faults=(
            Fault(at_ms=0, what="beats", node=1, for_ms=1000),
            Fault(at_ms=200, what="stall", node=2, for_ms=20),
            Fault(at_ms=500, what="stall", node=2, for_ms=20),
        ),
    ),
    "cut off, and the cable is back": Plan(
        profile="fast",
        gateways=True,
        faults=(
            Fault(at_ms=0, what="uplink", node=2, for_ms=1000),
            Fault(at_ms=980, what="starve", node=2, for_ms=110),
            Fault(at_ms=1500, what="lag", amount=2),
        ),
    ),
    "held, and not any more": Plan(
        faults=(
            Fault(at_ms=0, what="hold", node=2, for_ms=3300),
            Fault(at_ms=50, what="partition", for_ms=3050),
            Fault(at_ms=3000, what="starve", node=2, for_ms=500),
        )
    ),
    "late twice, and long before the cable is back": Plan(
        profile="fast",
        faults=(
            Fault(at_ms=0, what="hold", node=2, for_ms=1520),
            Fault(at_ms=0, what="partition", for_ms=1500),
            Fault(at_ms=190, what="starve", node=2, for_ms=250),
            Fault(at_ms=1500, what="starve", node=2, for_ms=49),
            Fault(at_ms=2000, what="lag", amount=2),
        ),
    ),
    "alone since its start": Plan(
        cold=True,
        faults=(
            Fault(at_ms=0, what="crash", node=1, for_ms=3000),
            Fault(at_ms=2900, what="starve", node=2, for_ms=16000),
            Fault(at_ms=20000, what="lag", amount=2),
        ),
    ),
}


@pytest.mark.parametrize("plan", LATE_ONCE.values(), ids=LATE_ONCE)
def test_who_is_late_after_a_long_silence_hears_before_it_accuses(plan: Plan) -> None:
    world = play(plan)
    assert world.roles() == (Role.ACTIVE, Role.PASSIVE)
    assert world.both_forward_ns == 0
