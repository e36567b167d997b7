# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator may order of a node, and the refusals in words.

The control socket enters with an order; the engine carries out what was not refused. Maintenance is
a flag beside the role, with an end that the engine watches over; a switchover is only asked for
here, and the role table grants it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranten_ha.core import ready
from amaranten_ha.core.beat import ACTIVE_ROLES, Role

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node


@dataclass(frozen=True, slots=True)
class Resume:
    """What an announced restart leaves to the next life of the agent in the same boot."""

    epoch: int
    standing: int
    until_ns: int


def switchover(node: Node, reason: str, force: bool, now_ns: int) -> list[str]:
    """Ask for a switchover; return why it is refused, or nothing."""
    if node.role is not Role.ACTIVE:
        return [
            f"this node is {node.role.word}, only the active one hands over:"
            f" ask {node.plan.peer_name}"
        ]
    if node.switchover:
        return ["a switchover is under way"]
    spare = ready.spare_of(node, now_ns)
    reasons = ready.unable(spare) if force else ready.hand_over(spare, node.timing)
    if not reasons:
        node.switchover, node.forced = reason, force
    return list(reasons)


def catching_up(node: Node, now_ns: int) -> bool:
    """Say whether a switchover that is refused now will be granted when the copy is made."""
    return (
        node.role is Role.ACTIVE
        and not node.switchover
        and ready.catching_up(ready.spare_of(node, now_ns))
    )


def hold(node: Node, until_ns: int, force: bool, now_ns: int) -> list[str]:
    """Put the node into maintenance; return why it is refused, or nothing.

    An active node hands over first and is held when that is done. If nobody can take over, force
    holds it as the active one: it goes on forwarding, and with its peer held too, nothing moves.
    """
    if node.role not in ACTIVE_ROLES or node.held:
        node.held, node.held_until_ns = True, until_ns
        return []
    if force and ready.unable(ready.spare_of(node, now_ns)):
        node.held, node.held_until_ns = True, until_ns
        return []
    reasons = switchover(node, "held", force, now_ns)
    if not reasons:
        node.hold_next_ns = until_ns
    return reasons


def release(node: Node) -> None:
    """End maintenance."""
    node.held, node.held_until_ns, node.hold_next_ns = False, None, None


def restart(node: Node, now_ns: int) -> Resume | None:
    """Return what the next life needs to go on as the active node; None if this is not one."""
    if node.role is not Role.ACTIVE or node.claim is None:
        return None
    until_ns = now_ns + node.timing.restarting_ms * 1_000_000
    return Resume(node.claim.epoch, node.claim.standing, until_ns)
