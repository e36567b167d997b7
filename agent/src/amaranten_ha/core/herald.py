# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself in a heartbeat: its role, its claim, its health, what it heard.

The engine enters for every link of every beat. Nothing is remembered here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranten_ha.core import health
from amaranten_ha.core.beat import ACTIVE_ROLES, Beat, Flag, Floors, Kind
from amaranten_ha.core.timing import MS_NS

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node


_HELD, _ELIGIBLE = int(Flag.HELD), int(Flag.ELIGIBLE)
_STANDING, _DAMPED = int(Flag.STANDING), int(Flag.DAMPED)


def flags(node: Node) -> Flag:
    """Return the facts of one bit each; plain integers, because this is said in every beat."""
    said = int(node.nat)
    if node.held:
        said |= _HELD
    if node.is_eligible():
        said |= _ELIGIBLE
    if node.claim is not None and node.claim.standing:
        said |= _STANDING
    if node.timing.damped:
        said |= _DAMPED
    return Flag(said)


@dataclass(frozen=True, slots=True)
class Common:
    """What a heartbeat says on every link alike, put together once."""

    flags: Flag
    active_ms: int
    changes: tuple[tuple[int, int], ...]
    floors: Floors
    health: health.Health


def common(node: Node, now_ns: int) -> Common:
    """Return what the heartbeat that begins now says on all links."""
    active_ns = now_ns - node.active_since_ns if node.role in ACTIVE_ROLES else 0
    return Common(
        flags=flags(node),
        active_ms=active_ns // MS_NS,
        changes=node.damper.told(now_ns),
        floors=node.margins.floors(),
        health=health.of(node, now_ns),
    )


def beat(node: Node, link: int, kind: Kind, alike: Common) -> Beat:
    """Return the heartbeat of a node for a link."""
    pulse, plan = node.pulse, node.plan
    return Beat(
        cluster=plan.cluster,
        node=plan.number,
        role=node.role,
        link=link,
        session=node.session,
        sequence=node.sequence,
        kind=kind,
        flags=alike.flags,
        # A claim is immutable: a higher epoch that was heard since must not be told as ours.
        epoch=node.claim.epoch if node.claim else node.epoch,
        last_active=node.last_active,
        echo_session=pulse.session,
        echo_sequence=pulse.sequence,
        echo_candidate=pulse.candidate,
        config_digest=node.config_digest,
        ruleset_digest=node.ruleset_digest,
        offer=node.offer,
        replica=node.replica,
        version=plan.version,
        carrier=node.carrier_bits(),
        keys=node.accepted_keys,
        active_ms=alike.active_ms,
        changes=alike.changes,
        margin=node.margins.links[link].margin(),
        floors=alike.floors,
        health=alike.health,
    )
