# SPDX-License-Identifier: GPL-3.0-or-later
"""More of the role table at work: standing, faults, conflicts, orders, restarts, damping, health.

Two shipped engines in virtual time, one named story per test; what a rule must not do stands beside
what it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from simulator.plan import Fault, Plan
from simulator.run import run
from simulator.story import Story
from stories import news, reasons, settled

from amaranten_ha.core import orders
from amaranten_ha.core.beat import Role
from amaranten_ha.core.timing import MS_NS

PASSIVE, ACTIVE, STARTING, FAULT = Role.PASSIVE, Role.ACTIVE, Role.STARTING, Role.FAULT


@pytest.fixture
def world() -> Story:
    """A pair that knows no third party."""
    return settled()


# Standing and partitions


def test_a_claim_without_standing_is_raised_when_a_third_party_answers() -> None:
    world = settled(gateways=True)
    assert world.machines[1].heart.claim.standing == 1
    assert "third party answers" in reasons(world, 1) or "elected" in reasons(world, 1)
    late = Story(gateways=True)
    for number in (1, 2):
        late.cut_off(number)
    late.run(4000)
    assert late.roles() == (ACTIVE, PASSIVE)
    assert late.machines[1].heart.claim.standing == 0
    before = late.machines[1].heart.epoch
    late.heal()
    late.run(4000)
    assert late.machines[1].heart.claim.standing == 1
    assert late.machines[1].heart.epoch == before
    assert reasons(late, 1).count("third party answers") == 1


@pytest.mark.parametrize("meets", [True, False], ids=["in contact", "alone"])
def test_in_contact_with_a_passive_peer_the_first_answer_gives_standing(meets: bool) -> None:
    world = Story(gateways=True)
    for number in (1, 2):
        world.cut_off(number)
    world.run(4000)
    if not meets:
        world.partition()
        world.run(world.timing.dead_ms)
    world.heal()
    if not meets:
        world.partition()
    world.run(world.timing.ask_ms + 2 * world.timing.beat_ms)
    assert world.roles()[0] is ACTIVE
    assert world.machines[1].heart.claim.standing == int(meets)


def test_passive_reboots_behind_a_port_that_is_silent_for_35_seconds() -> None:
    world = settled(gateways=True)
    world.power_off(2)
    world.run(500)
    world.power_on(2)
    world.partition()
    world.cut_off(2)
    world.run(35_000)
    world.heal()
    world.run(3000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert "yield to higher claim" not in reasons(world, 1)
    assert world.nobody_forwards_ns == 0


def test_the_passives_switch_loses_its_uplink_and_the_carrier_of_traffic_stays() -> None:
    world = settled(gateways=True)
    world.partition()
    world.cut_off(2)
    world.run(10_010)
    assert world.roles() == (ACTIVE, ACTIVE)
    assert world.machines[2].heart.claim.standing == 0
    world.heal()
    world.both_speak_ns = 0
    world.run(3000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert "yield to higher claim" in reasons(world, 2)
    assert "defend claim" in reasons(world, 1)
    assert world.nobody_forwards_ns == 0
    assert world.both_speak_ns <= 2 * 40 * MS_NS
    for number in (1, 2):
        (report,) = news(world, number, "dual-active")
        assert "fw-a and fw-b were both active for" in report or "fw-b and fw-a" in report
        assert "fw-b yielded after" in report
        assert "nobody answered" in report and "third parties answered" in report


def test_the_active_that_reaches_nobody_yields_to_the_one_that_carried_the_traffic() -> None:
    world = settled(gateways=True)
    world.partition()
    world.cut_off(1)
    world.run(10_000)
    assert world.roles() == (ACTIVE, ACTIVE)
    world.heal()
    world.run(3000)
    assert world.roles() == (PASSIVE, ACTIVE)


def test_one_ethertype_is_dropped_while_arp_passes() -> None:
    world = settled(gateways=True)
    for number in (1, 2):
        world.drop_beats(number)
    world.run(30_000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.nobody_forwards_ns == world.both_forward_ns == 0
    world.heal()
    world.run(2000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_a_deaf_peer_that_reached_nobody_is_not_yielded_to() -> None:
    world = settled(gateways=True)
    world.drop(1)
    world.cut_off(2)
    world.run(15_000)
    assert world.machines[2].role is ACTIVE
    assert world.machines[1].role is ACTIVE
    assert "yield: peer is deaf" not in reasons(world, 1)
    world.heal()
    world.run(2000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_a_deaf_peer_with_the_same_standing_is_yielded_to() -> None:
    world = settled()
    world.partition()
    world.run(3000)
    assert world.roles() == (ACTIVE, ACTIVE)
    world.heal()
    world.drop(2)
    world.run(10_000)
    assert world.machines[1].role is ACTIVE
    assert world.machines[2].role is PASSIVE
    assert {"yield: peer is deaf", "yield to higher claim"} & set(reasons(world, 2))


@pytest.mark.parametrize("heals_after_ms", range(5000, 5040, 10))
def test_a_silence_before_they_met_makes_no_peer_deaf(heals_after_ms: int) -> None:
    """A bridge drops what both receive from each other; at both ends everything else is whole."""
    world = settled(gateways=True)
    world.restart_heart(2, 314)
    world.run(3000)
    world.partition()
    world.run(heals_after_ms)
    assert world.roles() == (ACTIVE, ACTIVE)
    world.heal()
    met_ns = world.now_ns
    world.run(500)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert reasons(world, 1)[-1] == "yield to higher claim"
    assert reasons(world, 2)[-1] in ("peer has yielded", "peer is heard again")
    assert world.announced_ns[2] > met_ns
    assert world.nobody_forwards_ns == 0


def test_what_a_stopped_heart_did_not_say_makes_no_peer_deaf() -> None:
    """The wires are mended while the heart with the higher claim is stopped, and what the other
    says waits for it: it has heard for long enough, and has said nothing that could be echoed."""
    world = settled()
    world.partition()
    world.run(500)
    assert world.roles() == (ACTIVE, ACTIVE)
    world.stall(2)
    world.heal()
    world.run(world.timing.one_way_ms + world.timing.dead_ms)
    world.go_on(2)
    world.run(500)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert reasons(world, 1)[-1] == "yield to higher claim"
    assert "yield: peer is deaf" not in reasons(world, 2)
    assert world.nobody_forwards_ns <= world.timing.beat_ms * MS_NS


def test_a_node_that_waits_for_its_peer_never_starts_isolated() -> None:
    world = Story()
    world.power_off(2)
    world.run(1)
    node = world.machines[1].heart
    node.plan = dataclasses.replace(node.plan, wait_for_peer=True)
    world.run(20_000)
    assert world.machines[1].role is STARTING
    world.power_on(2)
    world.run(2000)
    assert sorted(world.roles()) == [PASSIVE, ACTIVE]


def test_what_answered_before_both_were_lost_gives_no_standing() -> None:
    """The peer's agent stops while its kernel answers, then the port of the other falls silent."""
    world = settled(gateways=True)
    world.stall(1)
    world.run(150)
    assert world.machines[2].role is PASSIVE
    world.partition()
    world.cut_off(2)
    world.run(5000)
    assert world.machines[2].role is ACTIVE
    assert world.machines[2].heart.claim.standing == 0


