# SPDX-License-Identifier: GPL-3.0-or-later
"""The role table and what is wrong with a node: faults, strangers, lost carrier, too many changes.

Two shipped engines in virtual time, one named story per test.
"""

from __future__ import annotations

import pytest
from simulator.plan import Fault, Plan
from simulator.run import play
from simulator.story import Story
from stories import news, reasons, settled

from amaranten_ha.core.beat import Flag, Role

PASSIVE, ACTIVE, STARTING, FAULT = Role.PASSIVE, Role.ACTIVE, Role.STARTING, Role.FAULT


@pytest.fixture
def world() -> Story:
    """A pair that knows no third party."""
    return settled()


# Faults and conflicts


def test_an_active_with_a_fault_hands_over_first(world: Story) -> None:
    world.machines[1].fault = "forwarding is off"
    world.run(1000)
    assert world.roles() == (FAULT, ACTIVE)
    assert world.machines[2].heart.reason == "accepted hand-over"
    assert world.nobody_forwards_ns == 0
    assert reasons(world, 1)[-3:] == ["fault: hand over first", "handed over", "fault"]


def test_an_offer_made_for_a_fault_that_nobody_takes_ends_in_fault(world: Story) -> None:
    world.stall(2)
    world.machines[1].fault = "gate: gone"
    world.run(1000)
    assert world.machines[1].role is FAULT
    assert not world.machines[1].forwards()


def test_a_passive_without_the_nat_chain_of_the_active_is_in_fault(world: Story) -> None:
    world.machines[1].heart.nat = Flag.NAT4
    world.run(4800)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.run(500)
    assert world.roles() == (ACTIVE, FAULT)
    assert "no nat chain for IPv4" in world.machines[2].heart.reason
    world.machines[2].heart.nat = Flag.NAT4
    world.run(500)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.machines[1].heart.nat = Flag(0)
    world.run(4000)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.run(1500)
    assert world.machines[2].role is ACTIVE


