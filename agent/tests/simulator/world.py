# SPDX-License-Identifier: GPL-3.0-or-later
"""Both machines, the wires between them, and the clock, which jumps from event to event.

Runs enter with a plan, faults with what they change. Within one instant
everything that arrives is put into the receive rings first; then the machines that have something
to do take their turn. Nothing here decides what is right: the judge watches.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from amaranten_ha.core.beat import Replica, ReplicaState, Role
from amaranten_ha.core.node import Node
from amaranten_ha.core.prober import Probe
from amaranten_ha.core.timing import MS_NS, PROFILES
from simulator.codec import Codec
from simulator.frames import Arrival, Sent
from simulator.judge import Judge, Violation
from simulator.machine import DISK_NS, NEVER_NS, RING_MAX, Machine
from simulator.plan import SYNC, Plan
from simulator.wires import OTHERS, Wires

START_NS = 1_000_000_000
STEPS_MAX = 1000
"""Turns within one instant."""
STREAM_NS = 2 * MS_NS
"""How long the stream of the replica takes from node to node."""
BULK_NS = 100 * MS_NS
"""From a connected stream until the replica is complete."""


@lru_cache(maxsize=64)
def _synced(barrier: int, lag_ms: int) -> Replica:
    """The usual answer of a sync; it is asked in every turn."""
    return Replica(ReplicaState.SYNCED, barrier, 100, lag_ms, 1000)


class World:
    """One run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timing = PROFILES[self.plan.profile]
        self.now_ns = self.start_ns = START_NS
        self.faults_from_ns = START_NS
        """From when on faults may begin: the pair has settled."""
        self.codec = Codec(self.plan.wire_bytes, self.plan.skew)
        self.wires = Wires(self.plan.seed, self.plan.latency_us)
        self.machines = {number: Machine(self, number) for number in (1, 2)}
        self._pair = self.machines[1], self.machines[2]
        self._sync_link = next(
            each.number for each in self.machines[1].plan.links if each.name == SYNC
        )
        self.judge = Judge(self)
        self.trace: list[tuple[int, str, str]] | None = None
        self.synced = True
        """The replica can be complete; False is a sync that never gets there."""
        self.lag_ns = STREAM_NS
        self.held_back: dict[int, deque[Arrival]] = {1: deque(), 2: deque()}
        """What waits at the port of a machine that does not run, if its host keeps it."""
        self.keeps = {1: False, 2: False}
        self.neighbours: dict[int, int] = {}
        """By link, which node the hosts last heard to have the shared address."""
        self.strangers: Counter[int] = Counter()
        """By link, how many machines of nobody's answer for the shared address."""
        self.endings: list[Callable[[], None]] = []
        """How the faults that last until the quiet are undone."""
        self.both_forward_ns = self.nobody_forwards_ns = self.both_speak_ns = 0
        self.deserted_ns = self._deserted_ns = 0
        """For how long at most nobody forwarded, and for how long nobody does now."""
        self.both_spoke_ns = 0
        """Until when both last answered for the shared addresses."""
        self.announced_ns = {1: 0, 2: 0}
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._awake: set[int] = set()
        self._streams_since_ns: int | None = None
        for machine in self.machines.values():
            machine.starts_ns = self.now_ns

    # Time

    def run(self, duration_ms: float) -> None:
        """Let time pass."""
        self.run_until(self.now_ns + int(duration_ms * MS_NS))

    def run_until(self, end_ns: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until an instant, or until it is done; say whether it is done."""
        first, second = self._pair
        events, pop = self._events, heapq.heappop
        first_due, second_due = first.due_ns, second.due_ns
        steps = 0
        with self.codec.running():
            while True:
                if self._awake:
                    next_ns = self.now_ns
                else:
                    event_ns = events[0][0] if events else NEVER_NS
                    next_ns = min(first_due(), second_due(), event_ns)
                if next_ns > end_ns:
                    self._pass(end_ns)
                    return False
                if next_ns > self.now_ns:
                    self._pass(next_ns)
                    steps = 0
                steps += 1
                if steps > STEPS_MAX:
                    raise Violation("busy", "an engine asks to be woken for ever in one instant")
                while events and events[0][0] <= next_ns:
                    _at, _count, call, arguments = pop(events)
                    call(*arguments)
                awake, self._awake = self._awake, set()
                for machine in (first, second):
                    if machine.number in awake or machine.due_ns() <= next_ns:
                        if machine.runs and not machine.stopped:
                            machine.turn()
                if done is not None and done():
                    return True

    def later(self, delay_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Have something happen after a while."""
        self._count += 1
        heapq.heappush(self._events, (self.now_ns + delay_ns, self._count, call, arguments))

    def wake(self, machine: Machine) -> None:
        """Let a machine take a turn in this instant."""
        if self.now_ns < machine.waits_until_ns:
            self.later(machine.waits_until_ns - self.now_ns, self.wake, machine)
        elif machine.runs and (machine.heart or self.now_ns >= machine.starts_ns):
            self._awake.add(machine.number)

    def _pass(self, next_ns: int) -> None:
        now_ns = self.now_ns
        first, second = self._pair
        one_ns = first.open_until_ns(now_ns, next_ns)
        other_ns = second.open_until_ns(now_ns, next_ns)
        sooner_ns, later_ns = (one_ns, other_ns) if one_ns < other_ns else (other_ns, one_ns)
        if next_ns > later_ns:
            self.nobody_forwards_ns += next_ns - later_ns
            goes_on = later_ns == now_ns
            self._deserted_ns = (self._deserted_ns if goes_on else 0) + next_ns - later_ns
            self.deserted_ns = max(self.deserted_ns, self._deserted_ns)
        else:
            self._deserted_ns = 0
        if sooner_ns > now_ns:
            self.both_forward_ns += sooner_ns - now_ns
            if first.speaks() and second.speaks():
                self.both_speak_ns += sooner_ns - now_ns
                self.both_spoke_ns = sooner_ns
        self.now_ns = next_ns

    def roles(self) -> tuple[Role | None, Role | None]:
        """Return the roles of the two nodes."""
        return self.machines[1].role, self.machines[2].role

    def tell(self, machine: Machine | None, text: str) -> None:
        """Note something for a transcript."""
        if self.trace is not None:
            self.trace.append((self.now_ns, machine.plan.name if machine else "", text))

    # Frames

    def send(self, sender: Machine, link: int, node: Node, sent: Sent) -> None:
        """A heartbeat leaves a port; what never arrives is not written out."""
        receiver = self.machines[3 - sender.number]
        if delays_ns := self._delays(sender.number, receiver.number, link, True):
            message = node.message(link, sent.kind)
            for delay_ns in delays_ns:
                arrival = (receiver, link, "beat", message, sender.mac, sent)
                self.later(delay_ns, self._arrive, *arrival)

    def _delays(self, sender: int, receiver: int, link: int, beats: bool) -> tuple[int, ...]:
        return self.wires.delays_ns(sender, receiver, link, beats, self.now_ns)

    def ask(self, asker: Machine, probe: Probe) -> None:
        """A question leaves a port; the peer and the third parties hear it."""
        number, link = asker.number, probe.link
        peer = self.machines[3 - number]
        for delay_ns in self._delays(number, peer.number, link, False):
            self.later(delay_ns, self._arrive, peer, link, "question", probe.address, asker.mac)
        plan = asker.plan.links[link - 1]
        if probe.address in plan.gateways:
            self._answer_of_other(asker, probe, bytes([2, 0, 0, 0, 1, link]))
        elif self.strangers[link] > 0 and probe.address in plan.shared:
            self._answer_of_other(asker, probe, bytes([2, 0, 0, 0, 2, link]))

    def _answer_of_other(self, asker: Machine, probe: Probe, mac: bytes) -> None:
        number, link = asker.number, probe.link
        for there_ns in self._delays(number, OTHERS, link, False):
            for back_ns in self._delays(OTHERS, number, link, False):
                answer = (asker, link, "answer", probe.address, mac)
                self.later(there_ns + back_ns, self._arrive, *answer)

    def announce(self, sender: Machine) -> None:
        """Tell every service link who has the shared address."""
        peer = self.machines[3 - sender.number]
        self.tell(sender, "announces")
        self.announced_ns[sender.number] = self.now_ns
        for link in sender.plan.links:
            for address in link.shared:
                number = link.number
                for delay_ns in self._delays(sender.number, peer.number, number, False):
                    answer = (peer, number, "answer", address, sender.mac)
                    self.later(delay_ns, self._arrive, *answer)
                for delay_ns in self._delays(sender.number, OTHERS, number, False):
                    self.later(delay_ns, self.neighbours.__setitem__, number, sender.number)

    def _arrive(
        self,
        machine: Machine,
        link: int,
        what: str,
        content: Any,
        mac: bytes,
        sent: Sent | None = None,
    ) -> None:
        if not machine.powered:
            return
        arrival = Arrival(machine.now_ns, link, what, content, mac, sent)
        if machine.frozen:
            waiting = self.held_back[machine.number]
            kept = self.keeps[machine.number] and len(waiting) < RING_MAX
            if kept:
                waiting.append(arrival)
            self.judge.witness[machine.number].missed(machine, arrival)
            return
        self._receive(machine, arrival)

    def _receive(self, machine: Machine, arrival: Arrival) -> None:
        if arrival.what == "question":
            self._answer(machine, arrival)
            return
        self.judge.witness[machine.number].reached(machine, arrival)
        if machine.heart and len(machine.ring) < RING_MAX:
            machine.ring.append(arrival)
            if not machine.stopped:
                self.wake(machine)

    def _answer(self, machine: Machine, arrival: Arrival) -> None:
        link = machine.plan.links[arrival.link - 1]
        is_shared = arrival.content in link.shared and machine.speaks()
        if not (is_shared or arrival.content in link.own):
            return
        asker = self.machines[3 - machine.number]
        for delay_ns in self._delays(machine.number, asker.number, link.number, False):
            answer = (asker, link.number, "answer", arrival.content, machine.mac)
            self.later(delay_ns, self._arrive, *answer)

    def thaw(self, machine: Machine, clocks_went_on: bool) -> None:
        """Let a machine that stood still go on, and give it what waited at its port."""
        machine.thaw(clocks_went_on)
        self.judge.witness[machine.number].thawed(machine, clocks_went_on)
        waiting = self.held_back[machine.number]
        while waiting and not machine.frozen:
            held = waiting.popleft()
            self._receive(
                machine,
                Arrival(machine.now_ns, held.link, held.what, held.content, held.mac, held.sent),
            )

    # Sync

    def streams(self) -> bool:
        """Say whether the stream between the two syncs is up now, and since when."""
        link = self._sync_link
        is_up = self.wires.open(1, 2, link) and self.wires.open(2, 1, link)
        for each in self._pair:
            is_up = is_up and each.runs and not each.sync_down
        if not is_up or self.plan.skew == "major":
            self._streams_since_ns = None
        elif self._streams_since_ns is None:
            self._streams_since_ns = self.now_ns
        return is_up

    def replica(self, machine: Machine) -> Replica:
        """Return what a node's sync says of the copy."""
        self.streams()
        if machine.sync_down:
            return Replica(ReplicaState.STALE, machine.barrier)
        since_ns = self._streams_since_ns
        if since_ns is None or not self.synced:
            return Replica(ReplicaState.DISCONNECTED, machine.barrier)
        if self.now_ns - since_ns < BULK_NS and since_ns > START_NS:
            return Replica(ReplicaState.BULK, machine.barrier)
        return _synced(machine.barrier, self.lag_ns // MS_NS)

    def push_barrier(self, giver: Machine, barrier: int) -> None:
        """Put a barrier behind the last change in the stream."""
        if self.streams() and self.synced:
            taker = self.machines[3 - giver.number]
            self.later(self.lag_ns, self._applied, taker, barrier)

    def _applied(self, taker: Machine, barrier: int) -> None:
        if self.streams():
            taker.barrier = max(taker.barrier, barrier)
            self.wake(taker)

    def write(self, machine: Machine, epochs: tuple[int, int]) -> None:
        """Let sync write the epochs."""
        self.later(DISK_NS, self._written, machine, machine.sessions, epochs)

    def _written(self, machine: Machine, life: int, epochs: tuple[int, int]) -> None:
        if machine.runs and machine.sessions == life and not machine.sync_down:
            machine.disk = epochs
            self.judge.written(machine)

    # Faults

    def power_off(self, number: int) -> None:
        """Cut the power."""
        self.machines[number].power_off()
        self.held_back[number].clear()
        self.tell(self.machines[number], "loses its power")

    def power_on(self, number: int) -> None:
        """Boot the machine; its heart starts at once."""
        self.machines[number].power_on()

    def heal(self) -> None:
        """Let everything pass again."""
        self.wires.heal()
        self.judge.network_changed()

    def has_hearts(self) -> bool:
        """Say whether a heart runs on both machines."""
        return all(each.heart for each in self.machines.values())

    def is_settled(self) -> bool:
        """Say whether exactly one is active and the other is passive."""
        return set(self.roles()) == {Role.ACTIVE, Role.PASSIVE}
