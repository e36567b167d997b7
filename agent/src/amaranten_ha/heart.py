# SPDX-License-Identifier: GPL-3.0-or-later
"""Heart: heartbeats, liveness, the role, the lease and the shared addresses, in real time.

One turn is the whole program: note how late it is; hear everything that arrived; decide once;
perform the actions in order; beat. Everything that a take-over needs was built before. Heart never
touches the disk after its start and never waits for another process: sync keeps the epoch, the
operator's tool the end of maintenance.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import select
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from amaranten_ha.assembly import plan_of, remembered_epochs, remembered_hold
from amaranten_ha.clerk import Clerk
from amaranten_ha.core import orders
from amaranten_ha.core.announcer import Announcer
from amaranten_ha.core.beat import ETHERTYPE, Kind, Role
from amaranten_ha.core.ether import answer
from amaranten_ha.core.node import Node
from amaranten_ha.core.role import Action, Rule
from amaranten_ha.core.timing import MS_NS
from amaranten_ha.core.trace import Trace
from amaranten_ha.io import again
from amaranten_ha.io.desk import Desk
from amaranten_ha.io.forwarding import Forwarding
from amaranten_ha.io.gate import GateReader, GateState
from amaranten_ha.io.journal import Journal
from amaranten_ha.io.links import Addresses, Links
from amaranten_ha.io.loop import Timer, become_real_time
from amaranten_ha.io.nft_channel import RulesetEvents
from amaranten_ha.io.ports import Port
from amaranten_ha.io.targets import Targets
from amaranten_ha.io.unit import Unit
from amaranten_ha.observer import Observer
from amaranten_ha.settings import (
    CONFIG_PATH,
    DIGESTS_PATH,
    EPOCH_PATH,
    HELD_PATH,
    KEYS_PATH,
    SOCKET_PATH,
    Digests,
    Settings,
    load,
    load_digests,
)

_WATCHDOG_NS = 1000 * MS_NS
_UPKEEP_NS = 1000 * MS_NS
_TURN_RULES_MAX = 3
_HOLDERS = (Role.ACTIVE, Role.HANDING_OVER)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where heart finds what it does not get from its settings."""

    socket: Path
    epoch: Path
    held: Path


