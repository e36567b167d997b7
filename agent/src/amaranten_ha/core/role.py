# SPDX-License-Identifier: GPL-3.0-or-later
"""The role machine: one table of rules, the first that matches fires, and its name is the reason.

Theory of operation. Heart looks at the world once a turn and puts it into a frozen `View`.
`decide` walks `RULES` from the top and returns the first rule whose roles contain the present one
and whose condition holds; its reason is what the log, the status and the operator say. The highest
claim wins, and it binds a node that heard it since its own. Nobody claims while an active peer is
alive unless it hands over: that is why the node that comes back stays passive, whoever was
"primary".

A fault closes the gate of a node that nobody can follow, and is a hand-over if somebody can. An
address conflict is a fault of a node that waits; an active one defends itself (RFC 5227, 2.4 c),
since a stranger's answer must not be able to take the firewall off its network.

The actions of a rule are in the order that is safe when the node dies between any two of them: a
claim leaves before an address is put on, and a gate is closed before an address is taken off.
Whoever follows a dead peer announces before it puts the addresses on: hosts wait for that word.
Only a hand-over lingers: a node that yields may have been fenced, and must not open its gate again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from amaranten_ha.core.beat import ACTIVE_ROLES, Offer, Role
from amaranten_ha.core.claim import Claim
from amaranten_ha.core.pulse import Silence
from amaranten_ha.core.timing import MS_NS, Timing


class Action(Enum):
    """What heart must do, in the order given by the rule."""

    CLAIM = "claim"
    OFFER = "offer"
    WITHDRAW = "withdraw"
    CLOSE_GATE = "close gate"
    LINGER = "linger"
    ADDRESSES_ON = "addresses on"
    ADDRESSES_OFF = "addresses off"
    ANNOUNCE = "announce"


@dataclass(frozen=True, slots=True)
class PeerView:
    """The peer as its newest heartbeat and its silence show it."""

    silence: Silence
    alive: bool
    role: Role
    eligible: bool
    hears_me: bool
    heard_ns: int = 0
    """When it was heard last."""
    deaf: bool = False
    """We have been hearing it, and speaking, for the one-way time, and it has not heard us."""
    claim: Claim | None = None
    """Its claim while it is active, if heard since our own."""
    last_active: int = 0
    rank: int = 0
    offer: Offer | None = None
    offer_beats: int = 0
    restarted: bool = False
    """It was active in an earlier session and came back without saying so."""
    held: bool = False
    unable: tuple[str, ...] = ()
    """Why it could not take the role at all; empty if it could."""
    behind: tuple[str, ...] = ()
    """What would be lost if it took the role now; empty if nothing."""


@dataclass(frozen=True, slots=True)
class View:
    """The world of one turn."""

    now_ns: int
    timing: Timing
    role: Role
    since_ns: int
    claim: Claim
    """Our claim while active, and the one that we could make otherwise."""
    last_active: int
    peer: PeerView
    fault: str = ""
    """Why this node must not be active, in a sentence; empty if it may."""
    conflict: str = ""
    """A stranger answers for a shared address, in a sentence."""
    conflict_ns: int = 0
    """For how long it has."""
    held: bool = False
    grace: bool = False
    carrier: bool = True
    """A service link has carrier."""
    third_party: bool | None = None
    """Did a gateway answer lately; None if there is none to ask."""
    third_party_known: bool = False
    """A gateway has answered since our start, so its silence means something."""
    answering_ns: int | None = None
    """For how long third parties have been answering; None if none does."""
    answered_ns: int = 0
    """When one of them answered last; 0 if none ever did."""
    nobody_active_ns: int = 0
    """For how long no active node has been heard and nobody answered for a shared address."""
    alone_ns: int = 0
    """For how long nothing was heard of the peer, counted from our first carrier."""
    switchover: str = ""
    """The reason of a requested switchover, empty if none."""
    forced: bool = False
    """The switchover was asked for whatever it may lose."""
    health: str = ""
    """Why a monitored interface makes the peer the better one, empty if none does."""
    resumable: bool | None = None
    """May this start go on as the active node it was? None if it was not announced, or not yet."""
    resuming: bool = False
    """An announced restart waits for its gate: not yet a fault, and no claim either."""
    wait_for_peer: bool = False
    offer: Offer | None = None
    offer_since_ns: int = 0
    defended_ns: int = 0
    """When the claim was last defended by an announcement."""
    yielded_ns: int = 0
    """When the peer, active at some time since we are, was heard not to be; 0 if it never was."""
    contact_ns: int = 0
    """When the peer was heard again after a silence of `dead` in which we were active; or 0."""
    linked_ns: int = 0
    """When a service link gained carrier while this node was active; 0 if none did."""
    unsure: bool = False
    """An active node whose lease ended does not know yet whether it was followed."""
    barrier: int = 0
    """The highest barrier that our replica has applied."""

    def elapsed(self, since_ns: int, duration_ms: int) -> bool:
        """Say whether a duration has passed since a time."""
        return self.now_ns - since_ns >= duration_ms * MS_NS


Condition = Callable[[View], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: in these roles, when this holds, become that, for this reason, by these actions."""

    roles: frozenset[Role]
    when: Condition
    to: Role
    reason: str
    actions: tuple[Action, ...]


