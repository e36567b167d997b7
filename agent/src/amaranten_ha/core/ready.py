# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer to "would the spare take over now?", with every reason, the same on both nodes.

Heart enters with what it knows of the two; the answer gates a switchover and is what an operator
reads. `unable` is what nobody can overrule; `behind` is what a planned switch would lose, and an
operator may insist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranten_ha.core import health
from amaranten_ha.core.beat import (
    ACTIVE_ROLES,
    MAJOR,
    Beat,
    Flag,
    Replica,
    ReplicaState,
    Role,
)
from amaranten_ha.core.timing import MS_NS, Timing

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node

SHARE_PERMILLE_MIN = 999


@dataclass(frozen=True, slots=True)
class Spare:
    """The passive node as either of the two sees it."""

    name: str
    alive: bool
    role: Role
    held: bool
    eligible: bool
    hears_active: bool
    replica: Replica
    major: int = MAJOR


def spare_of(node: Node, now_ns: int) -> Spare:
    """Return the node that would have to take over: the peer, unless it is the active one."""
    pulse = node.pulse
    alive, beat = pulse.alive(now_ns), pulse.beat
    if alive and beat and beat.role in ACTIVE_ROLES and node.role not in ACTIVE_ROLES:
        return Spare(
            node.plan.name,
            True,
            node.role,
            node.held,
            node.is_eligible(),
            pulse.silent_ns(now_ns) < node.timing.dead_ms * MS_NS,
            node.replica,
        )
    return spare_of_peer(node.plan.peer_name, alive, beat, pulse.hears_me(now_ns))


def spare_of_peer(name: str, alive: bool, beat: Beat | None, hears_me: bool) -> Spare:
    """See the peer as the spare, by its newest heartbeat."""
    if beat is None:
        return Spare(name, False, Role.STARTING, False, False, False, Replica())
    return Spare(
        name,
        alive,
        beat.role,
        Flag.HELD in beat.flags,
        Flag.ELIGIBLE in beat.flags,
        hears_me,
        beat.replica,
        beat.major,
    )


def unable(spare: Spare) -> tuple[str, ...]:
    """Return why the spare could not take the role at all; empty if it could."""
    if not spare.alive:
        return (f"{spare.name} is not heard",)
    reasons = []
    if spare.role is not Role.PASSIVE:
        reasons.append(f"{spare.name} is {spare.role.word}, not passive")
    if spare.held:
        reasons.append(f"{spare.name} is held in maintenance")
    elif not spare.eligible:
        reasons.append(f"{spare.name} says that it is not eligible")
    if not spare.hears_active:
        reasons.append(f"{spare.name} does not hear the active node")
    return tuple(reasons)


def behind(spare: Spare, timing: Timing) -> tuple[str, ...]:
    """Return what a spare that is alive would lose if it took the role now."""
    reasons = []
    if spare.major != MAJOR:
        reasons.append(f"{spare.name} speaks protocol {spare.major}, this node speaks {MAJOR}")
    replica = spare.replica
    if replica.state is not ReplicaState.SYNCED:
        reasons.append(f"the replica on {spare.name} is {replica.state.name.lower()}")
    elif replica.lag_ms > timing.lag_in_sync_ms:
        reasons.append(f"the replica on {spare.name} lags by {replica.lag_ms} ms")
    elif replica.share_permille < SHARE_PERMILLE_MIN:
        reasons.append(f"the replica on {spare.name} holds {replica.share_permille / 10:.1f} %")
    return tuple(reasons)


def hand_over(spare: Spare, timing: Timing) -> tuple[str, ...]:
    """Return why the spare could not take a hand-over without a loss; empty if it could."""
    reasons = unable(spare)
    return reasons + behind(spare, timing) if spare.alive else reasons


def catching_up(spare: Spare) -> bool:
    """Say whether all that speaks against a hand-over passes by itself: the copy is being made."""
    at_work = spare.replica.state in (ReplicaState.BULK, ReplicaState.SYNCED)
    return at_work and spare.major == MAJOR and not unable(spare)


def every(node: Node, now_ns: int) -> tuple[str, ...]:
    """Return all that speaks against the spare, what refuses a switchover first."""
    spare = spare_of(node, now_ns)
    reasons = hand_over(spare, node.timing)
    if node.role not in (Role.ACTIVE, Role.PASSIVE):
        reasons = (f"{node.plan.name} is {node.role.word}", *reasons)
    if node.held and node.role is Role.ACTIVE:
        reasons += (f"{node.plan.name} is held in maintenance",)
    if conflict := node.conflicts.problem(now_ns):
        reasons += (conflict,)
    different = differences(node.config_digest, node.ruleset_digest, node.pulse.beat)
    return reasons + different + health.reasons(node, spare.name, now_ns)


def differences(config_digest: bytes, ruleset_digest: bytes, beat: Beat | None) -> tuple[str, ...]:
    """Return in words what the two nodes do not have in common."""
    if beat is None:
        return ()
    reasons = []
    if beat.config_digest != config_digest:
        reasons.append("the two nodes have different configurations")
    if beat.ruleset_digest != ruleset_digest:
        reasons.append("the two nodes have different rulesets")
    return tuple(reasons)
