# SPDX-License-Identifier: GPL-3.0-or-later
"""The invariants: what must never be seen, and exactly what is forgiven, and why.

The world tells the judge what truly happens: what was said, what reached a port, what was drained,
which rule fired. The judge never asks an engine for its opinion of the peer, so an engine that is
wrong cannot excuse itself. The first thing that must not be raises `Violation`; docs/simulation.md
lists the names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amaranten_ha.core.beat import Kind, Role
from amaranten_ha.core.role import Rule
from amaranten_ha.core.timing import MS_NS, SILENT_BEATS
from simulator.contact import Contact
from simulator.fingerprint import fingerprint

if TYPE_CHECKING:
    from simulator.machine import Arrival, Machine, Sent
    from simulator.world import World

HOLDERS = (Role.ACTIVE, Role.HANDING_OVER)
LEASE_MS = {"metal": 64, "fast": 124, "virtual": 324, "relaxed": 1404}
"""The lease of each profile as the kernel keeps it, from the table of the design."""
DAMPED_LEASE_MS = {"metal": 244, "fast": 484, "virtual": 1284, "relaxed": 5604}
LINGER_MS = 104
GRACE_BEATS = 3
ONE_WAY_DEADS = 10
BACK_MS = 500
"""Who starts isolated within this time after its network came back has reached nobody before."""
SLACK_NS = 2 * MS_NS
"""What a frame needs from port to ring, and a turn from timer to decision."""


class Violation(Exception):
    """Something that must never be was seen; the first word names the invariant."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Judge:
    """Watches one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._told_ns = {1: 0, 2: 0}
        """When a heartbeat of the active other last reached a node."""
        self._answered_ns = {1: 0, 2: 0}
        """When the other's kernel last said to a node that it has a shared address."""
        self._missed_ns = {1: 0, 2: 0}
        """When one of these last came to the port of a node that did not run."""
        self._careful_until_ns = {1: 0, 2: 0}
        self._newest: dict[int, tuple[Sent, int] | None] = {1: None, 2: None}
        """The newest fresh heartbeat that a heart has drained, and when."""
        self._holder_heard_ns = {1: 0, 2: 0}
        """When the newest that it had drained last was that of an active other."""
        self._claims: dict[tuple[int, int], int] = {}
        self._last_claim = {1: 0, 2: 0}
        """The epoch of a node's newest claim."""
        self._claimed_ns = {1: 0, 2: 0}
        self._claimed_alone = {1: False, 2: False}
        self._given_by = {1: 0, 2: 0}
        """The epoch of the giver, if a node has its role from a hand-over."""
        self._lingers_until_ns = {1: 0, 2: 0}
        self._farewell_of: dict[int, int] = {}
        self._highest_written = {1: 0, 2: 0}
        self._heard_epoch = {1: 0, 2: 0}
        self._reaches = {1: True, 2: True}
        self._reaches_since_ns = {1: 0, 2: 0}
        self._listened_ns = {1: 0, 2: 0}
        """When a heart last drained something fresh."""
        self._contact = {1: Contact(), 2: Contact()}
        self._before: Any = None
        self.recordings: dict[int, list[tuple[int, Any, bytes]]] = {}
        """What an attacker has recorded of what a node was sent, if there is one."""
        self.counts: dict[str, int] = {}
        """How often each rule fired, for the summary of a campaign."""

    # What truly happens

    def missed(self, machine: Machine, arrival: Arrival) -> None:
        """Something came to the port of a machine that does not run."""
        if self._proves(machine, arrival):
            self._missed_ns[machine.number] = self._world.now_ns

    def thawed(self, machine: Machine, clocks_went_on: bool) -> None:
        """A machine goes on.

        If its clock shows that it comes late by half of `dead` it must be careful for three beats;
        a paused machine with a frozen clock cannot know.
        """
        timing, now_ns = machine.plan.timing, self._world.now_ns
        late_ns = machine.now_ns - machine.planned_ns
        if clocks_went_on and late_ns > timing.dead_ms * MS_NS // 2:
            if self._missed_ns[machine.number] >= machine.thawed_from_ns:
                grace_ns = GRACE_BEATS * timing.beat_ms * MS_NS
                self._careful_until_ns[machine.number] = now_ns + grace_ns

    def reached(self, machine: Machine, arrival: Arrival) -> None:
        """Something came into the receive ring of a node."""
        if self._proves(machine, arrival):
            table = self._told_ns if arrival.sent else self._answered_ns
            table[machine.number] = self._world.now_ns

    def _proves(self, machine: Machine, arrival: Arrival) -> bool:
        """Say whether a frame proves to this heart that the other node forwards."""
        heart, sent = machine.heart, arrival.sent
        if heart is None:
            return False
        if arrival.what == "answer":
            shared = machine.plan.links[arrival.link - 1].shared
            of_peer = arrival.mac == self._world.machines[3 - machine.number].mac
            return of_peer and arrival.content in shared
        return (
            sent is not None
            and not sent.forged
            and sent.kind is Kind.BEAT
            and sent.role in HOLDERS
            and heart.session in sent.fresh_for
        )

    def drained(self, machine: Machine, arrival: Arrival) -> None:
        """A heart takes a heartbeat out of its ring."""
        sent, heart = arrival.sent, machine.heart
        assert sent is not None and heart is not None
        if sent.forged:
            self._before = fingerprint(heart)
            return
        if machine.number in self.recordings:
            recorded = arrival.link, arrival.content, arrival.mac
            self.recordings[machine.number].append(recorded)
        if heart.session in sent.fresh_for:
            self._listened_ns[machine.number] = now_ns = self._world.now_ns
            dead_ns = heart.timing.dead_ms * MS_NS
            self._contact[machine.number].hears.sign(arrival.at_ns, dead_ns)
            known = self._newest[machine.number]
            if known is None or (sent.session, sent.sequence) >= known[0].order:
                self._newest[machine.number] = sent, now_ns
                if sent.role in HOLDERS:
                    self._holder_heard_ns[machine.number] = now_ns
                epoch = max(sent.epoch, self._heard_epoch[machine.number])
                self._heard_epoch[machine.number] = epoch

    def heard(self, machine: Machine, arrival: Arrival, taken: bool) -> None:
        """A heart has judged that heartbeat."""
        assert arrival.sent is not None and machine.heart is not None
        if arrival.sent.forged and (taken or self._before != fingerprint(machine.heart)):
            raise Violation("authentic", f"{machine.plan.name} believed a forged or replayed frame")

    def sent(self, machine: Machine, sent: Sent, was_open: bool) -> None:
        """A heart's frame has left, and the gate has seen it."""
        assert machine.heart is not None
        kernel, now_ns = machine.kernel, machine.now_ns
        name, timing = machine.plan.name, machine.heart.timing
        self._contact[machine.number].speaks.sign(now_ns, timing.dead_ms * MS_NS)
        left_ns = kernel.lease_until_ns - now_ns
        limits_ms = DAMPED_LEASE_MS if timing.damped else LEASE_MS
        limit_ms = LINGER_MS if sent.kind is Kind.LINGER else limits_ms[self._world.plan.profile]
        renews = sent.kind is Kind.LINGER or (sent.kind is Kind.BEAT and sent.role in HOLDERS)
        if renews and not kernel.deaf and left_ns > limit_ms * MS_NS:
            raise Violation("lease", f"the gate of {name} stays open for {left_ns // MS_NS} ms")
        if was_open or not kernel.forwards(now_ns):
            return
        if sent.kind is not Kind.BEAT:
            raise Violation("fenced", f"a {sent.kind.name} opened the closed gate of {name}")
        if self._claimed_ns[machine.number] == self._world.now_ns:
            return
        other = self._world.machines[3 - machine.number]
        since_ns = max(
            self._world.now_ns - machine.plan.timing.dead_ms * MS_NS,
            self._claimed_ns[machine.number],
        )
        told_ns, missed_ns = self._told_ns[machine.number], self._missed_ns[machine.number]
        if other.kernel.deaf and other.role not in HOLDERS:
            # A deaf gate closes only with its lease. Its node says already that it is not active,
            # and what came while this machine stood still cannot tell it more. Nor can what was
            # kept for it, once that word was heard again, later than together with what was kept.
            missed_ns = 0
            newest = self._newest[machine.number]
            if newest is not None and newest[1] > self._holder_heard_ns[machine.number]:
                told_ns = 0
        if self._newest_is_lower(machine):
            # The higher claim stays: who hears it yields at once, or "two active" says so.
            return
        knew_ns = max(told_ns, missed_ns)
        if other.forwards() and knew_ns > since_ns + SLACK_NS:
            raise Violation("reopened", f"{name} opened its gate again beside its active peer")

    def _newest_is_lower(self, machine: Machine) -> bool:
        newest, heart = self._newest[machine.number], machine.heart
        if newest is None or newest[0].claim is None or heart is None or heart.claim is None:
            return False
        return newest[0].claim < heart.claim

    def left(self, machine: Machine) -> None:
        """A heart has said farewell."""
        if machine.kernel.forwards(machine.now_ns) and not machine.kernel.deaf:
            raise Violation("farewell", f"{machine.plan.name} stopped and left its gate open")
        assert machine.heart is not None
        self._farewell_of[machine.number] = machine.heart.session

    def started(self, machine: Machine) -> None:
        """A heart starts, and knows nothing but what is on its disk."""
        number = machine.number
        self._newest[number] = None
        for table in (self._told_ns, self._answered_ns, self._missed_ns, self._careful_until_ns):
            table[number] = 0
        self._heard_epoch[number] = max(machine.disk)

    def written(self, machine: Machine) -> None:
        """A sync has written the epochs."""
        number = machine.number
        self._highest_written[number] = max(self._highest_written[number], *machine.disk)

    # What must not be

    def decided(self, machine: Machine, before: Role, rule: Rule) -> None:
        """A rule has fired, and its actions were not yet performed."""
        self.counts[rule.reason] = self.counts.get(rule.reason, 0) + 1
        if rule.reason == "resumed":
            self._resumed(machine)
        elif rule.reason == "third party answers":
            self._raised(machine)
        elif rule.to is Role.ACTIVE and before in (Role.STARTING, Role.PASSIVE):
            self._claimed(machine, rule.reason)
            self._given_by[machine.number] = 0
            if rule.reason == "accepted hand-over":
                self._accepted(machine)
            else:
                self._needed(machine, rule.reason)
            self._claimed_ns[machine.number] = self._world.now_ns
        elif rule.reason == "handed over":
            linger_ns = LINGER_MS * MS_NS
            self._lingers_until_ns[machine.number] = machine.now_ns + linger_ns
        elif rule.reason == "yield to higher claim":
            self._yields(machine)
        elif rule.reason == "yield: peer is deaf":
            self._yields_to_deaf(machine)

    def _claimed(self, machine: Machine, reason: str) -> None:
        assert machine.heart is not None and machine.heart.claim is not None
        epoch, number = machine.heart.claim.epoch, machine.number
        name, wires = machine.plan.name, self._world.wires
        if machine.fault or machine.heart.held:
            raise Violation("unfit", f"{name} became active, held or in fault")
        service = [link.number for link in machine.plan.links if link.service]
        if not any(wires.carrier(number, link) for link in service):
            raise Violation("unfit", f"{name} became active without a service link")
        if (epoch, number) in self._claims and self._highest_written[number] >= epoch:
            raise Violation("epoch", f"{name} claims epoch {epoch} a second time")
        if epoch <= self._heard_epoch[number]:
            raise Violation("epoch", f"{name} claims epoch {epoch}, which it had heard")
        back_ns = self._world.now_ns - self._reaches_since_ns[number]
        comes_back = reason == "isolated start" and back_ns < BACK_MS * MS_NS
        self._claimed_alone[number] = comes_back or self._reached_nobody(machine)
        self._claims[epoch, number] = self._world.now_ns
        self._last_claim[number] = epoch

    def _raised(self, machine: Machine) -> None:
        """Judge a claim that gains standing: the same right, so the epoch stays as it was."""
        assert machine.heart is not None and machine.heart.claim is not None
        number, epoch = machine.number, machine.heart.claim.epoch
        if (epoch, number) not in self._claims or epoch != self._last_claim[number]:
            raise Violation("epoch", f"{machine.plan.name} raises epoch {epoch}, not its claim")
        if self._reached_nobody(machine):
            raise Violation("standing", f"{machine.plan.name} gained standing and reaches nobody")
        self._claimed_alone[number] = False
        self._claimed_ns[number] = self._world.now_ns

    def _reached_nobody(self, machine: Machine) -> bool:
        """Say whether third parties were out of reach for as long as they were asked urgently.

        What had left when the last cable was cut still arrives, a question and its answer later.
        """
        timing, number = machine.plan.timing, machine.number
        asked_ms = timing.dead_ms - SILENT_BEATS * timing.beat_ms
        under_way_ns = 2 * self._world.plan.latency_us * 1000 + SLACK_NS
        since_ns = self._world.now_ns - asked_ms * MS_NS - under_way_ns
        return not self._reaches[number] and self._reaches_since_ns[number] <= since_ns

    def _resumed(self, machine: Machine) -> None:
        newest = self._newest[machine.number]
        assert machine.heart is not None and machine.heart.claim is not None
        if not machine.kernel.forwards(machine.now_ns):
            raise Violation("resumed", f"{machine.plan.name} went on although its gate was closed")
        if newest is not None and newest[0].epoch > machine.heart.claim.epoch:
            raise Violation("resumed", f"{machine.plan.name} went on although it was followed")

    def _accepted(self, machine: Machine) -> None:
        newest = self._newest[machine.number]
        if newest is None or newest[0].barrier is None:
            raise Violation("stale offer", f"{machine.plan.name} took what was not on offer")
        self._given_by[machine.number] = newest[0].epoch
        if machine.barrier < newest[0].barrier:
            raise Violation("barrier", f"{machine.plan.name} took over before it had everything")

    def _needed(self, machine: Machine, reason: str) -> None:
        assert machine.heart is not None
        other, timing = self._world.machines[3 - machine.number], machine.heart.timing
        if reason == "peer lost: farewell":
            newest = self._newest[machine.number]
            said = newest is not None and newest[0].kind is Kind.FAREWELL
            if not said or (other.forwards() and self._farewell_of.get(other.number) is None):
                raise Violation("needless", f"{machine.plan.name} took over without a farewell")
            return
        beats_ms = 2 * timing.beat_ms
        windows_ms = {
            "peer lost: machine": (timing.dead_ms, timing.dead_ms - beats_ms),
            "peer lost: agent": (beats_ms, 2 * timing.probe_us // 1000),
            "isolated start": (timing.isolated_ms, timing.isolated_ms),
        }.get(reason, (timing.settle_ms, timing.settle_ms))
        number, now_ns = machine.number, self._world.now_ns
        seen_ns = (self._told_ns[number], self._answered_ns[number])
        knew = any(
            seen > now_ns - window_ms * MS_NS + SLACK_NS
            for seen, window_ms in zip(seen_ns, windows_ms, strict=True)
        )
        hasty = reason.startswith("peer lost") and now_ns < self._careful_until_ns[number]
        if other.forwards() and (knew or hasty):
            raise Violation(
                "needless",
                f"{machine.plan.name} became active ({reason}) although it had been told shortly"
                f" before that {other.plan.name} forwards",
            )

    def _yields(self, machine: Machine) -> None:
        """Judge who keeps the role after a partition, if there are third parties to ask."""
        number, other = machine.number, 3 - machine.number
        newest = self._newest[number]
        if newest is None or newest[0].claim is None or newest[1] < self._claimed_ns[number]:
            raise Violation("memory", f"{machine.plan.name} yielded to a claim of the past")
        if newest[0].epoch <= self._given_by[number]:
            raise Violation("handed back", f"{machine.plan.name} yielded to who gave it the role")
        claimed_ns = self._claimed_ns[other]
        timing = machine.plan.timing
        since_ns = self._reaches_since_ns[number]
        carried = self._reaches[number] and since_ns <= claimed_ns - timing.dead_ms * MS_NS
        if self._world.plan.gateways and carried and self._claimed_alone[other]:
            raise Violation("standing", f"{machine.plan.name} yielded to who reached nobody")

    def _yields_to_deaf(self, machine: Machine) -> None:
        assert machine.heart is not None
        least_ms = (ONE_WAY_DEADS - 1) * machine.heart.timing.dead_ms
        if self._unheard_ns(machine) < least_ms * MS_NS:
            raise Violation("deaf", f"{machine.plan.name} yielded to a peer that could hear it")

    def _unheard_ns(self, machine: Machine) -> int:
        """For how long a node has heard the other, and spoken to it, and was not heard itself."""
        assert machine.heart is not None
        number, dead_ns = machine.number, machine.heart.timing.dead_ms * MS_NS
        contact_ns = self._contact[number].lasts_ns(machine.now_ns, dead_ns)
        return min(self._world.now_ns - self._listened_ns[3 - number], contact_ns)

    def turned(self, machine: Machine) -> None:
        """A heart has taken a turn: does its gate fit what it knows?"""
        heart, number, now_ns = machine.heart, machine.number, machine.now_ns
        if heart is None:
            return
        kernel, name = machine.kernel, machine.plan.name
        if heart.role not in HOLDERS:
            lingers = kernel.deaf or heart.resume or now_ns < self._lingers_until_ns[number]
            if kernel.forwards(now_ns) and not lingers:
                raise Violation("passive", f"{name} is {heart.role.word} with an open gate")
            if kernel.addresses_on and not heart.resume:
                raise Violation("passive", f"{name} has addresses, but is {heart.role.word}")
            return
        newest = self._newest[number]
        if newest is None or heart.claim is None:
            return
        said, at_ns = newest
        higher = said.claim is not None and said.claim > heart.claim
        if higher and said.kind is not Kind.FAREWELL and at_ns > self._claimed_ns[number]:
            raise Violation("two active", f"{name} stays active, and heard a higher claim")
        limit_ms = ONE_WAY_DEADS * heart.timing.dead_ms + heart.timing.dead_ms
        meets = said.claim is not None and said.kind is not Kind.FAREWELL
        if meets and at_ns == self._world.now_ns and self._unheard_ns(machine) > limit_ms * MS_NS:
            if said.claim.standing >= heart.claim.standing and at_ns > self._claimed_ns[number]:
                raise Violation("deaf", f"{name} stays active beside a peer that cannot hear it")

    def put_on(self, machine: Machine) -> None:
        """Shared addresses are put on."""
        if machine.now_ns >= machine.kernel.voice_until_ns:
            raise Violation("order", f"{machine.plan.name} has addresses before it has its gate")

    def network_changed(self) -> None:
        """Note who reaches a third party from now on."""
        for number, machine in self._world.machines.items():
            wires = self._world.wires
            reaches = any(
                wires.open(number, 0, link.number) and wires.open(0, number, link.number)
                for link in machine.plan.links
                if link.service
            )
            if reaches != self._reaches[number]:
                self._reaches[number] = reaches
                self._reaches_since_ns[number] = self._world.now_ns
