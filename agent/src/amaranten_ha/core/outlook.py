# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of one turn, as the role table reads it: put together from the parts of the engine.

The engine enters once a decision. Everything is read and nothing is changed, so that a rule can
only depend on what stands in the `View`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranten_ha.core import ready
from amaranten_ha.core.beat import ACTIVE_ROLES, Flag, Role
from amaranten_ha.core.claim import Claim, rank
from amaranten_ha.core.role import PeerView, View
from amaranten_ha.core.timing import MS_NS

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node

_ELIGIBLE, _HELD = int(Flag.ELIGIBLE), int(Flag.HELD)
_NOTHING_TO_GIVE = ("this node is not active",)


def view(node: Node, now_ns: int, fault: str = "") -> View:
    """Return the world of this turn."""
    pulse, parties = node.pulse, node.third_parties
    contact_ns = max(pulse.heard_ns or 0, pulse.unfresh_ns or 0)
    alone_since_ns = max(node.first_carrier_ns, contact_ns)
    conflict = node.conflicts.problem(now_ns)
    resumable, resuming = _resumes(node, now_ns, fault)
    missing_since_ns = pulse.missing_since_ns(now_ns)
    return View(
        now_ns=now_ns,
        timing=node.timing,
        role=node.role,
        since_ns=node.since_ns,
        claim=node.claim or _next_claim(node, now_ns, missing_since_ns),
        last_active=node.last_active,
        peer=_peer_view(node, now_ns),
        fault=_fault(node, now_ns, fault, conflict),
        conflict=conflict,
        conflict_ns=node.conflicts.lasting_ns(now_ns),
        held=node.held,
        grace=now_ns < node.grace_until_ns,
        carrier=node.has_carrier(),
        third_party=parties.gateway_answers(now_ns, missing_since_ns),
        third_party_known=parties.gateway_known,
        answering_ns=parties.answering_ns(now_ns, missing_since_ns),
        answered_ns=parties.answered_ns,
        nobody_active_ns=now_ns - node.active_seen_ns,
        alone_ns=now_ns - alone_since_ns,
        switchover=node.switchover,
        forced=node.forced,
        health=node.monitor.reason(now_ns) if node.role is Role.ACTIVE else "",
        resumable=resumable,
        resuming=resuming,
        wait_for_peer=node.plan.wait_for_peer,
        offer=node.offer,
        offer_since_ns=node.offer_since_ns,
        defended_ns=node.defended_ns,
        yielded_ns=node.yielded_ns,
        contact_ns=_contact_ns(node),
        linked_ns=node.linked_ns,
        unsure=node.unsure.lasts(now_ns),
        barrier=node.replica.barrier,
    )


def _fault(node: Node, now_ns: int, fault: str, conflict: str) -> str:
    if fault:
        return fault
    if conflict and node.role not in ACTIVE_ROLES:
        return conflict
    return node.nat_watch.problem(node.plan.peer_name, now_ns)


def _resumes(node: Node, now_ns: int, fault: str) -> tuple[bool | None, bool]:
    """Say whether an announced restart may go on as active (None: not yet), and whether it waits.

    Nobody else can have taken over while our kernel's gate was open; a newer epoch says so.
    """
    if node.resume is None or node.role is not Role.STARTING:
        return None, False
    late = now_ns >= node.resume.until_ns or node.epoch > node.resume.epoch
    if late or (not fault and not node.gate_open):
        return False, False
    return (None, True) if fault else (True, False)


def _contact_ns(node: Node) -> int:
    contact_ns, silence_ns = node.pulse.contact_ns, node.timing.dead_ms * MS_NS
    return contact_ns if contact_ns - node.active_since_ns >= silence_ns else 0


def _next_claim(node: Node, now_ns: int, missing_since_ns: int) -> Claim:
    """What answered before the peer was missing says nothing: its fate may be ours, too.

    Nor does what answered longer ago than a silent peer is probed before it is lost: everybody is
    asked all the time then, and we may be cut off while we wait for the end of its lease.
    """
    since_ns = missing_since_ns
    if since_ns:
        since_ns = max(since_ns, now_ns - node.timing.fresh_ms * MS_NS)
    standing = node.third_parties.answer(now_ns, since_ns)
    return Claim(int(standing), node.epoch + 1, rank(node.plan.number))


def _peer_view(node: Node, now_ns: int) -> PeerView:
    beat, pulse, peer = node.pulse.beat, node.pulse, node.peer
    silence = pulse.silence(now_ns)
    if beat is None:
        nobody = (f"{node.plan.peer_name} is not heard",)
        return PeerView(silence, False, Role.STARTING, False, False, unable=nobody)
    flags = int(beat.flags)
    unable: tuple[str, ...] = _NOTHING_TO_GIVE
    behind: tuple[str, ...] = ()
    if node.role in ACTIVE_ROLES:
        spare = ready.spare_of(node, now_ns)
        unable, behind = ready.unable(spare), ready.behind(spare, node.timing)
    return PeerView(
        silence=silence,
        alive=pulse.alive(now_ns),
        role=beat.role,
        heard_ns=pulse.heard_ns or 0,
        eligible=bool(flags & _ELIGIBLE),
        hears_me=pulse.hears_me(now_ns),
        deaf=pulse.deaf(now_ns),
        claim=peer.claim,
        last_active=beat.last_active,
        rank=rank(node.plan.peer_number),
        offer=peer.offer,
        offer_beats=peer.offer_beats,
        restarted=peer.active_session not in (0, beat.session),
        held=bool(flags & _HELD),
        unable=unable,
        behind=behind,
    )
