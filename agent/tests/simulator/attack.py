# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that nobody of the pair has sent: forged, bent, from strangers, and recordings.

Faults enter with a node that is to be deceived. Each frame is marked as forged for the judge, who
looks whether the engine believed it. A recording holds only what the node has drained already: a
frame that was never delivered is merely late when it comes, and no MAC can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from amaranten_ha.core.beat import Beat, Kind, Role, encode
from amaranten_ha.core.claim import Claim
from amaranten_ha.core.seal import KeyRing, Sealer
from amaranten_ha.core.timing import MS_NS
from simulator.frames import Arrival, Sent
from simulator.machine import Machine
from simulator.plan import CLUSTER, Fault
from simulator.world import World

_STRANGER = Sealer(KeyRing({1: bytes(32)}, 1))
_EVERY_NS = 7 * MS_NS
_FORGED = Sent(0, 0, Kind.BEAT, Role.ACTIVE, 99, Claim(1, 99, 2), None, (0, 0), forged=True)


def _schemes(machine: Machine, link: int) -> list[Any]:
    """Bytes that a stranger could send: each must be refused, and none may raise."""
    heart = machine.heart
    assert heart is not None
    other = 3 - machine.number
    beat = Beat(
        CLUSTER, other, Role.ACTIVE, link, 1 << 40, 1, epoch=99, last_active=99,
        echo_session=heart.session,
    )  # fmt: skip
    sealed = _STRANGER.seal(encode(beat))
    return [
        sealed,
        sealed[:-1],
        sealed + bytes(400),
        sealed[:40],
        b"",
        encode(beat),
        _STRANGER.seal(encode(replace(beat, kind=Kind.FAREWELL))),
        b"AmHA" + bytes(60),
    ]


def _keep_on(world: World, call: Callable[[int], None]) -> Callable[[], None]:
    going = [True]

    def step(count: int) -> None:
        if going[0]:
            call(count)
            world.later(_EVERY_NS, step, count + 1)

    def undo() -> None:
        going[0] = False

    step(0)
    return undo


def _deliver(world: World, machine: Machine, link: int, message: Any, mac: bytes) -> None:
    if machine.heart and machine.runs and not machine.stopped:
        machine.ring.append(Arrival(machine.now_ns, link, "beat", message, mac, _FORGED))
        world.wake(machine)


def flood(world: World, fault: Fault) -> Callable[[], None]:
    """Send a node what a stranger on its network can make up."""
    machine = world.machines[fault.node or 1]
    links = [link.number for link in machine.plan.links]

    def call(count: int) -> None:
        if machine.heart:
            link = links[count % len(links)]
            schemes = _schemes(machine, link)
            _deliver(world, machine, link, schemes[count % len(schemes)], b"\2\0\0\0\7\7")

    return _keep_on(world, call)


def replay(world: World, fault: Fault) -> Callable[[], None]:
    """Play back to a node what it has heard, in the order in which it heard it, oldest first."""
    machine = world.machines[fault.node or 1]
    world.judge.recordings.setdefault(machine.number, [])

    def call(count: int) -> None:
        recording = world.judge.recordings[machine.number]
        if recording:
            link, message, mac = recording[count % len(recording)]
            _deliver(world, machine, link, message, mac)

    return _keep_on(world, call)
