# SPDX-License-Identifier: GPL-3.0-or-later
"""The sync service: keeps the passive's connection table a copy of the active's.

systemd enters with `main`. One turn of the loop is the whole program: hear heart, the kernel and
the peer; walk a piece of the table if a walk is due; tell the peer; report to heart. The role comes
from heart alone. This service may crash, hang or be restarted at any time without touching the
role; nothing here ever waits for the peer or for heart.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import secrets
import select
import signal
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from amaranten_ha import settings as configuration
from amaranten_ha.attendant import Attendant
from amaranten_ha.core import standing, stream
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Command
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.intake import condense
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source
from amaranten_ha.core.standing import SENDERS
from amaranten_ha.counters import counters
from amaranten_ha.delta import Delta
from amaranten_ha.io import netlink
from amaranten_ha.io.channel import Channel
from amaranten_ha.io.events import Events
from amaranten_ha.io.follow import Follower
from amaranten_ha.io.locals import EpochFile, Surroundings
from amaranten_ha.io.nft_channel import RulesetEvents
from amaranten_ha.io.unit import Unit
from amaranten_ha.locality import Locality
from amaranten_ha.vital import Vital, subjects
from amaranten_ha.walker import Walker

MS_NS = 1_000_000
REPORT_NS = 200 * MS_NS
NEIGHBOURS_NS = 2000 * MS_NS
CONFIRM_NS = 50 * MS_NS
TICK_NS = 50 * MS_NS
COMPANY_S, COMPANY_LOADED_S = 0.002, 0.005
BUSY_EVENTS = 32
"""A turn that hears so many is one of many."""
FACTS_NS = 1_000 * MS_NS
HEART_AWAY_NS = 1_000 * MS_NS
LOOSEN_NS = 100 * MS_NS
"""How long a barrier may wait until the own entries are liberal."""
EVENTS_PER_TURN = 512
EVENTS_MANY = 4_096
"""What a turn may hear while somebody waits for it, or when the last turn had not heard all."""


class Sync:
    """The parts of the service, and what one of them knows about another."""

    def __init__(
        self, settings: configuration.Settings, heart: Path, epoch_file: Path, desk: Path
    ) -> None:
        self._settings = settings
        self._epoch = EpochFile(epoch_file)
        self._surroundings = Surroundings(epoch_file.parent, configuration.TRIAL_PATH)
        self._facts: dict[str, Any] = {}
        self._unit = Unit()
        self._locality = Locality(settings)
        self._rules = RulesetEvents()
        self._mirror = Mirror(Scope(self._locality.tied))
        self._source = Source(self._mirror)
        self._copy = Copy(self._mirror)
        self._role = Role.STARTING
        self._peer: stream.State | None = None
        self._bulk_given = 0
        self._session = 0
        self._barrier: int | None = None
        """The barrier that waits until the kernel has nothing more to say."""
        self._urgent = False
        self._stale_windows = True
        """This node may have been active since its entries were made liberal."""
        self._tick_ns = self._facts_due_ns = self._report_due_ns = self._state_due_ns = 0
        self._neighbours_due_ns = 0
        self._confirmed: tuple[int, ...] = ()
        self._confirmed_ns = 0
        self._reported: tuple[object, ...] = ()
        self._stopping = self._busy = self._behind = False
        self._table = netlink.Table()
        self._events = Events(self._table.port)
        self._walker = Walker(self._table, self._source, self._copy, self._apply)
        look_up = self._walker.look_up
        self._vital = Vital(subjects(settings, self._table, self._locality, self._mirror, look_up))
        self._follower = Follower(heart)
        self._channel = Channel(settings, secrets.token_bytes, self._state)
        self._delta = Delta(self._table, self._source, self._channel)
        self._epoll = select.epoll()
        parts = (self._events, self._follower, self._channel)
        for descriptor in (*(part.fileno() for part in parts), *self._vital.descriptors()):
            self._epoll.register(descriptor, select.EPOLLIN)
        self._attendant = Attendant(desk, self._copy, self._walker, self._channel, self._epoll)

    def run(self) -> int:
        """Turn until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._unit.notify("READY=1")
        while not self._stopping:
            ready = dict(self._epoll.poll(self._pause_s(time.monotonic_ns())))
            if not self._behind and self._barrier is None and {*ready} == {self._events.fileno()}:
                # Several events in one turn cost little more than one; a change waits anyway.
                time.sleep(COMPANY_LOADED_S if self._busy else COMPANY_S)
            self._turn(time.monotonic_ns(), ready)
        self._channel.close()
        self._follower.close()
        return 0

    def _turn(self, now_ns: int, ready: Container[int]) -> None:
        tick = now_ns >= self._tick_ns
        if tick:
            self._tick_ns = now_ns + TICK_NS
            self._learn_facts(now_ns)
        if tick or self._follower.fileno() in ready:
            self._hear_heart(now_ns)
        self._hear_kernel(now_ns, ready, tick=tick)
        if tick or self._channel.fileno() in ready:
            self._hear_peer(now_ns)
        self._walk(now_ns)
        self._attendant.turn(now_ns, ready, self._role, self._detail)
        self._tell_peer(now_ns)
        self._tell_heart(now_ns)

    def _stop(self, *_signal: object) -> None:
        self._stopping = True

    def _pause_s(self, now_ns: int) -> float:
        """Return how long nothing has to be done unless somebody speaks."""
        if self._walker.ready:
            return 0.0
        due_ns = min(self._report_due_ns, self._state_due_ns, self._tick_ns)
        pending_ns = self._source.ledger.due_ns
        if pending_ns is not None and self._channel.room:
            due_ns = min(due_ns, max(pending_ns, now_ns + MS_NS))
        return max(0, due_ns - now_ns) / 1e9

    # Hear.

    def _learn_facts(self, now_ns: int) -> None:
        if now_ns < self._facts_due_ns:
            return
        self._facts_due_ns = now_ns + FACTS_NS
        self._locality.learn()
        self._facts = self._surroundings.learn()
        if self._rules.drain():
            self._channel.rules_changed(now_ns)
        if self._locality.tied != self._mirror.scope.tied:
            self._mirror.scope = Scope(self._locality.tied)
            self._walker.compare(now_ns)
        self._unit.notify("WATCHDOG=1", f"STATUS={self._role.word}: {len(self._mirror)} entries")

    def _hear_heart(self, now_ns: int) -> None:
        for push in self._follower.turn(now_ns):
            if push["push"] == "role":
                self._epoch.remember(push)
                with contextlib.suppress(KeyError):
                    self._become(Role[str(push["role"]).upper().replace(" ", "_")], now_ns)
            elif push["push"] == "barrier":
                # While the traffic moves, this node sees one half of a connection only.
                self._walker.loosen_within(LOOSEN_NS, time.monotonic_ns)
                self._barrier = int(push["id"])
        away_ns = self._follower.away_since_ns
        if away_ns is not None and now_ns - away_ns > HEART_AWAY_NS:
            self._become(Role.STARTING, now_ns)

    def _become(self, role: Role, now_ns: int) -> None:
        before, self._role = self._role, role
        if role is before:
            return
        if role is Role.ACTIVE:
            self._stale_windows = True
            self._walker.windows.begin(now_ns)
        elif before in SENDERS and role not in SENDERS:
            self._source.stop()
            self._vital.stop_telling()
        if before is Role.PASSIVE:
            self._copy.stop()
            self._vital.stop_holding()
        self._source.alone = role in SENDERS
        if self._source.alone and before not in SENDERS:
            self._source.born.clear()
        self._source.lost.clear()
        self._bulk_given = 0 if role not in SENDERS else self._bulk_given
        if role is Role.PASSIVE:
            self._walker.loosen_due, self._stale_windows = self._stale_windows, False
        self._state_due_ns = self._report_due_ns = now_ns

    def _hear_kernel(self, now_ns: int, ready: Container[int], *, tick: bool) -> None:
        count_max = EVENTS_MANY if self._behind or self._barrier is not None else EVENTS_PER_TURN
        events = self._events.drain(count_max)
        for gone, attributes in condense(events):
            key = self._source.hear(gone, attributes, now_ns)
            if key is not None:
                self._walker.look_up(key, now_ns)
        self._busy, self._behind = len(events) >= BUSY_EVENTS, len(events) >= EVENTS_PER_TURN
        self._vital.turn(now_ns, ready, tick=tick, urgent=self._barrier is not None)
        if self._events.overrun:
            self._events.overrun = False
            self._state_due_ns = now_ns
            self._walker.repair(now_ns)
        elif self._barrier is not None and len(events) < count_max and not self._walker.repairing:
            # Everything that the kernel had said when it was asked for is in the ledger now.
            self._source.barrier(self._barrier, now_ns)
            self._barrier, self._urgent = None, self._source.sending

    def _hear_peer(self, now_ns: int) -> None:
        messages = self._channel.turn(now_ns)
        if self._channel.session != self._session or not self._channel.up:
            self._lose_session(now_ns)
        for message in messages:
            if isinstance(message, stream.State):
                self._peer = message
                if message.role is Role.PASSIVE:
                    self._source.confirmed(message, now_ns)
            elif isinstance(message, stream.Locals):
                self._locality.peer_said(message.addresses)
                self._facts_due_ns = now_ns
            elif isinstance(message, stream.Finding):
                self._attendant.found(message)
            elif isinstance(message, stream.Delta) and self._role in SENDERS:
                self._delta.take(message, now_ns)
            if self._role is Role.PASSIVE:
                self._take(message, now_ns)
            elif self._source.sending:
                self._asked(message, now_ns)

    def _take(self, message: stream.Message, now_ns: int) -> None:
        """What the passive is told."""
        if isinstance(message, stream.Wanted):
            self._attendant.wanted(message, now_ns)
        elif isinstance(message, stream.Vital):
            self._vital.receive(message, self._copy.want, now_ns)
        self._apply(self._copy.receive(message, now_ns), now_ns)
        self._vital.connections_changed(now_ns)
        if isinstance(message, stream.BarrierPassed):
            self._report_due_ns = self._state_due_ns = now_ns

    def _asked(self, message: stream.Message, now_ns: int) -> None:
        """What the active is asked for."""
        if isinstance(message, stream.Ask):
            for key in message.keys:
                self._walker.look_up(key, now_ns)
            self._source.mending()
        elif isinstance(message, stream.List):
            self._source.asked(message)
            if message.deep:
                self._walker.compare(now_ns)

    def _lose_session(self, now_ns: int) -> None:
        self._session, self._source.minor = self._channel.session, self._channel.minor
        if self._peer is None:
            return
        self._peer, self._bulk_given = None, 0
        self._attendant.lose_session()
        self._locality.said = False
        self._source.stop()
        self._copy.stop()
        self._vital.stop()
        self._state_due_ns = self._report_due_ns = now_ns

    def _apply(self, commands: list[Command], now_ns: int) -> None:
        while commands:
            errors = self._table.apply(commands)
            commands = [
                instead
                for index, code in sorted(errors.items())
                for instead in self._copy.refused_by_kernel(commands[index], code, now_ns)
            ]

    # Walk.

    def _walk(self, now_ns: int) -> None:
        peer = self._peer
        wanted = peer.want if peer and self._role in SENDERS and peer.role is Role.PASSIVE else 0
        told = wanted and self._source.sending
        if self._source.ledger.overflowed or (self._bulk_given and not told):
            # A peer that takes nothing now asks for everything when it does again.
            self._source.stop()
            self._vital.stop_telling()
            self._bulk_given = 0
        if wanted and wanted != self._bulk_given and self._channel.room:
            message = self._walker.begin_bulk(wanted, now_ns, whole=self._bulk_given != 0)
            if message is not None:
                self._bulk_given = wanted
                self._channel.send(message)
                self._vital.begin(wanted, now_ns)
        if self._walker.turn(now_ns):
            self._state_due_ns = self._report_due_ns = now_ns
        if self._role is not Role.PASSIVE or self._copy.want or not self._walker.learned:
            return
        # What is here already is updated, not created, so it must be known first; and what began
        # here while both were active must be with the winner before it is swept here.
        while self._delta.ship(now_ns):
            if not self._channel.room:
                return
        self._copy.start()
        self._state_due_ns = now_ns

    # Tell.

    def _tell_peer(self, now_ns: int) -> None:
        if not self._locality.said and self._channel.room:
            self._channel.send(stream.Locals(self._locality.own))
            self._locality.said = True
        urgent = self._urgent or self._source.audit_due(now_ns)
        while self._channel.room and (vital := self._vital.take()) is not None:
            self._channel.send(vital)
        while self._channel.room:
            message = self._source.take(now_ns, urgent=urgent)
            if message is None:
                break
            self._urgent &= not isinstance(message, stream.BarrierPassed)
            self._channel.send(message)
            self._channel.flush(now_ns)
        while self._channel.room and (audit := self._source.audit(now_ns)):
            for message in audit:
                self._channel.send(message)
            self._channel.flush(now_ns)
        while self._copy.replies and self._channel.room:
            self._channel.send(self._copy.replies.pop(0))
        self._copy.retry(now_ns)
        if self._copy.complete and self._source.lost and self._channel.room:
            asked = self._source.lost[-stream.KEYS_ASKED_MAX :]
            del self._source.lost[-stream.KEYS_ASKED_MAX :]
            self._channel.send(stream.Ask(tuple(asked)))
        if self._peer and self._copy.standing != self._confirmed:
            self._state_due_ns = min(self._state_due_ns, self._confirmed_ns + CONFIRM_NS)
        if now_ns >= self._state_due_ns:
            self._state_due_ns = now_ns + REPORT_NS
            self._confirmed, self._confirmed_ns = self._copy.standing, now_ns
            self._channel.send(self._state())
        self._channel.flush(now_ns)

    def _state(self) -> stream.State:
        parts = self._role, self._source, self._copy
        return standing.state(*parts, time.monotonic_ns(), repairing=self._walker.repairing)

    def _detail(self) -> dict[str, Any]:
        now_ns = time.monotonic_ns()
        said = standing.detail(self._report(now_ns), self._source, self._copy, now_ns)
        said["connections"] = standing.survival(
            self._role, self._peer, self._source, self._copy, synced=said["state"] == "synced"
        )
        said["vital"] = self._vital.complaints()
        said["paths"] = self._channel.paths
        parts = self._events, self._source, self._copy, self._channel, self._walker
        handed = {"delta_shipped": self._delta.shipped, "delta_taken": self._delta.taken}
        return said | {"counters": counters(*parts) | handed}

    def _report(self, now_ns: int) -> dict[str, Any]:
        troubles = standing.Troubles(
            self._locality.trouble or self._walker.refusal,
            self._channel.reason(now_ns),
            repairing=self._walker.repairing,
        )
        peer, name = self._peer if self._channel.up else None, self._settings.peer.name
        return standing.report(self._role, peer, self._source, self._copy, name, troubles, now_ns)

    def _tell_heart(self, now_ns: int) -> None:
        report = self._report(now_ns)
        essence = (report["state"], report["reason"], report["barrier"])
        if now_ns >= self._report_due_ns or essence != self._reported:
            self._report_due_ns, self._reported = now_ns + REPORT_NS, essence
            self._follower.say(report | self._facts, now_ns)
        if now_ns >= self._neighbours_due_ns:
            self._neighbours_due_ns = now_ns + NEIGHBOURS_NS
            self._follower.say({"op": "neighbours", "known": self._vital.neighbours()}, now_ns)


def main(arguments: Sequence[str]) -> int:
    """Run the service."""
    parser = argparse.ArgumentParser(prog="amaranten-ha sync")
    parser.add_argument("--config", type=Path, default=configuration.CONFIG_PATH)
    parser.add_argument("--keys", type=Path, default=configuration.KEYS_PATH)
    parser.add_argument("--heart", type=Path, default=configuration.SOCKET_PATH)
    parser.add_argument("--socket", type=Path, default=configuration.SYNC_SOCKET_PATH)
    parser.add_argument("--epoch", type=Path, default=configuration.EPOCH_PATH)
    options = parser.parse_args(arguments)
    loaded = configuration.load(options.config, options.keys)
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    return Sync(loaded, options.heart, options.epoch, options.socket).run()
