# SPDX-License-Identifier: GPL-3.0-or-later
"""One node as a pure engine: bytes and the time go in, decisions and bytes come out.

Heart drives it, and so can a simulation: `hear`, `answer`, `woke` and `set_carrier` take the world
in; `decide` fires at most one rule; `message` and `probes` say what is to be sent. It owns the
role, the claim and the pulse of the peer, and nothing outside changes them.
"""

from __future__ import annotations

from dataclasses import replace

from amaranten_ha.core import health, herald, outlook, ready
from amaranten_ha.core.alarms import Alarms
from amaranten_ha.core.beat import (
    ACTIVE_ROLES,
    MAJOR,
    MESSAGE_BYTES_MAX,
    Beat,
    Flag,
    Kind,
    Offer,
    Replica,
    Role,
    decode,
    encode,
)
from amaranten_ha.core.claim import Claim, rank
from amaranten_ha.core.conflict import Conflicts
from amaranten_ha.core.damper import Damper
from amaranten_ha.core.dual_active import DualActive
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.faults import NatWatch
from amaranten_ha.core.margin import Margins
from amaranten_ha.core.monitor import Monitor, bit
from amaranten_ha.core.orders import Resume
from amaranten_ha.core.peer import Peer
from amaranten_ha.core.plan import NodePlan
from amaranten_ha.core.prober import Probe, Prober
from amaranten_ha.core.pulse import LinkPulse, Pulse, Target
from amaranten_ha.core.role import Action, Rule, View, decide
from amaranten_ha.core.seal import TAG_BYTES, KeyRing, Sealer
from amaranten_ha.core.third_parties import ThirdParties
from amaranten_ha.core.timing import MS_NS
from amaranten_ha.core.unsure import Unsure

_NO_FLAG = Flag(0)
BARRIER_ATTEMPT_BITS = 16
SEALED_BYTES_MAX = MESSAGE_BYTES_MAX + 1 + TAG_BYTES
"""Key id and tag follow the message."""