class Heart:
    """The assembly of one node: the engine between its sockets."""

    def __init__(self, settings: Settings, digests: Digests, paths: Paths) -> None:
        now_ns = time.monotonic_ns()
        self._settings = settings
        session, (last_active, epoch) = secrets.randbits(63), remembered_epochs(paths.epoch)
        plan, resume = plan_of(settings), again.take()
        self._node = Node(plan, session, last_active, now_ns, epoch, resume)
        if held_s := remembered_hold(paths.held, time.time()):
            orders.hold(self._node, now_ns + int(held_s * 1e9), False, now_ns)
        self._timing = settings.timing
        self._ports = [Port(each) for each in settings.interfaces]
        self._links = Links(each.device for each in settings.interfaces)
        self._addresses = Addresses()
        self._gate = GateReader(settings)
        self._rulesets = RulesetEvents()
        self._gate_state = GateState(False, False, False, "not read yet")
        self._forwarding = Forwarding()
        self._forwarding_problem = ""
        self._announcer = Announcer()
        self._trace, self._journal = Trace(), Journal()
        self._observer = Observer(self._node)
        self._unit = Unit()
        self._timer = Timer()
        self._wakeup, signal_end = socket.socketpair()
        self._wakeup.setblocking(False)
        signal_end.setblocking(False)
        signal.set_wakeup_fd(signal_end.fileno())
        self._signal_end = signal_end
        signal.signal(signal.SIGTERM, lambda *_signal: None)
        signal.signal(signal.SIGINT, lambda *_signal: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        again.listen()
        self._epoll = select.epoll()
        self._targets = Targets(self._epoll, bool(self._unit.path))
        desk = Desk(paths.socket)
        self._clerk = Clerk(
            self._node, settings, self._ports, self._trace, self._epoll, desk, self._targets
        )
        self._clerk.take_digests(digests)
        for each in (self._links, self._rulesets, self._timer, self._wakeup):
            self._epoll.register(each.fileno(), select.EPOLLIN)
        self._beat_ns = self._beat_due_ns = now_ns
        self._gate_due_ns = self._upkeep_due_ns = self._watchdog_due_ns = now_ns
        self._forwarding_due_ns = now_ns
        self._stop_ns: int | None = None
        self._leave_ns: int | None = None
        self._bind()
        self._clerk.notes = become_real_time()

    def run(self) -> int:
        """Turn until the service is stopped; return the exit code."""
        self._say(f"{self._settings.node.name} starts, epoch {self._node.last_active}")
        self._say_all(self._clerk.notes)
        self._unit.notify("READY=1")
        self._timer.arm(time.monotonic_ns())
        while self._leave_ns is None or time.monotonic_ns() < self._leave_ns:
            self._epoll.poll()
            self.turn(time.monotonic_ns())
        self._send(Kind.FAREWELL)
        self._addresses.take_off(self._shared())
        self._say("stopped")
        return 0

    def turn(self, now_ns: int) -> None:
        """Look, decide, act, beat; then set the timer for the next turn."""
        self._node.woke(now_ns - self._timer.at_ns, now_ns - self._beat_ns, now_ns)
        self._hear(now_ns)
        if self._links.drain():
            self._bind()
            self._gate_due_ns = self._upkeep_due_ns = now_ns
        if self._rulesets.drain():
            self._gate_due_ns = now_ns
        self._read_gate(now_ns)
        self._read_forwarding(now_ns)
        self._clerk.serve(self._gate_state)
        now_ns = time.monotonic_ns()
        if self._clerk.restart_asked:
            self._begin_again(now_ns)
        self._stop_if_asked(now_ns)
        self._decide(now_ns)
        self._beat(now_ns)
        for probe in self._node.probes(now_ns):
            self._port(probe.link).ask(probe)
        self._announce_if_due(now_ns)
        self._keep_up(now_ns)
        due_ns = [self._beat_due_ns, self._gate_due_ns, self._node.due_ns(now_ns)]
        due_ns += [self._announcer.next_ns(self._beat_due_ns), self._leave_ns or self._beat_due_ns]
        self._timer.arm(max(min(due_ns), now_ns))

    # Look

    def _hear(self, now_ns: int) -> None:
        for port in self._ports:
            if port.socket is None:
                continue
            link, mac, spent = port.interface.link, port.socket.mac, port.budget.spent
            for received in port.drain(now_ns):
                data = received.data
                if int.from_bytes(data[12:14]) == ETHERTYPE:
                    message = data[14:]
                    self._node.hear(link, message, data[6:12], received.at_ns)
                elif (found := answer(data)) and found.mac != mac:
                    self._node.answer(link, found.address, found.mac, received.at_ns)
            if port.budget.spent != spent:
                listens = 0 if port.budget.spent else select.EPOLLIN
                self._epoll.modify(port.socket.fileno(), listens)

    def _bind(self) -> None:
        now_ns = time.monotonic_ns()
        for port in self._ports:
            had = port.socket
            if port.bind(self._links.devices.get(port.interface.device)):
                if had:
                    with contextlib.suppress(OSError, ValueError):
                        self._epoll.unregister(had.fileno())
                if port.socket:
                    self._epoll.register(port.socket.fileno(), select.EPOLLIN)
                    self._upkeep_due_ns = now_ns
                self._say(f"{port.interface.name}: {port.problem or 'bound to its device'}")
            self._node.set_carrier(port.interface.link, port.carrier, now_ns)

    def _read_gate(self, now_ns: int) -> None:
        if now_ns < self._gate_due_ns:
            return
        self._gate_due_ns = now_ns + self._timing.gate_check_ms * MS_NS
        state = self._gate.check()
        if state.problem != self._gate_state.problem:
            self._say(f"gate: {state.problem or 'intact'}", "gate")
        self._gate_state = state
        self._node.gate_open = state.open_lease

    def _read_forwarding(self, now_ns: int) -> None:
        if now_ns < self._forwarding_due_ns:
            return
        self._forwarding_due_ns = now_ns + self._timing.forwarding_check_ms * MS_NS
        self._forwarding_problem = self._forwarding.problem()
        self._node.nat = self._forwarding.nat()
        self._node.condition.wall_offset_ns = time.time_ns() - time.monotonic_ns()
        self._node.condition.unguarded = not self._gate_state.owned

    # Decide and act

    def _decide(self, now_ns: int) -> None:
        fault = self._forwarding_problem
        if not self._gate_state.intact:
            fault = f"gate: {self._gate_state.problem}"
        for _rule in range(_TURN_RULES_MAX):
            before = self._node.role
            rule = self._node.decide(now_ns, fault)
            if rule is None:
                break
            for action in rule.actions:
                self._perform(action, now_ns)
            self._after(rule, before)
        for kind, text in self._node.news:
            self._say(text, kind)
        self._node.news.clear()

    def _perform(self, action: Action, now_ns: int) -> None:
        if action is Action.CLAIM:
            self._send(Kind.BEAT)
            self._beat_ns, self._beat_due_ns = now_ns, now_ns + self._timing.beat_ms * MS_NS
        elif action is Action.OFFER and self._node.offer and self._node.offer.barrier:
            self._clerk.push({"push": "barrier", "id": self._node.offer.barrier})
        elif action is Action.CLOSE_GATE:
            self._send(Kind.CLOSE)
        elif action is Action.LINGER:
            self._send(Kind.LINGER)
        elif action is Action.ADDRESSES_ON:
            self._say_all(self._addresses.put_on(self._shared()))
        elif action is Action.ADDRESSES_OFF:
            self._announcer.stop()
            self._say_all(self._addresses.take_off(self._shared()))
        elif action is Action.ANNOUNCE:
            self._announcer.begin(now_ns)
            self._announce_if_due(now_ns)

    def _after(self, rule: Rule, before: Role) -> None:
        node = self._node
        if rule.to is before:
            self._say(f"{node.role.word}: {rule.reason}", "claim")
            return
        self._say(f"{before.word} -> {node.role.word}: {node.reason} (epoch {node.epoch})", "role")
        if rule.to is not Role.HANDING_OVER:
            self._clerk.switchover_ended(rule)
        withdrawn = before is Role.HANDING_OVER and rule.to is Role.ACTIVE
        if rule.to is Role.ACTIVE and not withdrawn:
            self._targets.start("active")
        elif rule.to in (Role.PASSIVE, Role.FAULT):
            self._targets.start("passive")

    def _stop_if_asked(self, now_ns: int) -> None:
        node = self._node
        with contextlib.suppress(BlockingIOError):
            received = self._wakeup.recv(64)
            if signal.SIGTERM in received or signal.SIGINT in received:
                self._stop_ns = self._stop_ns or now_ns
                orders.switchover(node, "stopping", False, now_ns)
        if self._stop_ns is None or self._leave_ns is not None:
            return
        waits = node.role is Role.HANDING_OVER or node.switchover
        if waits and now_ns - self._stop_ns < self._timing.stop_ms * MS_NS:
            return
        handed_over = node.reason == "handed over"
        self._leave_ns = now_ns + (self._timing.linger_ms * MS_NS if handed_over else 0)

    def _begin_again(self, now_ns: int) -> None:
        """Restart in the announced way: an active node's gate stays open for the next life."""
        self._clerk.restart_asked = False
        resume = orders.restart(self._node, now_ns)
        if resume:
            self._send(Kind.RESTARTING)
        self._say("begins anew: an announced restart")
        try:
            again.begin(resume, self._unit.path)
        except OSError as error:
            self._say(f"goes on as it was: {error.strerror}")

    # Beat

    def _beat(self, now_ns: int) -> None:
        if now_ns < self._beat_due_ns:
            return
        beat_ns = self._timing.beat_ms * MS_NS
        self._beat_due_ns = max(self._beat_due_ns + beat_ns, now_ns)
        self._beat_ns = now_ns
        if self._node.speaks:
            self._send(self._node.kind(now_ns))

    def _send(self, kind: Kind) -> None:
        """Every frame is a heartbeat of its own: the peer refuses a number that it has heard."""
        self._node.next_beat()
        destinations = self._node.pulse.destinations(time.monotonic_ns())
        for port in self._ports:
            link = port.interface.link
            port.beat(self._node.message(link, kind), destinations[link])

    def _announce_if_due(self, now_ns: int) -> None:
        """A take-over enters before it is told or followed: until then hosts send to the dead."""
        if self._node.role in _HOLDERS and self._announcer.due(now_ns):
            for port in self._ports:
                port.announce()

    def _shared(self) -> list[tuple[int, bytes]]:
        return [address for port in self._ports for address in port.shared]

    def _port(self, link: int) -> Port:
        return next(port for port in self._ports if port.interface.link == link)

    def _keep_up(self, now_ns: int) -> None:
        self._clerk.tell_followers(now_ns)
        if failure := self._targets.reap():
            self._say(failure, "target")
        if now_ns >= self._watchdog_due_ns:
            self._watchdog_due_ns = now_ns + _WATCHDOG_NS
            for kind, text in self._observer.look(self._gate_state, now_ns):
                self._say(text, kind)
            self._unit.notify("WATCHDOG=1", f"STATUS={self._node.role.word}: {self._node.reason}")
        if now_ns < self._upkeep_due_ns or not self._gate_state.intact:
            return
        self._upkeep_due_ns = now_ns + _UPKEEP_NS
        present = self._addresses.present() & set(self._shared())
        if self._node.role in _HOLDERS:
            missing = [each for each in self._shared() if each not in present]
            if missing:
                self._say_all(self._addresses.put_on(missing))
                self._announcer.begin(now_ns)
        else:
            self._say_all(self._addresses.take_off(present))

    def _say_all(self, lines: list[str]) -> None:
        for line in lines:
            self._say(line)

    def _say(self, text: str, kind: str = "note") -> None:
        self._trace.add(time.monotonic_ns(), kind, text)
        fields = {"role": self._node.role.word, "epoch": str(self._node.epoch)}
        self._journal.say(kind, text, fields)


def main(arguments: list[str]) -> int:
    """Run the service."""
    parser = argparse.ArgumentParser(prog="amaranten-ha heart")
    parser.add_argument("--config", type=Path, default=CONFIG_PATH)
    parser.add_argument("--keys", type=Path, default=KEYS_PATH)
    parser.add_argument("--digests", type=Path, default=DIGESTS_PATH)
    parser.add_argument("--socket", type=Path, default=SOCKET_PATH)
    parser.add_argument("--epoch", type=Path, default=EPOCH_PATH)
    parser.add_argument("--held", type=Path, default=HELD_PATH)
    options = parser.parse_args(arguments)
    settings = load(options.config, options.keys)
    paths = Paths(options.socket, options.epoch, options.held)
    return Heart(settings, load_digests(options.digests), paths).run()