def test_one_answer_of_the_past_does_not_raise_a_claim() -> None:
    world = Story(gateways=True)
    world.run(200)
    world.partition()
    world.cut_off(1)
    world.run(5000)
    assert world.machines[1].role is ACTIVE
    assert world.machines[1].heart.claim.standing == 0


# What a peer leaves behind


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (lambda world: world.kill_heart(1, 400), "peer lost: agent"),
        (lambda world: world.farewell(1), "peer lost: farewell"),
        (lambda world: world.stall(1), "peer lost: agent"),
        (lambda world: world.power_off(1), "peer lost: machine"),
    ],
)
def test_each_way_to_go_is_told_apart(
    world: Story, leave: Callable[[Story], None], reason: str
) -> None:
    leave(world)
    world.run(3000)
    fired = next(each for each in reasons(world, 2) if each.startswith("peer lost"))
    assert fired == reason
    assert world.roles()[1] is ACTIVE


def test_a_heart_that_is_back_before_three_questions_were_answered_has_restarted() -> None:
    outcome, world = run(Plan(late_us=1000, faults=(Fault(0, "kill", 1),)))
    assert outcome.text == ""
    assert reasons(world, 2)[-1] == "peer lost: agent restarted"
    assert reasons(world, 1)[-1] == "peer is active"


