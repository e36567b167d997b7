# SPDX-License-Identifier: GPL-3.0-or-later
"""The role table at work: two shipped engines in virtual time, one named story per test."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulator.story import Story

from amaranten_ha.core.beat import Role
from amaranten_ha.core.timing import MS_NS, PROFILES, lease_kernel_ms

PASSIVE, ACTIVE, STARTING, FAULT = Role.PASSIVE, Role.ACTIVE, Role.STARTING, Role.FAULT
PROFILE_NAMES = ("fast", "virtual", "relaxed")


@pytest.fixture
def world() -> Story:
    """A pair at the default profile, settled: the primary is active."""
    world = Story()
    world.settle()
    assert world.roles() == (ACTIVE, PASSIVE)
    return world


def test_cold_start_elects_the_primary_and_only_it() -> None:
    world = Story()
    world.run(2000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.both_forward_ns == 0


def test_cold_start_elects_the_one_that_was_active_last() -> None:
    world = Story()
    world.machines[2].disk = (9, 9)
    world.run(2000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.machines[2].heart.epoch == 10


def test_cold_start_passes_over_the_one_without_a_service_carrier() -> None:
    world = Story()
    for link in (1, 2, 4):
        world.wires.unplug(1, link)
    world.run(3000)
    assert world.machines[2].role is ACTIVE
    assert world.machines[1].heart.hand_over_reasons(world.now_ns)


def test_nothing_moves_in_quiet_times(world: Story) -> None:
    world.run(20_000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.nobody_forwards_ns == 0
    assert len(world.machines[1].log) == len(world.machines[2].log) == 1


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_power_loss_is_noticed_within_the_published_time(profile: str) -> None:
    world = Story(profile)
    world.settle()
    world.run(1000 + PROFILES[profile].beat_ms // 2)
    world.power_off(1)
    world.run(2 * PROFILES[profile].dead_ms)
    assert world.machines[2].role is ACTIVE
    assert world.machines[2].heart.reason == "peer lost: machine"
    assert world.nobody_forwards_ns <= (PROFILES[profile].dead_ms + 1) * MS_NS


def _dead_sync(world: Story) -> None:
    world.machines[2].sync_down = 1


def _no_copy(world: Story) -> None:
    world.synced = False


def _old_copy(world: Story) -> None:
    world.lag_ns = 10_000 * MS_NS


@pytest.mark.parametrize("spoil", [_dead_sync, _no_copy, _old_copy])
def test_power_loss_waits_for_no_copy(world: Story, spoil: Callable[[Story], None]) -> None:
    spoil(world)
    world.run(1000)
    assert world.machines[1].heart.hand_over_reasons(world.now_ns)  # a planned one would wait
    world.begin()
    world.power_off(1)
    world.run(2 * world.timing.dead_ms)
    assert world.machines[2].role is ACTIVE
    assert world.nobody_forwards_ns <= (world.timing.dead_ms + 1) * MS_NS


def test_the_one_that_comes_back_stays_passive(world: Story) -> None:
    world.power_off(1)
    world.run(1000)
    world.power_on(1)
    world.begin()
    world.run(20_000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.machines[1].heart.reason == "peer is active"
    assert world.nobody_forwards_ns == world.both_forward_ns == 0


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_stopped_heart_is_fenced_before_the_peer_starts(profile: str) -> None:
    world = Story(profile)
    world.settle()
    world.stall(1)
    world.run(3 * PROFILES[profile].lease_ms)
    assert world.machines[2].heart.reason == "peer lost: agent"
    world.go_on(1)
    world.run(1000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.both_forward_ns == world.both_speak_ns == 0


@pytest.mark.parametrize("stall_ms", [100, 250, 330, 345, 350, 355, 360, 370, 380, 400, 500])
def test_a_stall_of_any_length_makes_no_two_actives(world: Story, stall_ms: int) -> None:
    world.stall(1)
    world.run(stall_ms)
    world.go_on(1)
    world.run(2000)
    assert sorted(world.roles()) == [PASSIVE, ACTIVE]
    assert world.both_speak_ns == 0
    if stall_ms < world.machines[1].heart.timing.lease_ms:
        assert world.roles() == (ACTIVE, PASSIVE)


@pytest.mark.parametrize("back_after_ms", [60, 150, 400, 2000])
def test_killed_heart_is_a_failover_and_the_restarted_one_becomes_passive(
    world: Story, back_after_ms: int
) -> None:
    world.kill_heart(1, back_after_ms)
    world.run(4000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.both_forward_ns == world.both_speak_ns == 0
    assert world.nobody_forwards_ns < 400 * MS_NS


def test_killed_heart_of_the_passive_moves_nothing(world: Story) -> None:
    world.kill_heart(2)
    world.run(4000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.nobody_forwards_ns == 0


def test_one_link_that_carries_heartbeats_vetoes_a_failover(world: Story) -> None:
    for number in (1, 2):
        world.drop(number, 1, 2, 4)
    world.run(5000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_lost_heartbeats_alone_are_no_death_while_the_kernel_forwards(world: Story) -> None:
    world.drop_beats(1)
    world.run(5000)
    assert world.roles() == (ACTIVE, PASSIVE)
    world.heal()
    world.run(1000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_partition_makes_two_actives_and_contact_resolves_it_within_two_beats(
    world: Story,
) -> None:
    world.partition()
    world.run(3000)
    assert world.roles() == (ACTIVE, ACTIVE)
    world.heal()
    world.both_speak_ns = 0
    world.run(1000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert world.both_speak_ns <= 2 * 40 * MS_NS


def test_switchover_there_and_back_leaves_no_gap(world: Story) -> None:
    for giver, taker in ((1, 2), (2, 1), (1, 2)):
        world.machines[giver].heart.switchover = "operator"
        world.run(1000)
        assert world.machines[taker].role is ACTIVE
        assert world.machines[giver].role is PASSIVE
        assert world.machines[giver].heart.reason == "handed over"
    assert world.nobody_forwards_ns == 0
    assert world.both_speak_ns <= 3 * MS_NS
    linger_ns = lease_kernel_ms(world.timing.linger_ms) * MS_NS
    assert world.both_forward_ns <= 3 * (linger_ns + 2 * MS_NS)


def test_switchover_is_refused_while_the_replica_is_not_synced(world: Story) -> None:
    world.synced = False
    world.run(200)
    assert world.machines[1].heart.hand_over_reasons(world.now_ns) == (
        "the replica on fw-b is disconnected",
    )
    world.machines[1].heart.switchover = "operator"
    world.run(1000)
    assert world.roles() == (ACTIVE, PASSIVE)


def test_offer_that_nobody_takes_is_withdrawn(world: Story) -> None:
    world.machines[1].heart.switchover = "operator"
    world.run(1)
    world.stall(2)
    world.run(1000)
    assert world.machines[1].role is ACTIVE
    assert world.machines[1].heart.reason == "offer withdrawn"
    world.go_on(2)
    world.run(1000)
    assert world.roles() == (ACTIVE, PASSIVE)
    assert world.nobody_forwards_ns == 0


def test_farewell_is_taken_over_at_once(world: Story) -> None:
    world.farewell(1)
    world.run(50)
    assert world.machines[2].role is ACTIVE
    assert world.nobody_forwards_ns <= 2 * MS_NS


def test_isolated_start_waits_fifteen_seconds() -> None:
    world = Story()
    world.power_off(2)
    world.run(14_900)
    assert world.machines[1].role is STARTING
    world.run(300)
    assert world.machines[1].role is ACTIVE
    assert world.machines[1].heart.reason == "isolated start"


def test_isolated_start_is_vetoed_while_somebody_answers_for_a_shared_address() -> None:
    world = Story()
    world.power_off(2)
    world.machines[2].powered = True
    world.machines[2].starts_ns = 1 << 62
    kernel = world.machines[2].kernel
    kernel.addresses_on = True
    kernel.lease_until_ns = kernel.voice_until_ns = 1 << 62
    world.run(30_000)
    assert world.machines[1].role is STARTING


def test_fault_of_the_active_lets_the_peer_be_elected(world: Story) -> None:
    world.synced = False
    world.machines[2].heart.held = True
    world.run(100)
    world.machines[1].fault = "gate: gone"
    world.run(1000)
    assert world.roles() == (FAULT, PASSIVE)
    assert world.machines[1].heart.reason == "fault: gate: gone"
    world.machines[2].heart.held = False
    world.run(1500)
    assert world.roles() == (FAULT, ACTIVE)
    assert world.machines[2].heart.reason == "elected"
    world.machines[1].fault = ""
    world.run(1500)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert [line for _at, line in world.machines[1].log if "fault is over" in line]


def test_held_node_never_takes_over(world: Story) -> None:
    world.machines[2].heart.held = True
    world.run(200)
    world.power_off(1)
    world.run(5000)
    assert world.machines[2].role is PASSIVE


def test_epochs_never_repeat(world: Story) -> None:
    seen = [world.machines[1].heart.epoch]
    for number in (1, 2, 1, 2):
        world.power_off(number)
        world.run(1000)
        world.power_on(number)
        world.run(2000)
        seen.append(world.machines[3 - number].heart.epoch)
    assert seen == sorted(set(seen))


def test_a_passive_that_reboots_alone_claims_no_epoch_that_was_used_before() -> None:
    world = Story()
    world.settle()
    world.machines[1].heart.switchover = "operator"
    world.run(1000)
    used = world.machines[2].heart.epoch
    world.power_off(1)
    world.power_off(2)
    world.power_on(1)
    world.run(16_000)
    assert world.machines[1].role is ACTIVE
    assert world.machines[1].heart.epoch > used


def test_a_node_that_woke_beside_a_stalled_taker_does_not_borrow_its_epoch(world: Story) -> None:
    """Seen in the soak: both machines stalled; the old active told its claim with a new epoch."""
    other = world.machines[2]
    world.stall(1)
    world.run(2 * PROFILES["virtual"].lease_ms)
    assert other.role is ACTIVE
    world.stall(2)
    world.run(PROFILES["virtual"].dead_ms + 20)
    world.go_on(1)
    world.run(60)
    world.go_on(2)
    world.run(2000)
    assert world.roles() == (PASSIVE, ACTIVE)
    assert not [text for _at, text in other.log if "yield" in text]