_HANDED_OVER = (Action.LINGER, Action.ADDRESSES_OFF)
_TAKE_OVER = (Action.CLAIM, Action.ADDRESSES_ON, Action.ANNOUNCE)
_STEP_IN = (Action.CLAIM, Action.ANNOUNCE, Action.ADDRESSES_ON)
"""Nobody forwards now. What passes through needs the gate and the announcement, no address; and
the kernel may keep whoever puts one on waiting for as long as others change the network."""
_RESUME = (Action.CLAIM, Action.ANNOUNCE)
"""Announced, too: cut off from us, the peer may have had the addresses and lost them meanwhile."""
_CLOSE = (Action.CLOSE_GATE, Action.ADDRESSES_OFF)


def _peer_active(view: View) -> bool:
    return view.peer.alive and view.peer.role in ACTIVE_ROLES


def _peer_claims_higher(view: View) -> bool:
    """It binds however late it is heard: who was away for longer than `dead` was followed."""
    return view.peer.claim is not None and view.peer.claim > view.claim


def _peer_is_deaf(view: View) -> bool:
    """A deaf peer never yields; but who reached somebody yields to nobody who reached no one."""
    claim = view.peer.claim
    if claim is None or not _peer_active(view) or not view.peer.deaf:
        return False
    return claim.standing >= view.claim.standing


def _defends(view: View) -> bool:
    return (
        _peer_active(view)
        and view.peer.claim is not None
        and view.elapsed(view.defended_ns, view.timing.defend_ms)
    )


def _hears_peer_again(view: View) -> bool:
    """Whatever it was meanwhile, hosts and switches may have learned it: tell them again."""
    return view.peer.alive and view.contact_ns > view.defended_ns


def _link_is_back(view: View) -> bool:
    """Hosts that asked meanwhile have no answer, and a switch may have forgotten our port."""
    again = view.elapsed(view.defended_ns, view.timing.defend_ms)
    return view.linked_ns > view.defended_ns and again


def _peer_has_yielded(view: View) -> bool:
    """It answered for the addresses until then, so ours must be the last word."""
    return view.yielded_ns > view.defended_ns


def _defends_address(view: View) -> bool:
    return bool(view.conflict) and view.elapsed(view.defended_ns, view.timing.defend_ms)


def _earns_standing(view: View) -> bool:
    """By an answer of now. Whoever carried the traffic must be heard first.

    If the peer is heard after it, and is not active, that is this node; else it takes a while.
    """
    timing, answered_ns = view.timing, view.answered_ns
    answers = answered_ns > view.since_ns and not view.elapsed(answered_ns, timing.fresh_ms)
    if view.claim.standing or view.unsure or not answers or _peer_active(view):
        return False
    for_ns = view.answering_ns or 0
    lasts = for_ns >= timing.raise_ms * MS_NS and view.elapsed(view.since_ns, timing.raise_ms)
    meets = view.peer.alive and view.peer.heard_ns > answered_ns
    return meets or lasts


def _may_hand_over(view: View) -> bool:
    peer = view.peer
    return bool(view.switchover) and not peer.unable and (view.forced or not peer.behind)


def _is_worse(view: View) -> bool:
    peer = view.peer
    return bool(view.health) and not view.held and not peer.unable and not peer.behind


def _flees_fault(view: View) -> bool:
    return bool(view.fault) and not view.peer.unable


def _flees_conflict(view: View) -> bool:
    lasts = view.conflict_ns >= view.timing.conflict_ms * MS_NS
    return bool(view.conflict) and lasts and not view.peer.unable and not view.peer.behind


def _offer_is_void(view: View) -> bool:
    peer = view.peer
    return (
        not peer.alive
        or not peer.eligible
        or peer.held
        or view.elapsed(view.offer_since_ns, view.timing.offer_ms)
    )


def _accepts_offer(view: View) -> bool:
    offer = view.peer.offer
    return (
        offer is not None
        and view.peer.alive
        and view.peer.role is Role.HANDING_OVER
        and view.peer.offer_beats >= 2
        and view.peer.hears_me
        and view.barrier >= offer.barrier
        and not view.held
        and view.carrier
    )


def _may_claim(view: View) -> bool:
    return not view.held and not view.grace and view.carrier and not view.fault


def _is_elected(view: View) -> bool:
    return (
        _may_claim(view)
        and view.peer.alive
        and not _peer_active(view)
        and view.nobody_active_ns >= view.timing.settle_ms * MS_NS
        and view.elapsed(view.since_ns, view.timing.settle_ms)
        and (
            not view.peer.eligible
            or (view.last_active, view.claim.rank) > (view.peer.last_active, view.peer.rank)
        )
    )


