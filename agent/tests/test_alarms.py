# SPDX-License-Identifier: GPL-3.0-or-later
"""Alarms of two engines: each cause once when it begins and once when it is over, and no false one.

The simulated pair makes the causes; heart's observer is stood for by a look once a second.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulator.story import Story
from stories import settled

from amaranten_ha.core.alarms import Alarms
from amaranten_ha.core.beat import Kind, Role
from amaranten_ha.core.node import Node
from amaranten_ha.core.timing import ALARM_AGAIN_MS, ALARM_OVER_MS, MS_NS

Said = list[tuple[str, str]]


def looked(world: Story, number: int, seconds: int, step_ms: int = 1000) -> Said:
    """What an observer of a machine tells while some seconds pass."""
    found: Said = []
    for _look in range(seconds * 1000 // step_ms):
        world.run(step_ms)
        node = world.machines[number].heart
        found += node.alarms.look(node, world.machines[number].now_ns) if node else []
    return found


def miswire(world: Story, link: int, on: int) -> None:
    """One heartbeat of the first machine arrives at the second on another link."""
    sender, receiver = (world.machines[number].heart for number in (1, 2))
    assert isinstance(sender, Node) and isinstance(receiver, Node)
    sender.next_beat()
    now_ns = world.machines[2].now_ns
    assert not receiver.hear(on, sender.message(link, Kind.BEAT), b"\2" * 6, now_ns)


@pytest.fixture
def world() -> Story:
    return settled(gateways=True)


@pytest.mark.parametrize(
    "happens",
    [
        lambda world: None,
        lambda world: world.power_off(1),
        lambda world: world.kill_heart(1),
        lambda world: world.kill_heart(1, 60_000),
        lambda world: world.stall(1),
        lambda world: world.farewell(1),
        lambda world: world.restart_heart(1, 2900),
        lambda world: world.restart_heart(1, 20_000),
        lambda world: world.drop(1, 1),
    ],
)
def test_what_the_pair_copes_with_is_no_alarm(
    world: Story, happens: Callable[[Story], None]
) -> None:
    happens(world)
    assert looked(world, 2, 20) == []


def test_a_cable_in_the_wrong_switch_is_said_once_and_when_it_is_over(world: Story) -> None:
    first, second = (link.name for link in world.machines[2].plan.links[:2])
    said = []
    for _beat in range(5):
        miswire(world, 1, 2)
        said += looked(world, 2, 1)
    begin = f"alarm: a heartbeat of fw-a for {first} arrives here on {second}: "
    assert [kind for kind, _text in said] == ["wiring"]
    assert said[0][1].startswith(begin)
    over = looked(world, 2, ALARM_OVER_MS // 1000 + 2)
    assert over == [("wiring", said[0][1].replace("alarm: ", "over: "))]
    assert world.roles() == (Role.ACTIVE, Role.PASSIVE)


def test_a_link_on_which_the_peer_is_silent_is_asked_by_the_group(world: Story) -> None:
    machine, peer = world.machines[2], world.machines[1].mac
    node = machine.heart
    assert isinstance(node, Node)
    links = dict.fromkeys(node.pulse.links, peer)
    assert node.pulse.destinations(machine.now_ns) == links
    world.drop(1, 1)
    world.run(node.timing.dead_ms // 2)
    assert node.pulse.destinations(machine.now_ns) == links
    world.run(node.timing.dead_ms)
    assert node.pulse.destinations(machine.now_ns) == links | {1: None}
    world.drop(1)
    world.run(3 * node.timing.beat_ms)
    assert node.pulse.destinations(machine.now_ns) == dict.fromkeys(links)
    world.heal()
    world.run(1000)
    assert node.pulse.destinations(machine.now_ns) == links


def test_a_cable_that_flaps_fills_no_journal(world: Story) -> None:
    alarms, node = Alarms(world.machines[2].plan), world.machines[2].heart
    assert isinstance(node, Node)
    begin_ns, said = world.machines[2].now_ns, []
    for second in range(ALARM_AGAIN_MS // 1000 + 1):
        now_ns = begin_ns + second * 1000 * MS_NS
        if second % (2 * ALARM_OVER_MS // 1000) == 0:
            alarms.miswired(1, 2, now_ns)
        said += [(second, text.partition(":")[0]) for _kind, text in alarms.look(node, now_ns)]
    over_s = ALARM_OVER_MS // 1000 + 1
    assert said == [(0, "alarm"), (over_s, "over"), (ALARM_AGAIN_MS // 1000, "alarm")]


def test_each_pair_of_interfaces_is_an_alarm_and_unknown_ones_are_one(world: Story) -> None:
    alarms, now_ns = Alarms(world.machines[2].plan), world.machines[2].now_ns
    node = world.machines[2].heart
    assert isinstance(node, Node)
    for link, said in ((1, 2), (2, 1), (2, 77), (2, 78), (2, 65_535)):
        alarms.miswired(link, said, now_ns)
    texts = [text for _kind, text in alarms.look(node, now_ns)]
    assert len(texts) == 3
    assert "for an interface that is not in the inventory (65535) arrives" in texts[2]


def test_a_peer_that_forwards_unheard_is_an_alarm_of_the_passive(world: Story) -> None:
    for number in (1, 2):
        world.drop_beats(number)
    said = looked(world, 2, 30)
    assert [kind for kind, _text in said] == ["forwarding"]
    assert said[0][1].startswith("alarm: fw-a is not heard on any interface, and its kernel")
    assert looked(world, 1, 5) == []
    world.heal()
    over = looked(world, 2, ALARM_OVER_MS // 1000 + 3)
    assert [text.partition(":")[0] for _kind, text in over] == ["over"]
    assert world.roles() == (Role.ACTIVE, Role.PASSIVE)


def test_a_stranger_at_a_shared_address_is_an_alarm(world: Story) -> None:
    world.strangers[1] += 1
    said = looked(world, 2, 8)
    world.strangers[1] -= 1
    said += looked(world, 2, ALARM_OVER_MS // 1000 * 2 + 5)
    assert [(kind, text.partition(":")[0]) for kind, text in said] == [
        ("conflict", "alarm"),
        ("conflict", "over"),
    ]
    assert "answers for" in said[0][1]


def test_two_active_nodes_are_an_alarm_only_while_neither_yields(world: Story) -> None:
    world.partition()
    world.run(8000)
    assert world.roles() == (Role.ACTIVE, Role.ACTIVE)
    world.heal()
    assert looked(world, 2, 2, step_ms=1) == []
    assert world.roles() != (Role.ACTIVE, Role.ACTIVE)
    # The other way round: who is higher is not heard, and the deaf one stays.
    world = settled(gateways=True)
    world.drop(1)
    world.cut_off(2)
    said = looked(world, 1, 20)
    assert world.roles() == (Role.ACTIVE, Role.ACTIVE)
    assert [kind for kind, _text in said] == ["dual-active"]
    assert said[0][1] == "alarm: fw-a and fw-b are both active, and neither yields"
