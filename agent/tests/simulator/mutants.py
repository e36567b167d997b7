# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that are wrong on purpose: a judge who never finds anything proves nothing.

The test of the mutants enters with a name and runs seeds until something is violated. Each mutant
changes one shipped object for as long as it is entered: a condition of the role table, a method, a
duration, a rule of the gate. The budget is the number of seeds within which it must be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from amaranten_ha.core import gate_rules, outlook, role
from amaranten_ha.core.beat import Beat, Kind, Role
from amaranten_ha.core.claim import Claim
from amaranten_ha.core.nft_words import Change, Lookup, Renew
from amaranten_ha.core.node import Node
from amaranten_ha.core.peer import Peer
from amaranten_ha.core.pulse import Pulse
from amaranten_ha.core.role import Action, Rule, View
from amaranten_ha.core.seal import ReplayWindow
from amaranten_ha.core.timing import MS_NS, Timing
from amaranten_ha.core.unsure import Unsure

Way = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way of being wrong, and how soon that must be seen."""

    name: str
    enter: Way
    budget: int


@contextmanager
def _instead(owner: Any, name: str, other: Any) -> Iterator[None]:
    shipped = owner.__dict__[name]
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, shipped)


def _attribute(owner: Any, name: str, other: Any) -> Way:
    return lambda: _instead(owner, name, other)


def _rules(change: Callable[[Rule], Rule | None]) -> Way:
    """Run each row of the role table through a change; None drops it."""

    def enter() -> AbstractContextManager[None]:
        rules = tuple(changed for rule in role.RULES if (changed := change(rule)) is not None)
        assert rules != role.RULES
        return _instead(role, "RULES", rules)

    return enter


def _view(reason: str, **other: Any) -> Way:
    """Let one row see a world in which these facts are different."""

    def change(rule: Rule) -> Rule:
        if rule.reason != reason:
            return rule
        return replace(rule, when=lambda view: rule.when(replace(view, **other)))

    return _rules(change)


def _without(reason: str) -> Way:
    return _rules(lambda rule: None if rule.reason == reason else rule)


def _actions(reason: str, *actions: Action) -> Way:
    return _rules(lambda each: replace(each, actions=actions) if each.reason == reason else each)


def _decided(**other: Any) -> Way:
    """Show every waiting node a world in which these facts are different."""
    shipped = outlook.view

    def view(node: Node, now_ns: int, fault: str = "") -> View:
        return replace(shipped(node, now_ns, fault), **other)

    return _attribute(outlook, "view", view)


def _late_hearing() -> AbstractContextManager[None]:
    """Decide first, and take in what had arrived only then."""
    hear, decide = Node.hear, Node.decide
    waiting: dict[int, list[tuple[Any, ...]]] = {}

    def put_off(self: Node, *frame: Any) -> bool:
        waiting.setdefault(id(self), []).append(frame)
        return True

    def decide_first(self: Node, *arguments: Any) -> Rule | None:
        rule = decide(self, *arguments)
        for frame in waiting.pop(id(self), []):
            hear(self, *frame)
        return rule

    @contextmanager
    def enter() -> Iterator[None]:
        with _instead(Node, "hear", put_off), _instead(Node, "decide", decide_first):
            yield

    return enter()


def _forgetful() -> AbstractContextManager[None]:
    """What sync wrote is not read at the start."""
    shipped = Node.__init__

    def init(self: Node, plan: Any, session: int, _last: int, now_ns: int, *more: Any) -> None:
        shipped(self, plan, session, 0, now_ns, 0, *more[1:])

    return _instead(Node, "__init__", init)


def _clinging() -> AbstractContextManager[None]:
    """An offer that was made once is believed until another one comes."""
    shipped = Peer.take

    def take(self: Peer, beat: Beat) -> None:
        known, beats = self.offer, self.offer_beats
        shipped(self, beat)
        if self.offer is None and known is not None:
            self.offer, self.offer_beats = known, max(beats, 2)

    return _instead(Peer, "take", take)


def _takes_withdrawn() -> AbstractContextManager[None]:
    clinging = _clinging()
    withdrawn = _rules(
        lambda rule: (
            replace(
                rule,
                when=lambda v: rule.when(replace(v, peer=replace(v.peer, role=Role.HANDING_OVER))),
            )
            if rule.reason == "accepted hand-over"
            else rule
        )
    )()

    @contextmanager
    def enter() -> Iterator[None]:
        with clinging, withdrawn:
            yield

    return enter()


def _gate(change: Callable[[gate_rules.Rule], gate_rules.Rule]) -> Way:
    """Run each rule of the gate's heartbeat chain through a change."""
    shipped = gate_rules._heartbeat

    def heartbeat(plan: gate_rules.Plan) -> tuple[gate_rules.Rule, ...]:
        return tuple(change(rule) for rule in shipped(plan))

    return _attribute(gate_rules, "_heartbeat", heartbeat)


