# SPDX-License-Identifier: GPL-3.0-or-later
"""One simulated node: a kernel, a heart, a sync and a supervisor, which fail apart from each other.

The world enters when something arrives, when a timer fires and when a fault befalls the node. A
turn of heart is the recipe of `heart.py`: hear everything, decide, act, beat, ask, arm the timer.
Times that heart and kernel see are the node's own; they stand still while the machine is paused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from amaranten_ha.core.announcer import Announcer
from amaranten_ha.core.beat import Kind, Role
from amaranten_ha.core.node import Node
from amaranten_ha.core.orders import Resume, restart, switchover
from amaranten_ha.core.role import Action, Rule
from amaranten_ha.core.timing import MS_NS
from simulator.frames import Arrival, Sent
from simulator.kernel import Kernel
from simulator.plan import CLUSTER, node_plan

if TYPE_CHECKING:
    from simulator.world import World

HOLDERS = (Role.ACTIVE, Role.HANDING_OVER)
TURN_RULES_MAX = 3
RING_MAX = 256
"""Frames that wait for a heart that does not run; the newest are lost."""
DISK_NS = 5 * MS_NS
"""From a change of the epoch until sync has written it."""
BACK_NS = 150 * MS_NS
"""From the death of heart until its supervisor starts it again."""
NEVER_NS = 1 << 62


class Machine:
    """One machine of the pair."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        plan = world.plan
        self.plan = node_plan(plan, number)
        self.kernel = Kernel(CLUSTER, number, self.plan.timing)
        self.mac = bytes([2, 0, 0, 0, 0, number])
        self.heart: Node | None = None
        self.powered = True
        self.stalls: Counter[int] = Counter()
        """How many faults have stopped the heart of a session (SIGSTOP)."""
        self.frozen = 0
        """How many faults keep the machine from running."""
        self.sync_down = 0
        self.fault = ""
        self.held = 0
        """How many faults hold it in maintenance."""
        self.resume: Resume | None = None
        """What an announced restart leaves to the next life of heart."""
        self.disk = (0, 0)
        """Last active and highest epoch, as sync wrote them."""
        self.ring: deque[Arrival] = deque()
        self.barrier = self.sessions = 0
        self.announcer = Announcer()
        self.log: list[tuple[int, str]] = []
        self.news: list[tuple[str, str]] = []
        self.beat_due_ns = self.beat_ns = self.planned_ns = 0
        self.starts_ns = NEVER_NS
        """World time at which the supervisor starts heart."""
        self._orders: list[Callable[[], None]] = []
        """What the next turn of heart reads."""
        self.stopping_ns: int | None = None
        self.leave_ns: int | None = None
        self.returns_ns = NEVER_NS
        """World time at which a heart that was told to stop is started again."""
        self._clock_ns = plan.clocks_ms[number - 1] * MS_NS - world.now_ns
        self._frozen_since_ns = 0
        self.thawed_from_ns = 0
        self._late_ns = 0
        self.busy_ns = self.waits_until_ns = 0
        """How long heart waits for a processor, half of it at least; until when, by world time."""
        self._written = (0, 0)

    # What is true of it

    @property
    def role(self) -> Role | None:
        """The role of the heart that runs here, if one does."""
        return self.heart.role if self.heart else None

    @property
    def stopped(self) -> bool:
        """Say whether the heart that runs here is stopped; another life of it would not be."""
        heart = self.heart
        return heart is not None and bool(self.stalls) and self.stalls[heart.session] > 0

    @property
    def runs(self) -> bool:
        """Say whether the machine itself is alive now."""
        return self.powered and not self.frozen

    @property
    def waits(self) -> bool:
        """Say whether heart waits for a processor."""
        return self.world.now_ns < self.waits_until_ns

    @property
    def answers(self) -> bool:
        """Say whether heart reads an order, now or once it has a processor."""
        return self.heart is not None and self.runs and not self.stopped

    @property
    def now_ns(self) -> int:
        """The node's own monotonic clock."""
        since_ns = self._frozen_since_ns or self.world.now_ns
        return since_ns + self._clock_ns

    @property
    def lease_ends_ns(self) -> int:
        """World time at which the gate closes if nothing renews it."""
        return self.kernel.lease_until_ns - self._clock_ns

    def open_until_ns(self, now_ns: int, end_ns: int) -> int:
        """World time until which the gate is open within a stretch in which nothing happens."""
        if not self.powered or self.frozen:
            return now_ns
        return min(max(self.kernel.lease_until_ns - self._clock_ns, now_ns), end_ns)

    def forwards(self) -> bool:
        """Say whether traffic passes: the gate is open and the machine runs."""
        return self.runs and self.kernel.forwards(self.now_ns)

    def speaks(self) -> bool:
        """Say whether the kernel answers for the shared addresses."""
        return self.runs and self.kernel.speaks(self.now_ns)

    # The machine

    def power_off(self) -> None:
        """Lose kernel, heart and lease in the same instant."""
        self.end_heart()
        self.powered = False
        self.resume = None
        self.kernel.power_off()
        self.starts_ns = NEVER_NS

    def power_on(self) -> None:
        """Boot; heart starts at once."""
        if not self.powered:
            self.powered = True
            self.starts_ns = self.world.now_ns
            self.world.wake(self)

    def freeze(self) -> None:
        """Stop everything, clocks and lease included."""
        if not self.frozen:
            self._frozen_since_ns = self.world.now_ns
        self.frozen += 1

    def thaw(self, clocks_went_on: bool) -> None:
        """Go on: a paused machine with its clock as it was, a starved one with the true time."""
        self.frozen -= 1
        if not self.frozen:
            if not clocks_went_on:
                self._clock_ns -= self.world.now_ns - self._frozen_since_ns
            self.thawed_from_ns = self._frozen_since_ns
            self._frozen_since_ns = 0
            self.world.wake(self)

    # The supervisor

    def end_heart(self) -> None:
        """Heart is gone; its kernel is not."""
        self.heart = None
        self.ring.clear()
        self._orders.clear()
        self.stopping_ns = self.leave_ns = None
        self.announcer.stop()

    def kill(self, back_ns: int = BACK_NS) -> None:
        """SIGKILL heart; the supervisor starts it again."""
        if self.powered and self.heart:
            self.resume = None
            self.end_heart()
            self.starts_ns = self.world.now_ns + back_ns
            self.world.wake(self)

    def order(self, what: Callable[[], None]) -> None:
        """Give heart an order: the turn that reads it also decides on it."""
        if self.heart:
            self._orders.append(what)
            self.world.wake(self)

    def stop(self, returns_ns: int) -> None:
        """SIGTERM heart, and start it again at a time."""
        self.returns_ns = returns_ns
        self.order(self._follow_stop)

    def _follow_stop(self) -> None:
        if self.heart and self.stopping_ns is None:
            self.stopping_ns = self.now_ns
            switchover(self.heart, "stopping", False, self.now_ns)

    def restart(self, back_ns: int) -> None:
        """Restart heart in the announced way: the gate stays open, the next life may resume."""
        if self.heart and self.heart.role is not Role.HANDING_OVER:
            self.resume = restart(self.heart, self.now_ns)
            if self.resume:
                self._send(self.heart, Kind.RESTARTING)
            self.end_heart()
            self.starts_ns = self.world.now_ns + back_ns
            self.world.wake(self)

    def start_heart(self) -> bool:
        """Start heart, unless the stage still waits for the end of the earlier life's lease."""
        if self.resume is None and self.kernel.forwards(self.now_ns):
            self.starts_ns = self.lease_ends_ns
            return False
        self.starts_ns = NEVER_NS
        if self.resume is None:
            self.kernel.addresses_on = False
        self.sessions += 1
        now_ns = self.now_ns
        last_active, epoch = self.disk
        session = self.number * 1000 + self.sessions
        self.heart = Node(self.plan, session, last_active, now_ns, epoch, self.resume)
        self.heart.held = self.held > 0
        self.resume = None
        self.world.codec.dress(self.heart, self.number)
        self.beat_due_ns = self.beat_ns = self.planned_ns = now_ns
        self._written = self.disk
        self.world.judge.started(self)
        self.world.tell(self, f"heart starts (epoch {self.heart.epoch})")
        for link in self.plan.links:
            usable = self.world.wires.carrier(self.number, link.number)
            self.heart.set_carrier(link.number, usable, now_ns)
        return True

    def due_ns(self) -> int:
        """World time at which this machine wants to run, if nothing arrives."""
        if not self.powered or self.frozen:
            return NEVER_NS
        heart = self.heart
        if heart is None:
            return self.starts_ns
        if self.stalls and self.stalls[heart.session] > 0:
            return NEVER_NS
        due_ns = self.planned_ns + self._late_ns - self._clock_ns
        return max(self.waits_until_ns, due_ns)

    # Heart

    def turn(self) -> None:
        """Look, decide, act, beat; then set the timer for the next turn."""
        if self.heart is None:
            if self.world.now_ns < self.starts_ns or not self.start_heart():
                return
        node, now_ns = self.heart, self.now_ns
        assert node is not None
        self.world.judge.witness[self.number].woke(self)
        node.woke(now_ns - self.planned_ns, now_ns - self.beat_ns, now_ns)
        self._hear(node)
        while self._orders:
            self._orders.pop(0)()
        if self.heart is not node:
            return
        node.replica = self.world.replica(self)
        node.gate_open = self.kernel.forwards(now_ns)
        if self._leaves(node, now_ns):
            return
        self._decide(node, now_ns)
        self.news += node.news
        node.news.clear()
        if now_ns >= self.beat_due_ns:
            beat_ns = node.timing.beat_ms * MS_NS
            self.beat_due_ns = max(self.beat_due_ns + beat_ns, now_ns)
            self.beat_ns = now_ns
            if node.speaks:
                self._send(node, node.kind(now_ns))
        for probe in node.probes(now_ns):
            self.world.ask(self, probe)
        if node.role in HOLDERS and self.announcer.due(now_ns) and self.kernel.speaks(now_ns):
            self.world.announce(self)
        self._remember(node)
        due_ns = min(
            self.beat_due_ns,
            node.due_ns(now_ns),
            self.announcer.next_ns(NEVER_NS),
            self.leave_ns or NEVER_NS,
        )
        self.planned_ns = max(due_ns, now_ns)
        late_us = self.world.plan.late_us
        self._late_ns = int(self.world.wires.random.random() * late_us) * 1000 if late_us else 0
        if self.busy_ns:
            wait_ns = int((1 + self.world.wires.random.random()) * self.busy_ns) // 2
            self.waits_until_ns = self.world.now_ns + wait_ns
        self.world.judge.turned(self)

    def _hear(self, node: Node) -> None:
        while self.ring:
            arrival = self.ring.popleft()
            if arrival.what == "beat":
                self.world.judge.drained(self, arrival)
                taken = node.hear(arrival.link, arrival.content, arrival.mac, arrival.at_ns)
                self.world.judge.heard(self, arrival, taken)
            elif arrival.mac != self.mac:
                node.answer(arrival.link, arrival.content, arrival.mac, arrival.at_ns)

    def _decide(self, node: Node, now_ns: int) -> None:
        for _rule in range(TURN_RULES_MAX):
            before = node.role
            rule = node.decide(now_ns, self.fault)
            if rule is None:
                return
            self.world.judge.decided(self, before, rule)
            for action in rule.actions:
                self._perform(node, action, now_ns)
            self.log.append((self.world.now_ns, f"{before.word} -> {rule.to.word}: {rule.reason}"))
            self.world.tell(self, _what_happened(node, before, rule))

    def _perform(self, node: Node, action: Action, now_ns: int) -> None:
        if action is Action.CLAIM:
            self._send(node, Kind.BEAT)
            self.beat_due_ns = now_ns + node.timing.beat_ms * MS_NS
        elif action is Action.OFFER and node.offer:
            self.world.push_barrier(self, node.offer.barrier)
        elif action is Action.CLOSE_GATE:
            self._send(node, Kind.CLOSE)
        elif action is Action.LINGER:
            self._send(node, Kind.LINGER)
        elif action is Action.ADDRESSES_ON:
            self.world.judge.put_on(self)
            self.kernel.addresses_on = True
        elif action is Action.ADDRESSES_OFF:
            self.kernel.addresses_on = False
            self.announcer.stop()
        elif action is Action.ANNOUNCE:
            self.announcer.begin(now_ns)

    def _leaves(self, node: Node, now_ns: int) -> bool:
        """Follow an order to stop; True when heart is gone."""
        if self.stopping_ns is None:
            return False
        if self.leave_ns is None:
            waits = node.role is Role.HANDING_OVER or node.switchover
            if not waits or now_ns - self.stopping_ns >= node.timing.stop_ms * MS_NS:
                linger_ns = node.timing.linger_ms * MS_NS
                self.leave_ns = now_ns + (linger_ns if node.reason == "handed over" else 0)
        if self.leave_ns is None or now_ns < self.leave_ns:
            return False
        self.farewell()
        return True

    def farewell(self) -> None:
        """Say goodbye, close the gate, and be gone until the supervisor starts heart again."""
        assert self.heart is not None
        self._send(self.heart, Kind.FAREWELL)
        self.kernel.addresses_on = False
        self.world.tell(self, "stopped")
        self.world.judge.left(self)
        self.end_heart()
        self.starts_ns = self.returns_ns

    def _send(self, node: Node, kind: Kind) -> None:
        now_ns = self.now_ns
        before = self.kernel.forwards(now_ns)
        node.next_beat()
        self.kernel.sent(kind, node.role, node.timing.damped, now_ns)
        self.beat_ns = now_ns
        claim = node.claim if node.role in HOLDERS else None
        sent = Sent(
            node.session,
            node.sequence,
            kind,
            node.role,
            node.claim.epoch if node.claim else node.epoch,
            claim,
            node.offer.barrier if node.offer else None,
            (node.pulse.session, node.pulse.candidate),
        )
        self.world.judge.sent(self, sent, before)
        for link in self.plan.links:
            self.world.send(self, link.number, node, sent)

    def _remember(self, node: Node) -> None:
        epochs = (node.last_active, node.epoch)
        if epochs != self._written and not self.sync_down:
            self._written = epochs
            self.world.write(self, epochs)


def _what_happened(node: Node, before: Role, rule: Rule) -> str:
    """Say it as heart does, and the rule's name where heart says its cause."""
    if rule.to is before:
        return f"{node.role.word}: {rule.reason}"
    name = "" if rule.reason == node.reason else f" [{rule.reason}]"
    return f"{before.word} -> {node.role.word}: {node.reason} (epoch {node.epoch}){name}"
