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
from simulator.fingerprint import fingerprint
from simulator.witness import HOLDERS, ONE_WAY_DEADS, SLACK_NS, Witness

if TYPE_CHECKING:
    from simulator.frames import Arrival, Sent
    from simulator.machine import Machine
    from simulator.world import World

LEASE_MS = {"metal": 64, "fast": 124, "virtual": 324, "relaxed": 1404}
"""The lease of each profile as the kernel keeps it, from the table of the design."""
DAMPED_LEASE_MS = {"metal": 244, "fast": 484, "virtual": 1284, "relaxed": 5604}
LINGER_MS = 104
ASK_MS, RAISE_MS = 500, 1000
"""How often a third party is asked in quiet times, and for how long it must answer one alone."""
BACK_MS = 500
"""Who starts isolated within this time after its network came back has reached nobody before."""


class Violation(Exception):
    """Something that must never be was seen; the first word names the invariant."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


class Judge:
    """Watches one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.witness = {1: Witness(world), 2: Witness(world)}
        """What each node could truly know."""
        self._claims: dict[tuple[int, int], int] = {}
        self._last_claim = {1: 0, 2: 0}
        """The epoch of a node's newest claim."""
        self._claimed_ns = {1: 0, 2: 0}
        self._took_over_ns = {1: 0, 2: 0}
        """When a node became active last; its claim may have gained standing since."""
        self._claimed_alone = {1: False, 2: False}
        self._given_by = {1: 0, 2: 0}
        """The epoch of the giver, if a node has its role from a hand-over."""
        self._lingers_until_ns = {1: 0, 2: 0}
        self._farewell_of: dict[int, int] = {}
        self._highest_written = {1: 0, 2: 0}
        self._renewed_until_ns = {1: 0, 2: 0}
        """Until when the gate stays open by what a heart said last; by the node's own clock."""
        self._before: Any = None
        self.recordings: dict[int, list[tuple[int, Any, bytes]]] = {}
        """What an attacker has recorded of what a node was sent, if there is one."""
        self.counts: dict[str, int] = {}
        """How often each rule fired, for the summary of a campaign."""

    # What truly happens

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
        self.witness[machine.number].drained(machine, arrival)

    def heard(self, machine: Machine, arrival: Arrival, taken: bool) -> None:
        """A heart has judged that heartbeat."""
        assert arrival.sent is not None and machine.heart is not None
        if arrival.sent.forged and (taken or self._before != fingerprint(machine.heart)):
            raise Violation("authentic", f"{machine.plan.name} believed a forged or replayed frame")

    def sent(self, machine: Machine, sent: Sent, was_open: bool) -> None:
        """A heart's frame has left, and the gate has seen it."""
        assert machine.heart is not None
        kernel, now_ns, number = machine.kernel, machine.now_ns, machine.number
        name, timing = machine.plan.name, machine.heart.timing
        self.witness[number].contact.speaks.sign(now_ns, timing.dead_ms * MS_NS)
        would_be_open = now_ns < self._renewed_until_ns[number]
        self._renewed_until_ns[number] = self._renewed(machine, sent)
        if was_open or not kernel.forwards(now_ns):
            return
        if sent.kind is not Kind.BEAT:
            raise Violation("fenced", f"a {sent.kind.name} opened the closed gate of {name}")
        if would_be_open or self._took_over_ns[number] == self._world.now_ns:
            # Somebody emptied the gate's sets within its lease; or the node has just taken over.
            return
        if self._newest_is_lower(machine):
            # The higher claim stays: who hears it yields at once, or "two active" says so.
            return
        since_ns = self._world.now_ns - machine.plan.timing.dead_ms * MS_NS
        since_ns = max(since_ns, self._claimed_ns[number]) + SLACK_NS
        if self._world.machines[3 - number].forwards() and self._knew_ns(machine) > since_ns:
            raise Violation("reopened", f"{name} opened its gate again beside its active peer")

    def _renewed(self, machine: Machine, sent: Sent) -> int:
        """Return until when the gate is open by what was just said, and judge its length."""
        assert machine.heart is not None
        kernel, now_ns = machine.kernel, machine.now_ns
        limits_ms = DAMPED_LEASE_MS if machine.heart.timing.damped else LEASE_MS
        limit_ms = LINGER_MS if sent.kind is Kind.LINGER else limits_ms[self._world.plan.profile]
        renews = sent.kind is Kind.LINGER or (sent.kind is Kind.BEAT and sent.role in HOLDERS)
        if renews and kernel.deaf:
            # As if the gate had stayed: who makes it anew must not lose what was said meanwhile.
            return now_ns + limit_ms * MS_NS
        left_ns = kernel.lease_until_ns - now_ns
        if renews and left_ns > limit_ms * MS_NS:
            text = f"the gate of {machine.plan.name} stays open for {left_ns // MS_NS} ms"
            raise Violation("lease", text)
        return kernel.lease_until_ns if kernel.forwards(now_ns) else 0

    def _knew_ns(self, machine: Machine) -> int:
        """When a node could last know that the other forwards."""
        knows, other = self.witness[machine.number], self._world.machines[3 - machine.number]
        if not _has_given_up(other):
            return max(knows.told_ns, knows.missed_ns)
        # What came while this machine stood still cannot tell it more than that. Nor can what was
        # kept for it, once that word was heard again, later than together with what was kept.
        heard_again = knows.newest is not None and knows.newest[1] > knows.holder_heard_ns
        return 0 if heard_again else knows.told_ns

    def _newest_is_lower(self, machine: Machine) -> bool:
        newest, heart = self.witness[machine.number].newest, machine.heart
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
        """A heart starts."""
        self.witness[machine.number].started(max(machine.disk))
        self._renewed_until_ns[machine.number] = 0

    def written(self, machine: Machine) -> None:
        """A sync has written the epochs."""
        number = machine.number
        self._highest_written[number] = max(self._highest_written[number], *machine.disk)

    def forgotten(self, epoch: int) -> bool:
        """Say whether an epoch was claimed by a heart that ended before sync had written it."""
        return any(
            claimed == epoch and self._highest_written[number] < epoch
            for claimed, number in self._claims
        )

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
            self._took_over_ns[machine.number] = self._world.now_ns
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
        if epoch <= self.witness[number].heard_epoch:
            raise Violation("epoch", f"{name} claims epoch {epoch}, which it had heard")
        back_ns = self._world.now_ns - self.witness[number].reaches_since_ns
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
        """Say whether third parties were out of reach for as long as an answer means anything.

        What had left when the last cable was cut still arrives, a question and its answer later.
        """
        timing, knows = machine.plan.timing, self.witness[machine.number]
        asked_ms = max(timing.dead_ms - SILENT_BEATS * timing.beat_ms, timing.dead_ms // 2)
        under_way_ns = 2 * self._world.plan.latency_us * 1000 + SLACK_NS
        since_ns = machine.now_ns - asked_ms * MS_NS - under_way_ns
        return not knows.reaches and knows.reaches_since_own_ns <= since_ns

    def _resumed(self, machine: Machine) -> None:
        newest = self.witness[machine.number].newest
        assert machine.heart is not None and machine.heart.claim is not None
        if not machine.kernel.forwards(machine.now_ns):
            raise Violation("resumed", f"{machine.plan.name} went on although its gate was closed")
        if newest is not None and newest[0].epoch > machine.heart.claim.epoch:
            raise Violation("resumed", f"{machine.plan.name} went on although it was followed")

    def _accepted(self, machine: Machine) -> None:
        newest = self.witness[machine.number].newest
        if newest is None or newest[0].barrier is None:
            raise Violation("stale offer", f"{machine.plan.name} took what was not on offer")
        self._given_by[machine.number] = newest[0].epoch
        # The giver's right goes along: what was handed over is no prize of a partition.
        self._claimed_alone[machine.number] &= self._claimed_alone[3 - machine.number]
        if machine.barrier < newest[0].barrier:
            raise Violation("barrier", f"{machine.plan.name} took over before it had everything")

    def _needed(self, machine: Machine, reason: str) -> None:
        assert machine.heart is not None
        other, timing = self._world.machines[3 - machine.number], machine.heart.timing
        if reason == "peer lost: farewell":
            newest = self.witness[machine.number].newest
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
        knows, now_ns = self.witness[machine.number], self._world.now_ns
        # Who has given up has taken its addresses off: what it answered before is over.
        over = reason == "peer lost: agent" and _has_given_up(other)
        seen_ns = knows.told_ns, 0 if over else knows.answered_ns
        knew = any(
            at_ns > now_ns - window_ms * MS_NS + SLACK_NS
            for at_ns, window_ms in zip(seen_ns, windows_ms, strict=True)
        )
        hasty = reason.startswith("peer lost") and now_ns < knows.careful_until_ns
        if other.forwards() and (knew or hasty):
            raise Violation(
                "needless",
                f"{machine.plan.name} became active ({reason}) although it had been told shortly"
                f" before that {other.plan.name} forwards",
            )

    def _yields(self, machine: Machine) -> None:
        """Judge who keeps the role after a partition, if there are third parties to ask."""
        number, other = machine.number, 3 - machine.number
        knows, newest = self.witness[number], self.witness[number].newest
        if newest is None or newest[0].claim is None or newest[1] < self._claimed_ns[number]:
            raise Violation("memory", f"{machine.plan.name} yielded to a claim of the past")
        if newest[0].epoch <= self._given_by[number]:
            raise Violation("handed back", f"{machine.plan.name} yielded to who gave it the role")
        carried_ms = machine.plan.timing.dead_ms
        if self._claimed_alone[number]:
            # Its claim has no standing yet: it may ask for so long until it earns one.
            carried_ms = RAISE_MS + 2 * ASK_MS
        since_ns = self._claimed_ns[other] - carried_ms * MS_NS
        carried = knows.reaches and knows.reaches_since_ns <= since_ns
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
        contact_ns = self.witness[number].contact.lasts_ns(machine.now_ns, dead_ns)
        return min(self._world.now_ns - self.witness[3 - number].listened_ns, contact_ns)

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
        newest = self.witness[number].newest
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
            self.witness[number].network_changed(machine)


def _has_given_up(machine: Machine) -> bool:
    """A deaf gate closes only with its lease; its node says already that it is not active."""
    return machine.kernel.deaf and machine.role not in HOLDERS
