# SPDX-License-Identifier: GPL-3.0-or-later
"""One node as a pure engine: bytes and the time go in, decisions and bytes come out.

Heart drives it, and so can a simulation: `hear`, `answer`, `woke` and `set_carrier` take the world
in; `decide` fires at most one rule; `message` and `probes` say what is to be sent. It owns the
role, the claim and the pulse of the peer, and nothing outside changes them.
"""

from __future__ import annotations

from amaranten_ha.core import ready
from amaranten_ha.core.beat import Beat, Flag, Kind, Offer, Replica, Role, decode, encode
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.margin import Margins
from amaranten_ha.core.plan import NodePlan
from amaranten_ha.core.prober import Probe, Prober
from amaranten_ha.core.pulse import LinkPulse, Pulse, Target
from amaranten_ha.core.role import Claim, PeerView, Rule, View, decide, rank
from amaranten_ha.core.seal import Sealer
from amaranten_ha.core.timing import MS_NS

BARRIER_ATTEMPT_BITS = 16
_ACTIVE_ROLES = (Role.ACTIVE, Role.HANDING_OVER)


class Node:
    """The engine of one node."""

    def __init__(
        self, plan: NodePlan, session: int, last_active: int, now_ns: int, epoch: int = 0
    ) -> None:
        self.plan = plan
        self.timing = plan.timing
        self.role = Role.STARTING
        self.reason = "started"
        self.since_ns = now_ns
        self.session = session
        self.sequence = 0
        self.last_active = last_active
        self.epoch = max(epoch, last_active)
        self.claim: Claim | None = None
        self.held = False
        self.config_digest = self.ruleset_digest = bytes(8)
        self.replica = Replica()
        self.switchover = ""
        self.offer: Offer | None = None
        self.rejected: dict[str, int] = {}
        self._links = {link.number: link for link in plan.links}
        self._sealer = Sealer(plan.keys)
        self.pulse = Pulse(
            plan.timing,
            [LinkPulse(link.number, bool(link.peer_own), bool(link.shared)) for link in plan.links],
            session,
        )
        self._active_seen_ns = now_ns
        self._active_session = 0
        self._first_carrier_ns = now_ns
        self._peer_claim: Claim | None = None
        self._peer_offer: Offer | None = None
        self._peer_offer_sequence = 0
        self._peer_offer_beats = 0
        self._offer_since_ns = 0
        self._offer_attempts = 0
        self._defended_ns = 0
        self._grace_until_ns = now_ns
        self._unsure: tuple[int, int] | None = None
        self.margins = Margins(plan.timing, self._links, now_ns)
        self._prober = Prober(plan, self.pulse, self.margins, now_ns)
        self._gateway_ns: int | None = None

    # What comes in

    def hear(self, link: int, message: bytes, source_mac: bytes, at_ns: int) -> bool:
        """Take in the sealed heartbeat of a frame; False, and counted by kind, if it is not one."""
        body = self._sealer.open(message)
        if body is None:
            return self._reject("seal")
        try:
            beat = decode(body)
        except PeerError:
            return self._reject("format")
        if beat.cluster != self.plan.cluster:
            return self._reject("cluster")
        if beat.node != self.plan.peer_number:
            return self._reject("own" if beat.node == self.plan.number else "node")
        if beat.link != link:
            return self._reject("link")
        if not self.pulse.fresh(link, beat, at_ns):
            return self._reject("not fresh")
        self.pulse.heard(link, beat, source_mac, at_ns)
        self.margins.heard(link, beat, at_ns)
        self._take(beat, at_ns)
        return True

    def _take(self, beat: Beat, at_ns: int) -> None:
        if beat.sequence < self.pulse.sequence:
            return
        self.epoch = max(self.epoch, beat.epoch, beat.last_active)
        self._peer_claim = None
        if beat.role in _ACTIVE_ROLES and beat.kind is not Kind.FAREWELL:
            standing = int(Flag.STANDING in beat.flags)
            self._peer_claim = Claim(standing, beat.epoch, rank(beat.node))
            self._active_seen_ns = max(self._active_seen_ns, at_ns)
            self._active_session = beat.session
        if beat.offer != self._peer_offer:
            self._peer_offer, self._peer_offer_beats = beat.offer, 0
            self._peer_offer_sequence = -1
        if beat.sequence > self._peer_offer_sequence:
            self._peer_offer_sequence = beat.sequence
            self._peer_offer_beats += 1

    def _reject(self, kind: str) -> bool:
        self.rejected[kind] = self.rejected.get(kind, 0) + 1
        return False

    def answer(self, link: int, address: IPAddress, mac: bytes, at_ns: int) -> None:
        """Take in that somebody else says to have an address."""
        plan, peer_mac = self._links[link], self.pulse.links[link].peer_mac
        of_peer = peer_mac is None or mac == peer_mac
        if address in plan.shared:
            self._active_seen_ns = max(self._active_seen_ns, at_ns)
            if of_peer:
                self.pulse.answered(link, Target.SHARED, at_ns)
        elif address in plan.peer_own and of_peer:
            self.margins.answered(link, at_ns)
            self.pulse.answered(link, Target.OWN, at_ns)
        elif address in plan.gateways and mac != peer_mac:
            self._gateway_ns = at_ns

    def set_carrier(self, link: int, usable: bool, now_ns: int) -> None:
        """Take in whether a link has carrier."""
        if usable and not any(each.usable for each in self.pulse.links.values()):
            self._first_carrier_ns = now_ns
        self.pulse.links[link].usable = usable
        if not usable:
            self.pulse.links[link].unanswered = 0

    def woke(self, late_ns: int, silent_ns: int, now_ns: int) -> None:
        """Take in how late this turn is, and how long ago our last heartbeat left.

        Whoever was late by half of `dead` accuses nobody for three beats; an active node that was
        silent for longer than its lease is unsure until it has heard that nobody took over.
        """
        self.margins.woke(late_ns, now_ns)
        if late_ns > self.timing.dead_ms * MS_NS // 2:
            self._grace_until_ns = now_ns + self.timing.grace_ms * MS_NS
        if self.role in _ACTIVE_ROLES and silent_ns > self.timing.lease_ms * MS_NS:
            self._unsure = (self.sequence + 1, now_ns)

    # What is decided

    def decide(self, now_ns: int, fault: str = "") -> Rule | None:
        """Fire the first rule that matches, if any, and become what it says."""
        view = self.view(now_ns, fault)
        rule = decide(view)
        if rule is None:
            return None
        if rule.to is Role.ACTIVE and self.role in (Role.STARTING, Role.PASSIVE):
            self._become_active(view)
        elif rule.to is Role.HANDING_OVER:
            self._make_offer(now_ns)
        elif rule.reason == "defend claim":
            self._defended_ns = now_ns
            return rule
        elif rule.to in (Role.PASSIVE, Role.FAULT):
            self._become_inactive(now_ns)
        self.offer = self.offer if rule.to is Role.HANDING_OVER else None
        self.reason = self.switchover if rule.to is Role.HANDING_OVER else rule.reason
        if rule.to is not Role.HANDING_OVER:
            self.switchover = ""
        if rule.to is Role.FAULT:
            self.reason = f"fault: {fault}"
        self.role, self.since_ns = rule.to, now_ns
        return rule

    def _become_active(self, view: View) -> None:
        self.claim = view.claim
        self.epoch = self.last_active = view.claim.epoch
        self._peer_claim = None
        self._active_session = 0
        self._unsure = None
        self._defended_ns = 0

    def _become_inactive(self, now_ns: int) -> None:
        if self.claim is not None:
            self._active_seen_ns = now_ns
        self.claim = None
        self._unsure = None

    def _make_offer(self, now_ns: int) -> None:
        self._offer_attempts += 1
        epoch = self.epoch + 1
        attempt = self._offer_attempts % (1 << BARRIER_ATTEMPT_BITS)
        self.offer = Offer(epoch, (epoch << BARRIER_ATTEMPT_BITS) + attempt)
        self._offer_since_ns = now_ns

    def view(self, now_ns: int, fault: str = "") -> View:
        """Return the world of this turn."""
        pulse = self.pulse
        contact_ns = max(pulse.heard_ns or 0, pulse.unfresh_ns or 0)
        alone_since_ns = max(self._first_carrier_ns, contact_ns)
        return View(
            now_ns=now_ns,
            timing=self.timing,
            role=self.role,
            since_ns=self.since_ns,
            claim=self.claim or self._next_claim(now_ns),
            last_active=self.last_active,
            peer=self._peer_view(now_ns),
            fault=fault,
            held=self.held,
            grace=now_ns < self._grace_until_ns,
            carrier=self._has_carrier(),
            third_party=self.third_party(now_ns),
            third_party_known=self._gateway_ns is not None,
            nobody_active_ns=now_ns - self._active_seen_ns,
            alone_ns=now_ns - alone_since_ns,
            switchover=self.switchover,
            offer=self.offer,
            offer_since_ns=self._offer_since_ns,
            defended_ns=self._defended_ns,
            barrier=self.replica.barrier,
        )

    def _has_carrier(self) -> bool:
        return any(self.pulse.links[link.number].usable for link in self.plan.links if link.service)

    def _is_eligible(self) -> bool:
        return self.role is not Role.FAULT and not self.held and self._has_carrier()

    def third_party(self, now_ns: int) -> bool | None:
        """Say whether a gateway answered lately; None if there is none to ask."""
        if not any(link.gateways for link in self.plan.links):
            return None
        if self._gateway_ns is None:
            return False
        return now_ns - self._gateway_ns < 2 * self.timing.alone_ms * MS_NS

    def _next_claim(self, now_ns: int) -> Claim:
        standing = 0 if self.third_party(now_ns) is False else 1
        return Claim(standing, self.epoch + 1, rank(self.plan.number))

    def _peer_view(self, now_ns: int) -> PeerView:
        beat, pulse = self.pulse.beat, self.pulse
        silence = pulse.silence(now_ns)
        if beat is None:
            return PeerView(silence, False, Role.STARTING, False, False)
        return PeerView(
            silence=silence,
            alive=pulse.alive(now_ns),
            role=beat.role,
            eligible=Flag.ELIGIBLE in beat.flags,
            hears_me=pulse.hears_me(now_ns),
            claim=self._peer_claim,
            last_active=beat.last_active,
            rank=rank(self.plan.peer_number),
            offer=self._peer_offer,
            offer_beats=self._peer_offer_beats,
            restarted=self._active_session not in (0, beat.session),
            ready=self.hand_over_reasons(now_ns, self.role is Role.HANDING_OVER),
        )

    def hand_over_reasons(self, now_ns: int, offered: bool = False) -> tuple[str, ...]:
        """Return why the peer would not take a hand-over; an offered one is not asked for lag."""
        spare = self.spare(now_ns)
        if offered:
            return () if spare.alive and spare.eligible and not spare.held else ("not eligible",)
        return ready.hand_over(spare, self.timing)

    def spare(self, now_ns: int) -> ready.Spare:
        """Return the node that would have to take over: the peer, unless it is the active one."""
        pulse = self.pulse
        peer_is_active = pulse.alive(now_ns) and pulse.beat and pulse.beat.role in _ACTIVE_ROLES
        if peer_is_active and self.role not in _ACTIVE_ROLES:
            return ready.Spare(
                self.plan.name,
                True,
                self.role,
                self.held,
                self._is_eligible(),
                pulse.silent_ns(now_ns) < self.timing.dead_ms * MS_NS,
                self.replica,
            )
        return ready.spare_of_peer(
            self.plan.peer_name, pulse.alive(now_ns), pulse.beat, pulse.hears_me(now_ns)
        )

    def ready_reasons(self, now_ns: int) -> tuple[str, ...]:
        """Return every reason why the spare would not take over well now."""
        different = ready.differences(
            self.config_digest, self.ruleset_digest, self.pulse.beat
        )
        reasons = ready.hand_over(self.spare(now_ns), self.timing)
        if self.role not in (Role.ACTIVE, Role.PASSIVE):
            reasons = (f"{self.plan.name} is {self.role.word}", *reasons)
        return reasons + different

    # What goes out

    def kind(self, now_ns: int) -> Kind:
        """Return the kind of an ordinary heartbeat now."""
        if self._unsure is not None:
            sequence, since_ns = self._unsure
            echoed = self.pulse.echo_sequence >= sequence
            if not echoed and now_ns - since_ns < self.timing.dead_ms * MS_NS:
                return Kind.UNSURE
            self._unsure = None
        return Kind.BEAT

    def next_beat(self) -> None:
        """Begin a new heartbeat; all links carry the same sequence number."""
        self.sequence += 1

    def message(self, link: int, kind: Kind) -> bytes:
        """Return the sealed heartbeat for a link."""
        flags = Flag(0)
        if self.held:
            flags |= Flag.HELD
        if self._is_eligible():
            flags |= Flag.ELIGIBLE
        if self.claim is not None and self.claim.standing:
            flags |= Flag.STANDING
        pulse = self.pulse
        usable = (each.number for each in pulse.links.values() if each.usable)
        beat = Beat(
            cluster=self.plan.cluster,
            node=self.plan.number,
            role=self.role,
            link=link,
            session=self.session,
            sequence=self.sequence,
            kind=kind,
            flags=flags,
            epoch=self.epoch,
            last_active=self.last_active,
            echo_session=pulse.session,
            echo_sequence=pulse.sequence,
            echo_candidate=pulse.candidate,
            config_digest=self.config_digest,
            ruleset_digest=self.ruleset_digest,
            offer=self.offer,
            replica=self.replica,
            version=self.plan.version,
            carrier=sum(1 << (number - 1) for number in usable if number <= 32),
            keys=self._sealer.accepted,
            margin=self.margins.links[link].margin(),
            floors=self.margins.floors(),
        )
        return self._sealer.seal(encode(beat))

    def probes(self, now_ns: int) -> list[Probe]:
        """Return the questions that are due now; an active node asks none."""
        return [] if self.role in _ACTIVE_ROLES else self._prober.probes(now_ns)

    def due_ns(self, now_ns: int) -> int:
        """Return when the engine wants to be asked again, at the latest."""
        timing = self.timing
        edges = [now_ns + timing.beat_ms * MS_NS]
        heard_ns = self.pulse.heard_ns
        if self.role not in _ACTIVE_ROLES and heard_ns is not None:
            edges += [self._prober.due_ns, heard_ns + 2 * timing.beat_ms * MS_NS]
            edges += [heard_ns + timing.dead_ms * MS_NS]
        return min(edge for edge in edges if edge > now_ns)