# Orders


def test_force_hands_over_to_a_replica_that_is_behind_and_to_nobody_who_cannot(
    world: Story,
) -> None:
    world.synced = False
    world.run(200)
    giver = world.machines[1].heart
    assert orders.switchover(giver, "operator", False, world.now_ns)
    assert not orders.switchover(giver, "operator", True, world.now_ns)
    world.run(500)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.nobody_forwards_ns == 0
    world.machines[1].heart.held = True
    world.run(200)
    refused = orders.switchover(world.machines[2].heart, "operator", True, world.now_ns)
    assert refused == ["fw-a is held in maintenance"]


def test_maintenance_of_the_active_hands_over_first_and_ends_by_itself(world: Story) -> None:
    node = world.machines[1].heart
    until_ns = world.now_ns + 5000 * MS_NS
    assert not orders.hold(node, until_ns, False, world.now_ns)
    assert not node.held
    world.run(500)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert "switchover" in reasons(world, 1)
    assert node.held
    world.power_off(2)
    world.run(3000)
    assert node.role is PASSIVE
    world.run(3000)
    assert node.role is ACTIVE
    assert news(world, 1, "held") == ["maintenance is over: its time has come"]


def test_two_held_nodes_freeze_the_pair(world: Story) -> None:
    for number in (2, 1):
        until_ns = world.now_ns + 60_000 * MS_NS
        assert not orders.hold(world.machines[number].heart, until_ns, True, world.now_ns)
        world.run(200)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.power_off(1)
    world.run(10_000)
    assert world.machines[2].role is PASSIVE


# Restarts


@pytest.mark.parametrize("back_after_ms", [50, 300, 1000, 2900])
def test_an_announced_restart_of_the_active_changes_nothing(
    world: Story, back_after_ms: int
) -> None:
    epoch = world.machines[1].heart.epoch
    world.restart_heart(1, back_after_ms)
    world.run(back_after_ms + 1000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.machines[1].heart.reason == "resumed"
    assert world.machines[1].heart.epoch == epoch
    assert world.nobody_forwards_ns == world.both_forward_ns == 0


def test_a_restart_that_comes_too_late_is_not_resumed(world: Story) -> None:
    world.restart_heart(1, 5000)
    world.run(7000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert "not resumed" in reasons(world, 1)
    assert "resumed" not in reasons(world, 1)
    assert world.both_forward_ns == 0


def test_an_announced_restart_waits_for_the_gate_that_its_new_files_describe(world: Story) -> None:
    world.restart_heart(1, 100)
    world.machines[1].fault = "gate: holds other rules than ours"
    world.run(1000)
    assert world.machines[1].role is STARTING
    world.machines[1].fault = ""
    world.run(500)
    assert world.machines[1].heart.reason == "resumed"
    assert world.nobody_forwards_ns == 0


# Every step of a hand-over may be the last


@pytest.mark.parametrize("victims", [(1,), (2,), (1, 2)])
def test_a_hand_over_may_be_interrupted_at_any_moment(victims: tuple[int, ...]) -> None:
    for half_ms in (*range(0, 180, 30), *range(128, 148, 4)):
        world = Story()
        world.settle()
        world.machines[1].heart.switchover = "operator"
        for _step in range(half_ms):
            world.run(0.5)
        for number in victims:
            world.kill_heart(number, 400)
        world.begin()
        world.run(2000)
        assert sorted(world.roles()) == [PASSIVE, ACTIVE], half_ms
        lease_ns = world.machines[1].heart.timing.lease_kernel_ms * MS_NS
        assert world.both_forward_ns <= lease_ns, half_ms
        assert world.both_speak_ns <= lease_ns, half_ms