def _peer_restarted(view: View) -> bool:
    return (
        _may_claim(view)
        and view.peer.alive
        and view.peer.restarted
        and not _peer_active(view)
        and view.nobody_active_ns >= view.timing.settle_ms * MS_NS
    )


def _peer_lost(kind: Silence) -> Condition:
    def condition(view: View) -> bool:
        cut_off = view.third_party is False and view.third_party_known
        waits_ms = view.timing.dead_ms + view.timing.alone_ms if cut_off else 0
        return _may_claim(view) and view.peer.silence is kind and view.alone_ns >= waits_ms * MS_NS

    return condition


def _starts_isolated(view: View) -> bool:
    """Not at the first answer of a network that comes back: the peer may be heard with it."""
    timing = view.timing
    wait_ms = timing.isolated_alone_ms if view.third_party is False else timing.isolated_ms
    wait_ns = wait_ms * MS_NS
    comes_back = view.answering_ns is not None and view.answering_ns < timing.raise_ms * MS_NS
    if view.wait_for_peer or comes_back:
        return False
    return _may_claim(view) and view.alone_ns >= wait_ns and view.nobody_active_ns >= wait_ns


_START, _PASSIVE, _ACTIVE, _GIVING, _FAULT = (frozenset({role}) for role in Role)
_WAITING = _START | _PASSIVE

RULES: tuple[Rule, ...] = (
    Rule(_GIVING, _peer_claims_higher, Role.PASSIVE, "handed over", _HANDED_OVER),
    Rule(_GIVING, lambda v: bool(v.fault) and _offer_is_void(v), Role.FAULT, "fault", _CLOSE),
    Rule(_ACTIVE, _flees_fault, Role.HANDING_OVER, "fault: hand over first", (Action.OFFER,)),
    Rule(_ACTIVE, lambda view: bool(view.fault), Role.FAULT, "fault", _CLOSE),
    Rule(_WAITING, lambda v: bool(v.fault) and not v.resuming, Role.FAULT, "fault", _CLOSE),
    Rule(_FAULT, lambda view: not view.fault, Role.STARTING, "fault is over", ()),
    Rule(_ACTIVE, _peer_claims_higher, Role.PASSIVE, "yield to higher claim", _CLOSE),
    Rule(_ACTIVE, _peer_is_deaf, Role.PASSIVE, "yield: peer is deaf", _CLOSE),
    Rule(_ACTIVE, _defends, Role.ACTIVE, "defend claim", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _peer_has_yielded, Role.ACTIVE, "peer has yielded", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _hears_peer_again, Role.ACTIVE, "peer is heard again", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _link_is_back, Role.ACTIVE, "link is back", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _may_hand_over, Role.HANDING_OVER, "switchover", (Action.OFFER,)),
    Rule(_ACTIVE, _is_worse, Role.HANDING_OVER, "health", (Action.OFFER,)),
    Rule(_ACTIVE, _flees_conflict, Role.HANDING_OVER, "address conflict", (Action.OFFER,)),
    Rule(_ACTIVE, _defends_address, Role.ACTIVE, "defend address", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _earns_standing, Role.ACTIVE, "third party answers", (Action.CLAIM,)),
    Rule(_GIVING, _offer_is_void, Role.ACTIVE, "offer withdrawn", (Action.WITHDRAW,)),
    Rule(_PASSIVE, _accepts_offer, Role.ACTIVE, "accepted hand-over", _TAKE_OVER),
    Rule(_START, lambda v: v.resumable is True, Role.ACTIVE, "resumed", _RESUME),
    Rule(_START, lambda v: v.resumable is False, Role.STARTING, "not resumed", _CLOSE),
    Rule(_START, _peer_active, Role.PASSIVE, "peer is active", ()),
    Rule(_WAITING, _is_elected, Role.ACTIVE, "elected", _TAKE_OVER),
    Rule(_PASSIVE, _peer_restarted, Role.ACTIVE, "peer lost: agent restarted", _STEP_IN),
    Rule(_PASSIVE, _peer_lost(Silence.AGENT), Role.ACTIVE, "peer lost: agent", _STEP_IN),
    Rule(_PASSIVE, _peer_lost(Silence.MACHINE), Role.ACTIVE, "peer lost: machine", _STEP_IN),
    Rule(_PASSIVE, _peer_lost(Silence.FAREWELL), Role.ACTIVE, "peer lost: farewell", _STEP_IN),
    Rule(_START, _starts_isolated, Role.ACTIVE, "isolated start", _TAKE_OVER),
)


def decide(view: View) -> Rule | None:
    """Return the rule that fires in this view, or None if everything stays as it is."""
    for rule in RULES:
        if view.role in rule.roles and rule.when(view):
            return rule
    return None
