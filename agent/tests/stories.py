# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories of the role table have in common: a settled pair, and what it said.

Tests of roles enter; every run is the same.
"""

from __future__ import annotations

from simulator.story import Story
from simulator.world import World

from amaranten_ha.core.beat import Role


def settled(*, gateways: bool = False) -> Story:
    """A pair of which the primary is active; with a gateway its claim has standing."""
    world = Story(gateways=gateways)
    world.settle()
    world.run(2500)
    assert world.roles() == (Role.ACTIVE, Role.PASSIVE)
    world.begin()
    return world


def reasons(world: World, number: int) -> list[str]:
    """The reasons of every rule that fired on a machine."""
    return [line.partition(": ")[2] for _at, line in world.machines[number].log]


def news(world: World, number: int, kind: str) -> list[str]:
    """What a machine told of one kind."""
    return [text for each, text in world.machines[number].news if each == kind]
