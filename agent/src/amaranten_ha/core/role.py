# SPDX-License-Identifier: GPL-3.0-or-later
"""The role machine: one table of rules, the first that matches fires, and its name is the reason.

Theory of operation. Heart looks at the world once a turn and puts it into a frozen `View`.
`decide` walks `RULES` from the top and returns the first rule whose roles contain the present one
and whose condition holds; its reason is what the log, the status and the operator say. A claim is
`(standing, epoch, rank)`, totally ordered and immutable; the highest wins, and it binds a node that
heard it since its own claim. Nobody claims while an active peer is alive unless it hands over:
that is why the node that comes back stays passive, whoever was "primary".

The actions of a rule are in the order that is safe when the node dies between any two of them: a
claim leaves before an address is put on, and a gate is closed before an address is taken off.
Only a hand-over lingers: a node that yields may have been fenced, and must not open its gate again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from amaranten_ha.core.beat import Offer, Role
from amaranten_ha.core.pulse import Silence
from amaranten_ha.core.timing import MS_NS, Timing


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """The right to be active that a node says it has; compared from left to right."""

    standing: int
    epoch: int
    rank: int
    """2 for the primary, 1 for the backup: decides only between two otherwise equal claims."""


def rank(node_number: int) -> int:
    """The primary (1) outranks the backup (2)."""
    return 3 - node_number


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
    claim: Claim | None = None
    """Its claim while it is active, if heard since our own."""
    last_active: int = 0
    rank: int = 0
    offer: Offer | None = None
    offer_beats: int = 0
    restarted: bool = False
    """It was active in an earlier session and came back without saying so."""
    ready: tuple[str, ...] = ()
    """Why it would not take a hand-over; empty if it would."""


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
    held: bool = False
    grace: bool = False
    carrier: bool = True
    """A service link has carrier."""
    third_party: bool | None = None
    """Did a gateway answer lately; None if there is none to ask."""
    third_party_known: bool = False
    """A gateway has answered since our start, so its silence means something."""
    nobody_active_ns: int = 0
    """For how long no active node has been heard and nobody answered for a shared address."""
    alone_ns: int = 0
    """For how long nothing was heard of the peer, counted from our first carrier."""
    switchover: str = ""
    """The reason of a requested switchover, empty if none."""
    offer: Offer | None = None
    offer_since_ns: int = 0
    defended_ns: int = 0
    """When the claim was last defended by an announcement."""
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
_CLOSE = (Action.CLOSE_GATE, Action.ADDRESSES_OFF)


def _peer_active(view: View) -> bool:
    return view.peer.alive and view.peer.role in (Role.ACTIVE, Role.HANDING_OVER)


def _peer_claims_higher(view: View) -> bool:
    return _peer_active(view) and view.peer.claim is not None and view.peer.claim > view.claim


def _peer_is_deaf(view: View) -> bool:
    return _peer_active(view) and view.peer.claim is not None and not view.peer.hears_me


def _defends(view: View) -> bool:
    return (
        _peer_active(view)
        and view.peer.claim is not None
        and view.elapsed(view.defended_ns, view.timing.defend_ms)
    )


def _may_hand_over(view: View) -> bool:
    return bool(view.switchover) and not view.peer.ready


def _offer_is_void(view: View) -> bool:
    return (
        not view.peer.alive
        or bool(view.peer.ready)
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
    )


def _may_claim(view: View) -> bool:
    return not view.held and not view.grace and view.carrier


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
    timing = view.timing
    wait_ms = timing.isolated_alone_ms if view.third_party is False else timing.isolated_ms
    wait_ns = wait_ms * MS_NS
    return _may_claim(view) and view.alone_ns >= wait_ns and view.nobody_active_ns >= wait_ns


_HOLDERS = frozenset({Role.ACTIVE, Role.HANDING_OVER})
_WAITING = frozenset({Role.STARTING, Role.PASSIVE})
_START, _PASSIVE, _ACTIVE = (
    frozenset({Role.STARTING}),
    frozenset({Role.PASSIVE}),
    frozenset({Role.ACTIVE}),
)

RULES: tuple[Rule, ...] = (
    Rule(_HOLDERS, lambda view: bool(view.fault), Role.FAULT, "fault", _CLOSE),
    Rule(_WAITING, lambda view: bool(view.fault), Role.FAULT, "fault", _CLOSE),
    Rule(
        frozenset({Role.FAULT}),
        lambda view: not view.fault,
        Role.STARTING,
        "fault is over",
        (),
    ),
    Rule(
        frozenset({Role.HANDING_OVER}),
        _peer_claims_higher,
        Role.PASSIVE,
        "handed over",
        _HANDED_OVER,
    ),
    Rule(_ACTIVE, _peer_claims_higher, Role.PASSIVE, "yield to higher claim", _CLOSE),
    Rule(_ACTIVE, _peer_is_deaf, Role.PASSIVE, "yield: peer is deaf", _CLOSE),
    Rule(_ACTIVE, _defends, Role.ACTIVE, "defend claim", (Action.ANNOUNCE,)),
    Rule(_ACTIVE, _may_hand_over, Role.HANDING_OVER, "switchover", (Action.OFFER,)),
    Rule(
        frozenset({Role.HANDING_OVER}),
        _offer_is_void,
        Role.ACTIVE,
        "offer withdrawn",
        (Action.WITHDRAW,),
    ),
    Rule(_PASSIVE, _accepts_offer, Role.ACTIVE, "accepted hand-over", _TAKE_OVER),
    Rule(_START, _peer_active, Role.PASSIVE, "peer is active", ()),
    Rule(_WAITING, _is_elected, Role.ACTIVE, "elected", _TAKE_OVER),
    Rule(_PASSIVE, _peer_restarted, Role.ACTIVE, "peer lost: agent restarted", _TAKE_OVER),
    Rule(_PASSIVE, _peer_lost(Silence.AGENT), Role.ACTIVE, "peer lost: agent", _TAKE_OVER),
    Rule(_PASSIVE, _peer_lost(Silence.MACHINE), Role.ACTIVE, "peer lost: machine", _TAKE_OVER),
    Rule(_PASSIVE, _peer_lost(Silence.FAREWELL), Role.ACTIVE, "peer lost: farewell", _TAKE_OVER),
    Rule(_START, _starts_isolated, Role.ACTIVE, "isolated start", _TAKE_OVER),
)


def decide(view: View) -> Rule | None:
    """Return the rule that fires in this view, or None if everything stays as it is."""
    for rule in RULES:
        if view.role in rule.roles and rule.when(view):
            return rule
    return None