def test_a_ruleset_that_is_flushed_and_loaded_again_moves_nothing(world: Story) -> None:
    for number in (1, 2):
        world.machines[number].heart.nat = Flag.NAT4 | Flag.NAT6
    world.run(1000)
    for number in (1, 2):
        world.machines[number].heart.nat = Flag(0)
        world.run(4000)
        world.machines[number].heart.nat = Flag.NAT4 | Flag.NAT6
        world.run(1000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert len(world.machines[2].log) == 1


def test_a_first_nat_chain_on_the_passive_moves_nothing(world: Story) -> None:
    world.machines[2].heart.nat = Flag.NAT4 | Flag.NAT6
    world.run(7000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_a_stranger_on_a_shared_address_closes_no_gate(world: Story) -> None:
    world.strangers[2] = 1
    world.run(8000)
    assert world.roles() == (ACTIVE, FAULT)
    assert "address conflict: 02:00:00:00:02:02 answers for 10.2.0.100 on lan" in (
        world.machines[2].heart.reason
    )
    assert 4 <= reasons(world, 1).count("defend address") <= 9
    assert world.nobody_forwards_ns == 0
    assert any(
        "address conflict" in each for each in world.machines[1].heart.ready_reasons(world.now_ns)
    )
    for number, said in ((1, "fw-b is fault, not passive"), (2, "fw-b is fault")):
        assert said in world.machines[number].heart.ready_reasons(world.now_ns)
    world.strangers[2] = 0
    world.run(13_000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert not world.machines[1].heart.ready_reasons(world.now_ns)


def test_a_stranger_that_only_the_active_sees_moves_the_role_once(world: Story) -> None:
    world.strangers[2] = 1
    world.cut_off(2, 2)
    world.run(8000)
    assert world.roles() == (FAULT, ACTIVE)
    assert world.nobody_forwards_ns == 0
    assert "address conflict" in reasons(world, 1)


def test_one_answer_of_a_stranger_is_no_conflict(world: Story) -> None:
    world.strangers[2] = 1
    world.run(500)
    world.strangers[2] = 0
    world.run(5000)
    assert world.roles() == (ACTIVE, PASSIVE)


# Health


def lose_carrier(world: Story, number: int, link: int, lost: bool = True) -> None:
    """Take a cable out on one machine, or put it back."""
    world.machines[number].heart.set_carrier(link, not lost, world.now_ns)


def lose_carrier_for(world: Story, number: int, link: int, lost_ms: int) -> None:
    """Take a cable out and put it back."""
    lose_carrier(world, number, link)
    world.run(lost_ms)
    lose_carrier(world, number, link, lost=False)


def test_carrier_lost_here_and_present_there_moves_the_role_once(world: Story) -> None:
    lose_carrier(world, 1, 2)
    world.run(900)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.run(1000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert "health" in reasons(world, 1)
    world.run(10_000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.nobody_forwards_ns == 0


def test_an_active_node_announces_when_a_service_link_is_back(world: Story) -> None:
    sync = next(link.number for link in world.machines[1].plan.links if not link.service)
    for number, link, announces in ((1, 2, 1), (1, sync, 0), (2, 2, 0)):
        fired = reasons(world, number).count("link is back")
        world.run(4000)
        lose_carrier_for(world, number, link, 500)
        back_ns = world.now_ns
        world.run(world.timing.beat_ms)
        assert reasons(world, number).count("link is back") - fired == announces
        assert (world.announced_ns[1] >= back_ns) == bool(announces)


def test_a_link_that_flaps_is_announced_once_a_second_and_at_the_end(world: Story) -> None:
    for _flap in range(20):
        lose_carrier_for(world, 1, 2, 50)
        world.run(50)
    assert reasons(world, 1).count("link is back") <= 3
    back_ns = world.now_ns
    world.run(world.timing.defend_ms)
    assert world.announced_ns[1] >= back_ns


def test_a_link_that_is_back_while_the_role_is_on_offer_is_announced_after_it() -> None:
    plan = Plan(
        faults=(
            Fault(at_ms=0, what="lag", amount=900),
            Fault(at_ms=3400, what="carrier", node=1, links=(1,), for_ms=800),
            Fault(at_ms=4100, what="switchover"),
            Fault(at_ms=6000, what="lag", amount=2),
        )
    )
    assert reasons(play(plan), 1)[-1] == "link is back"


def test_carrier_that_comes_back_within_the_debounce_moves_nothing(world: Story) -> None:
    for _flap in range(5):
        lose_carrier_for(world, 1, 2, 600)
        world.run(600)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_carrier_lost_on_both_or_a_replica_behind_moves_nothing(world: Story) -> None:
    for number in (1, 2):
        lose_carrier(world, number, 2)
    world.run(3000)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.synced = False
    lose_carrier(world, 2, 2, lost=False)
    world.run(3000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_health_hands_over_at_most_three_times_in_ten_minutes(world: Story) -> None:
    for _round in range(8):
        lose_carrier(world, 1, 2)
        lose_carrier(world, 2, 2, lost=False)
        world.run(2000)
        lose_carrier(world, 1, 2, lost=False)
        lose_carrier(world, 2, 2)
        world.run(2000)
    fired = [reasons(world, number).count("health") for number in (1, 2)]
    assert fired == [3, 3] or max(fired) == 3


# Damping


def test_the_third_unplanned_change_in_ten_minutes_damps_both_for_ten(world: Story) -> None:
    for number in (1, 2, 1):
        assert not world.machines[number].heart.timing.damped
        world.kill_heart(number, 500)
        world.run(4000)
    for number in (1, 2):
        timing = world.machines[number].heart.timing
        assert (timing.damped, timing.dead_ms, timing.lease_ms) == (True, 1000, 1280)
        assert len(news(world, number, "damping")) == 1
    world.begin()
    world.stall(2)
    world.run(900)
    world.go_on(2)
    world.run(1000)
    assert world.machines[2].role is ACTIVE
    assert world.nobody_forwards_ns == world.both_forward_ns == 0


def test_planned_changes_never_damp(world: Story) -> None:
    for giver in (1, 2, 1, 2, 1):
        world.machines[giver].heart.switchover = "operator"
        world.run(1000)
    assert not any(world.machines[number].heart.timing.damped for number in (1, 2))