class Node:
    """The engine of one node."""

    def __init__(
        self,
        plan: NodePlan,
        session: int,
        last_active: int,
        now_ns: int,
        epoch: int = 0,
        resume: Resume | None = None,
    ) -> None:
        self.plan = plan
        self.timing = plan.timing
        self.role = Role.STARTING
        self.reason = "started"
        self.since_ns = self.active_since_ns = now_ns
        self.session, self.sequence = session, 0
        self.last_active = last_active
        self.epoch = max(epoch, last_active, resume.epoch if resume else 0)
        self.claim: Claim | None = None
        self.held = False
        self.held_until_ns: int | None = None
        self.hold_next_ns: int | None = None
        """Until when to be held once the hand-over under way is done."""
        self.config_digest = self.ruleset_digest = bytes(8)
        self.replica = Replica()
        self.nat = Flag(0)
        """Families for which this kernel has a chain of type nat."""
        self.gate_open = False
        """The kernel's gate is open: asked only by an announced restart."""
        self.speaks = True
        """Beats may leave; not while an announced restart, its gate open, waits to resume."""
        self.switchover, self.forced = "", False
        self.offer: Offer | None = None
        self.rejected: dict[str, int] = {}
        self.news: list[tuple[str, str]] = []
        """(kind, sentence) of what happened beside the role; heart takes them out."""
        self.peer, self.condition = Peer(), health.Condition()
        self.damper = Damper(plan.damping)
        self.third_parties = ThirdParties(plan)
        self._links = {link.number: link for link in plan.links}
        self._sealer = Sealer(plan.keys)
        self.pulse = Pulse(
            plan.timing,
            [LinkPulse(link.number, bool(link.peer_own), bool(link.shared)) for link in plan.links],
            session,
        )
        self.unsure = Unsure(self.pulse)
        self._carrier_bits, self._has_carrier = 0, False
        self.monitor = Monitor(plan)
        self.conflicts, self.alarms = Conflicts(plan.timing), Alarms(plan)
        self.dual: DualActive | None = None
        self.resume, self.nat_watch = resume, NatWatch(plan.timing)
        self._now_ns = now_ns
        self.active_seen_ns = self.first_carrier_ns = now_ns
        self.linked_ns = 0
        self.offer_since_ns = self._offer_attempts = self.yielded_ns = self.defended_ns = 0
        self.grace_until_ns = now_ns
        self._alike: herald.Common | None = None
        self.margins = Margins(plan.timing, self._links, now_ns)
        self._prober = Prober(plan, self.pulse, self.margins, self.third_parties, now_ns)

    # What comes in

    def hear(self, link: int, message: bytes, source_mac: bytes, at_ns: int) -> bool:
        """Take in the sealed heartbeat of a frame; False, and counted by kind, if it is not one."""
        if len(message) > SEALED_BYTES_MAX:
            return self._reject("length")
        if int.from_bytes(message[6:8]) != self.plan.cluster:
            return self._reject("cluster")
        body = self._sealer.open(message)
        if body is None:
            return self._reject("seal")
        try:
            beat = decode(body)
        except PeerError:
            return self._reject("format")
        if beat.node != self.plan.peer_number:
            return self._reject("own" if beat.node == self.plan.number else "node")
        if beat.link != link:
            self.alarms.miswired(link, beat.link, at_ns)
            return self._reject("link")
        if refusal := self.pulse.refusal(link, beat, at_ns):
            return self._reject(refusal)
        if beat.major != MAJOR:
            self._reject("version")
        self.pulse.heard(link, beat, source_mac, at_ns)
        self.peer.key_id = message[-TAG_BYTES - 1]
        self.margins.heard(link, beat, at_ns)
        self._take(beat, at_ns)
        return True

    def _take(self, beat: Beat, at_ns: int) -> None:
        if beat.sequence < self.pulse.sequence:
            return
        over = beat.role not in ACTIVE_ROLES or beat.kind is Kind.FAREWELL
        if over and self.claim and beat.epoch > self.claim.epoch:
            if self.peer.claim or beat.epoch > self.epoch:
                # It followed us, perhaps unheard, and hosts may have learned that.
                self.yielded_ns = at_ns
        self.epoch = max(self.epoch, beat.epoch, beat.last_active)
        self.peer.take(beat)
        self.peer.clock_ms = health.clock_ms(beat.health, self.condition, at_ns)
        self.damper.hear(beat.changes, at_ns)
        if self.peer.claim is not None:
            self.active_seen_ns = max(self.active_seen_ns, at_ns)

    def _reject(self, kind: str) -> bool:
        self.rejected[kind] = self.rejected.get(kind, 0) + 1
        return False

    def answer(self, link: int, address: IPAddress, mac: bytes, at_ns: int) -> None:
        """Take in that somebody else says to have an address."""
        plan, peer_mac = self._links[link], self.pulse.links[link].peer_mac
        of_peer = peer_mac is None or mac == peer_mac
        if address in plan.shared:
            self.active_seen_ns = max(self.active_seen_ns, at_ns)
            if not of_peer:
                self.conflicts.answered(link, plan.name, address, mac, at_ns)
            else:
                self.pulse.answered(link, Target.SHARED, at_ns)
        elif address in plan.peer_own:
            if of_peer:
                self.margins.answered(link, at_ns)
                self.pulse.answered(link, Target.OWN, at_ns)
        elif mac != peer_mac:
            self.third_parties.answered(link, address, at_ns)

    def set_carrier(self, link: int, usable: bool, now_ns: int) -> None:
        """Take in whether a link has carrier."""
        pulse = self.pulse.links[link]
        if usable and not any(each.usable for each in self.pulse.links.values()):
            self.first_carrier_ns = now_ns
        if usable and not pulse.usable and self._links[link].service and self.claim:
            self.linked_ns = now_ns
        pulse.usable = usable
        if not usable:
            pulse.unanswered = 0
        found = [each.number for each in self.pulse.links.values() if each.usable]
        self._carrier_bits = sum(bit(number) for number in found)
        self._has_carrier = any(self._links[number].service for number in found)

    def woke(self, late_ns: int, silent_ns: int, now_ns: int) -> None:
        """Take in how late this turn is, and how long ago our last heartbeat left.

        Whoever was late by half of `dead` accuses nobody for three beats. After ten `dead` in which
        nothing told that the peer forwards one such grace may begin, and another one once a turn
        was taken without: who is late at every turn must follow, too. An active node that was
        silent for longer than its lease is unsure until it has heard that nobody took over.
        """
        self.margins.woke(late_ns, now_ns)
        self.pulse.woke(silent_ns, now_ns)
        timing = self.timing
        told_ns = max(self.first_carrier_ns, self.pulse.heard_ns or 0, self.pulse.forwarded_ns)
        last_ns = told_ns + (timing.one_way_ms + timing.grace_ms) * MS_NS
        # A turn is planned a beat after the one before at the latest, and that one could accuse.
        again = self.grace_until_ns <= now_ns - late_ns - timing.beat_ms * MS_NS
        if late_ns > timing.dead_ms * MS_NS // 2 and (again or self.grace_until_ns < last_ns):
            self.grace_until_ns = now_ns + timing.grace_ms * MS_NS
        if self.role in ACTIVE_ROLES:
            self.unsure.woke(silent_ns, late_ns, self.sequence + 1, now_ns)

    # What is decided

    def decide(self, now_ns: int, fault: str = "") -> Rule | None:
        """Fire the first rule that matches, if any, and become what it says."""
        self._now_ns = now_ns
        self._expire(now_ns)
        self._watch(now_ns)
        view = outlook.view(self, now_ns, fault)
        rule = decide(view)
        self.speaks = not view.resuming
        if rule is None:
            return None
        before = self.role
        if rule.to is before:
            self._stay(rule, view)
            return rule
        if rule.to is Role.HANDING_OVER:
            self._make_offer(rule, view)
            self.reason = self.switchover or view.health or view.fault or view.conflict
        else:
            self.reason = f"fault: {view.fault}" if rule.to is Role.FAULT else rule.reason
            self._end_offer(rule)
        if rule.to is Role.ACTIVE and before is not Role.HANDING_OVER:
            self._become_active(rule, view)
            if before is Role.PASSIVE and rule.reason != "accepted hand-over":
                self.damper.add(self.epoch, now_ns)
        elif rule.to in (Role.PASSIVE, Role.FAULT):
            self._become_inactive(rule, now_ns)
        self.role, self.since_ns = rule.to, now_ns
        return rule

    def _stay(self, rule: Rule, view: View) -> None:
        """Carry out a rule that changes no role."""
        if Action.ANNOUNCE in rule.actions:
            self.defended_ns = view.now_ns
        elif Action.CLAIM in rule.actions:
            # The same epoch: it is still ours alone, and the role has not moved.
            self.claim = Claim(1, view.claim.epoch, view.claim.rank)
            self.peer.forget_claim()
        else:
            self.resume = None

    def _expire(self, now_ns: int) -> None:
        if self.held and self.held_until_ns is not None and now_ns >= self.held_until_ns:
            self.held, self.held_until_ns = False, None
            self.news.append(("held", "maintenance is over: its time has come"))
        if self.damper.damped(now_ns) != self.timing.damped:
            damped = not self.timing.damped
            self.timing = self.plan.timing.lengthened() if damped else self.plan.timing
            self.pulse.timing = self._prober.timing = self.timing
            text = "three unplanned changes within 10 min" if damped else "10 quiet min"
            self.news.append(
                ("damping", f"{text}: dead {self.timing.dead_ms} ms, lease {self.timing.lease_ms}")
            )

    def _watch(self, now_ns: int) -> None:
        alive = self.pulse.alive(now_ns)
        beat = self.pulse.beat if alive else None
        self.monitor.look(self._carrier_bits, beat.carrier if beat else 0, now_ns)
        flags = beat.flags if beat else _NO_FLAG
        self.nat_watch.look(self.nat, flags, self.role in ACTIVE_ROLES, now_ns)
        meets = alive and self.role is Role.ACTIVE and self.peer.claims_alone
        if meets and self.dual is None and self.claim and self.peer.claim:
            together_ms = min((now_ns - self.active_since_ns) // MS_NS, self.peer.active_ms)
            self.dual = DualActive(now_ns, together_ms, self.claim, self.peer.claim)
        elif self.dual and self.role is Role.ACTIVE and not meets:
            gone = "yielded" if alive else "was lost"
            if alive:
                self.yielded_ns = now_ns
            self._report_dual(f"{self.plan.peer_name} {gone}", "the other claim is higher", now_ns)

    def _report_dual(self, yielded: str, why: str, now_ns: int) -> None:
        if self.dual is not None:
            names = self.plan.name, self.plan.peer_name
            self.news.append(("dual-active", self.dual.report(*names, yielded, why, now_ns)))
            self.dual = None

    def _become_active(self, rule: Rule, view: View) -> None:
        self.claim = view.claim
        if rule.reason == "resumed" and self.resume:
            self.claim = Claim(self.resume.standing, self.resume.epoch, rank(self.plan.number))
        elif rule.reason == "accepted hand-over" and self.peer.claim:
            # Whoever gives the role away gives its standing along: it must not outrank the taker.
            standing = max(self.claim.standing, self.peer.claim.standing)
            self.claim = replace(self.claim, standing=standing)
        self.epoch = self.last_active = self.claim.epoch
        self.peer.forget_claim()
        self.active_since_ns = view.now_ns
        self.resume = None
        self.unsure.end()
        self.defended_ns = self.yielded_ns = self.linked_ns = 0

    def _become_inactive(self, rule: Rule, now_ns: int) -> None:
        if self.claim is not None:
            self.active_seen_ns = now_ns
            self._report_dual(f"{self.plan.name} yielded", rule.reason, now_ns)
        self.claim = self.resume = None
        self.unsure.end()

    def _make_offer(self, rule: Rule, view: View) -> None:
        """Offer the role; without a barrier if the replica is behind and the role goes anyway."""
        self._offer_attempts += 1
        epoch = self.epoch + 1
        attempt = self._offer_attempts % (1 << BARRIER_ATTEMPT_BITS)
        barrier = 0 if view.peer.behind else (epoch << BARRIER_ATTEMPT_BITS) + attempt
        self.offer = Offer(epoch, barrier)
        self.offer_since_ns = view.now_ns
        if rule.reason == "health":
            self.monitor.offered(view.now_ns)

    def _end_offer(self, rule: Rule) -> None:
        if self.hold_next_ns is not None and rule.reason == "handed over":
            self.held, self.held_until_ns = True, self.hold_next_ns
        self.offer = self.hold_next_ns = None
        self.switchover, self.forced = "", False

    # How the world looks

    def has_carrier(self) -> bool:
        """Say whether a service link has carrier."""
        return self._has_carrier

    def is_eligible(self) -> bool:
        """Say whether this node could be active."""
        return self.role is not Role.FAULT and not self.held and self.has_carrier()

    def carrier_bits(self) -> int:
        """Return the bitmap of the links with carrier."""
        return self._carrier_bits

    def hand_over_reasons(self, now_ns: int) -> tuple[str, ...]:
        """Return why the peer would not take a hand-over without a loss."""
        return ready.hand_over(ready.spare_of(self, now_ns), self.timing)

    def ready_reasons(self, now_ns: int) -> tuple[str, ...]:
        """Return every reason why the spare would not take over well now."""
        return ready.every(self, now_ns)

    # What goes out

    @property
    def accepted_keys(self) -> tuple[int, ...]:
        """The ids of the keys that this node accepts."""
        return self._sealer.accepted

    @property
    def send_key(self) -> int:
        """The id of the key that seals what this node says."""
        return self._sealer.send_id

    def take_keys(self, ring: KeyRing) -> None:
        """Accept and seal with these keys from now on."""
        self._sealer = Sealer(ring)

    def kind(self, now_ns: int) -> Kind:
        """Return the kind of an ordinary heartbeat now."""
        if self.unsure.lasts(now_ns):
            return Kind.UNSURE
        self.unsure.end()
        return Kind.BEAT

    def next_beat(self) -> None:
        """Begin a new heartbeat; all links carry the same sequence number."""
        self.sequence += 1
        self._alike = None

    def message(self, link: int, kind: Kind) -> bytes:
        """Return the sealed heartbeat for a link, as of the turn's decision."""
        self._alike = self._alike or herald.common(self, self._now_ns)
        return self._sealer.seal(encode(herald.beat(self, link, kind, self._alike)))

    def probes(self, now_ns: int) -> list[Probe]:
        """Return the questions that are due now; an active node asks nothing of its peer."""
        return self._prober.probes(now_ns, self.role in ACTIVE_ROLES)

    def due_ns(self, now_ns: int) -> int:
        """Return when the engine wants to be asked again, at the latest."""
        beat_ns, active = self.timing.beat_ms * MS_NS, self.role in ACTIVE_ROLES
        edges = [now_ns + beat_ns, self._prober.due_ns(active)]
        heard_ns = self.pulse.heard_ns
        if not active and heard_ns is not None:
            edges += [heard_ns + ms * MS_NS for ms in (self.timing.silent_ms, self.timing.dead_ms)]
        return min([edge for edge in edges if edge > now_ns])