def _opens_fenced(rule: gate_rules.Rule) -> gate_rules.Rule:
    if "LINGER" not in rule.comment:
        return rule
    kept = tuple(word for word in rule.expressions if not isinstance(word, Lookup))
    return replace(rule, expressions=kept)


def _never_closes(rule: gate_rules.Rule) -> gate_rules.Rule:
    if "FAREWELL" not in rule.comment:
        return rule
    kept = (
        word
        for word in rule.expressions
        if not (isinstance(word, Renew) and word.change is Change.DELETE)
    )
    return replace(rule, expressions=tuple(kept))


def _any_session() -> AbstractContextManager[None]:
    def refusal(self: Pulse, _link: int, beat: Beat, _at_ns: int) -> str:
        if beat.session != self.session:
            self.session, self.sequence = beat.session, 0
        return ""

    return _instead(Pulse, "refusal", refusal)


def _resumes_whatever(node: Node, _now_ns: int, _fault: str) -> tuple[bool | None, bool]:
    return (True, False) if node.resume and node.role is Role.STARTING else (None, False)


def _always_standing(node: Node, _now_ns: int, _since_ns: int) -> Claim:
    return Claim(1, node.epoch + 1, outlook.rank(node.plan.number))


def _never_accuses() -> AbstractContextManager[None]:
    """Whoever is late at every turn is in grace for ever."""
    shipped = Node.woke

    def woke(self: Node, late_ns: int, silent_ns: int, now_ns: int) -> None:
        shipped(self, late_ns, silent_ns, now_ns)
        if late_ns > self.timing.dead_ms * MS_NS // 2:
            self.grace_until_ns = now_ns + self.timing.grace_ms * MS_NS

    return _instead(Node, "woke", woke)


MUTANTS = (
    Mutant("no grace after a late wake-up", _decided(grace=False), 250),
    Mutant("accuses nobody while it is late", _never_accuses, 600),
    Mutant(
        "waits anew after every stall",
        _attribute(Unsure, "_may_be_followed", lambda *_arguments: True),
        600,
    ),
    Mutant("judges before it has drained", _late_hearing, 50),
    Mutant(
        "claims standing whoever answers", _attribute(outlook, "_next_claim", _always_standing), 300
    ),
    Mutant("forgets the epoch on disk", _forgetful, 200),
    Mutant("takes an offer that was withdrawn", _takes_withdrawn, 100),
    Mutant(
        "keeps its lease for three times as long",
        _attribute(Timing, "lease_kernel_ms", property(lambda self: 3 * self.lease_ms)),
        5,
    ),
    Mutant(
        "does not listen to the peer's kernel",
        _attribute(Pulse, "answered", lambda *_arguments: None),
        60,
    ),
    Mutant("says farewell with its gate open", _gate(_never_closes), 50),
    Mutant("lingers although it was fenced", _gate(_opens_fenced), 100),
    Mutant("believes a session that does not echo its own", _any_session, 20),
    Mutant(
        "accepts a heartbeat twice",
        _attribute(ReplayWindow, "accept", lambda *_arguments: True),
        20,
    ),
    Mutant("is never unsure", _attribute(Node, "kind", lambda *_arguments: Kind.BEAT), 250),
    Mutant("is elected without settling", _view("elected", nobody_active_ns=1 << 60), 400),
    Mutant("gives both the same rank", _attribute(outlook, "rank", lambda _number: 1), 5),
    Mutant(
        "resumes although it was followed", _attribute(outlook, "_resumes", _resumes_whatever), 400
    ),
    Mutant(
        "takes over before it has everything", _view("accepted hand-over", barrier=1 << 62), 100
    ),
    Mutant("never withdraws an offer", _without("offer withdrawn"), 100),
    Mutant("never yields to a deaf peer", _without("yield: peer is deaf"), 400),
    Mutant(
        "takes a peer for deaf that was out of reach",
        _attribute(Pulse, "deaf", lambda self, now_ns: not self.hears_me(now_ns)),
        300,
    ),
    Mutant("does not announce when the peer is heard again", _without("peer is heard again"), 400),
    Mutant("never yields to a higher claim", _without("yield to higher claim"), 200),
    Mutant("yields without closing", _actions("yield to higher claim", Action.ADDRESSES_OFF), 50),
    Mutant(
        "puts addresses on before the gate",
        _actions("peer lost: machine", Action.ADDRESSES_ON, Action.CLAIM, Action.ANNOUNCE),
        50,
    ),
    Mutant("takes over while held", _decided(held=False), 400),
    Mutant("takes over without carrier", _decided(carrier=True), 100),
)
