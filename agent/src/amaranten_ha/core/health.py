# SPDX-License-Identifier: GPL-3.0-or-later
"""How the two nodes fit together beside role and replica: what each says of itself, compared.

Heart and sync tell the engine how this node is; each heartbeat carries it; the answer is a part of
`ready`, in the same words on both nodes. It is for the operator alone: nothing here refuses a
switchover or moves a role.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from amaranten_ha.core.timing import CLOCKS_MS_MAX, MS_NS

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node

DISK_PERMILLE_MIN = 20
"""The epochs and the end of maintenance are written there; a deployment needs some MiB."""
DISK_UNKNOWN = 0xFFFF
_HEALTH = struct.Struct(">QIIHB")
_UNGUARDED = 1
_TRIAL_SHIFT = 1
_TRIAL_MASK = 7


class Trial(IntEnum):
    """How far the trial of a ruleset came that ends by itself; three bits in the heartbeat."""

    NONE = 0
    PROVISIONAL = 1
    HELD = 2
    SETTLING = 3
    COMMITTING = 4
    UNKNOWN = 7
    """A phase that only a later version of the agent knows."""

    @classmethod
    def _missing_(cls, _value: object) -> Trial:
        return cls.UNKNOWN

    @property
    def word(self) -> str:
        """The phase as docs/rules.md has it; empty if nothing is on trial."""
        return self.name.lower() if self else ""


@dataclass(slots=True)
class Condition:
    """What heart and sync know of their own node; the engine has it from them."""

    wall_offset_ns: int = 0
    """Time of day less monotonic time; 0 if nobody has told."""
    disk_permille: int = DISK_UNKNOWN
    """What is free where the state is kept."""
    unguarded: bool = False
    """The gate is in place, but no gate service holds its table."""
    trial: Trial = Trial.NONE


@dataclass(frozen=True, slots=True)
class Health:
    """The same as said in a heartbeat; bitmaps of links have bit link - 1."""

    wall_ms: int = 0
    silent_hops: int = 0
    """Links on which none of the next hops has answered lately."""
    hears: int = 0
    """Links on which the peer was heard within `dead`."""
    disk_permille: int = DISK_UNKNOWN
    unguarded: bool = False
    trial: Trial = Trial.NONE

    def pack(self) -> bytes:
        """Return the value of the heartbeat's field."""
        flags = (_UNGUARDED if self.unguarded else 0) | self.trial << _TRIAL_SHIFT
        return _HEALTH.pack(self.wall_ms, self.silent_hops, self.hears, self.disk_permille, flags)


def unpack(value: bytes | None) -> Health | None:
    """Read the field; an agent that is older has none. Raises struct.error if it is too short."""
    if value is None:
        return None
    wall_ms, silent_hops, hears, disk_permille, flags = _HEALTH.unpack_from(value)
    trial = Trial(flags >> _TRIAL_SHIFT & _TRIAL_MASK)
    return Health(wall_ms, silent_hops, hears, disk_permille, bool(flags & _UNGUARDED), trial)


def of(node: Node, now_ns: int) -> Health:
    """Return what this node says of itself."""
    condition, hears = node.condition, 0
    for link in node.pulse.links.values():
        fresh = link.heard_ns is not None and now_ns - link.heard_ns < node.timing.dead_ms * MS_NS
        hears |= fresh << (link.number - 1)
    wall_ns = now_ns + condition.wall_offset_ns if condition.wall_offset_ns else 0
    return Health(
        wall_ms=max(0, wall_ns) // MS_NS,
        silent_hops=node.third_parties.silent_hops(now_ns),
        hears=hears,
        disk_permille=condition.disk_permille,
        unguarded=condition.unguarded,
        trial=condition.trial,
    )


def clock_ms(theirs: Health | None, condition: Condition, at_ns: int) -> int | None:
    """By how much the peer's clock is ahead, from a beat that arrived now; None if not known."""
    if theirs is None or not theirs.wall_ms or not condition.wall_offset_ns:
        return None
    return theirs.wall_ms - (at_ns + condition.wall_offset_ns) // MS_NS


@dataclass(frozen=True, slots=True)
class Side:
    """One node in the comparison."""

    name: str
    version: str
    keys: tuple[int, ...]
    carrier: int
    health: Health = field(default_factory=Health)


def compare(
    sides: tuple[Side, Side], spare: str, links: dict[int, str], clock: int | None
) -> tuple[str, ...]:
    """Return what speaks against the spare; the primary's side comes first, so both say the same.

    `links` is the name of each link by its number. Links and next hops count only where the other
    node is better off: what neither of them reaches, a switch does not lose.
    """
    first, second = sides
    reasons = []
    if first.version != second.version and first.version and second.version:
        reasons.append(f"{first.name} runs version {first.version}, {second.name} {second.version}")
    if first.keys != second.keys:
        accepted = (f"{side.name} {', '.join(map(str, side.keys))}" for side in sides)
        reasons.append(f"the two nodes accept different keys: {'; '.join(accepted)}")
    reasons += _cables(sides, spare, links)
    for side in sides:
        if side.health.disk_permille < DISK_PERMILLE_MIN:
            free = f"{side.health.disk_permille / 10:.1f} %"
            reasons.append(f"the disk of {side.name} has {free} left")
        if side.health.unguarded:
            reasons.append(f"the gate of {side.name} is not protected: its service is away")
        if side.health.trial:
            reasons.append(f"a ruleset is on trial on {side.name} ({side.health.trial.word})")
    if clock is not None and abs(clock) > CLOCKS_MS_MAX:
        reasons.append(f"the clocks of the two nodes differ by {abs(clock) / 1000:.1f} s")
    return tuple(reasons)


def _cables(sides: tuple[Side, Side], spare: str, links: dict[int, str]) -> list[str]:
    first, second = sides
    weak, strong = (first, second) if first.name == spare else (second, first)
    found = []
    for number, name in links.items():
        bit = 1 << (number - 1)
        if strong.carrier & bit and not weak.carrier & bit:
            found.append(f"{weak.name} has no carrier on {name}")
        if first.carrier & second.carrier & bit:
            for deaf, silent in (sides, (second, first)):
                if not deaf.health.hears & bit:
                    found.append(f"{deaf.name} does not hear {silent.name} on {name}")
        if weak.health.silent_hops & ~strong.health.silent_hops & bit:
            found.append(
                f"no next hop on {name} answers {weak.name}, and one answers {strong.name}"
            )
    return found


def reasons(node: Node, spare: str, now_ns: int) -> tuple[str, ...]:
    """Return what the comparison of this node with its living peer says; `spare` is a name."""
    beat, plan = node.pulse.beat, node.plan
    if beat is None or beat.health is None or not node.pulse.alive(now_ns):
        return ()
    mine = Side(plan.name, plan.version, node.accepted_keys, node.carrier_bits(), of(node, now_ns))
    theirs = Side(plan.peer_name, beat.version, beat.keys, beat.carrier, beat.health)
    sides = (mine, theirs) if plan.number < plan.peer_number else (theirs, mine)
    links = {link.number: link.name for link in plan.links}
    return compare(sides, spare, links, node.peer.clock_ms)
