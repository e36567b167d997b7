# SPDX-License-Identifier: GPL-3.0-or-later
"""The passive's side of replication: from what the active tells to what the own kernel must hold.

`sync` enters with messages and gets commands for the kernel; it comes back with every command that
was refused and gets what to try instead, until the entry is there or is counted as refused. No
socket or clock in here. A bulk is mark and sweep: what was not told between its beginning and its
end is removed afterwards, but only what is survivable, so never this node's own traffic. Nothing is
believed before the bulk that was asked for has begun, and nothing while this node is not passive.
"""

from __future__ import annotations

import errno
from collections import Counter

from amaranten_ha.core import digest, flow, rewrite, stream
from amaranten_ha.core.audit import AFRESH, LISTED_MAX, Audit
from amaranten_ha.core.command import Command, Verb, complaint, second_way
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Change, Op
from amaranten_ha.core.mirror import Known, Mirror

S_NS = 1_000_000_000
RETRY_REFUSED_NS = 10 * S_NS
BULK_NS = 120 * S_NS
"""How long a bulk may take; one that follows one that was not complete in time, twice as long.
200 000 entries take 3.4 s (docs/figures.md), and more take longer in proportion."""
LATE_MAX = 4
"""So often the time is doubled."""
AFRESH_NS = 30 * S_NS
"""How often a copy that differs much may be asked for anew."""


class Copy:
    """What the passive knows of the stream. `want` is the number of the bulk that it asks for."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.want = 0
        self.done = 0
        self.position = 0
        self.reached_ns = 0
        self.barrier = 0
        self.told = 0
        """How many connections the active had told of when it last said so."""
        self.audit = Audit(mirror)
        self.replies: list[stream.Message] = []
        """What is to be asked of the active."""
        self.sweeping = False
        self.refused: Counter[str] = Counter()
        self.helpless: set[bytes] = set()
        """Copies without their helper, which this kernel does not have."""
        self.created = self.removed = 0
        """What the newest bulk has brought and swept."""
        self.late = 0
        """How many bulks in a row were not complete in time."""
        self.batches = self.changes = 0
        """How much was received, all bulks and sessions together."""
        self._number = 0
        self._told_once = False
        self._begun = 0
        self._marks: set[bytes] | None = None
        self._retry_ns = self._afresh_ns = self._deadline_ns = 0

    @property
    def share_permille(self) -> int:
        """How much of the active's connections is here and the same, in thousandths."""
        if not self._told_once:
            return 0
        counted = 1000 * min(len(self.mirror), self.told) // self.told if self.told else 1000
        return min(counted, self.audit.share_permille(self.told))

    @property
    def standing(self) -> tuple[int, ...]:
        """What the active waits for: how far this is, and how it differs."""
        return self.position, self.done, self.audit.missing, self.audit.stale

    @property
    def complete(self) -> bool:
        """The bulk that was asked for is applied and swept."""
        return self.want != 0 and self.done == self.want

    def start(self) -> None:
        """This node is passive, or the session is new: ask for everything."""
        self.stop()
        self._number += 1
        self.want = self._number

    def stop(self) -> None:
        """Believe nothing from now on."""
        self.want = self.done = self.position = self.barrier = self._begun = 0
        self.told = 0
        self._told_once = self.sweeping = False
        self.audit.reset()
        self.replies.clear()
        self._marks = None

    def receive(self, message: stream.Message, now_ns: int) -> list[Command]:
        """Take one message in; returns what the kernel is to do, in order."""
        if isinstance(message, stream.BulkBegin):
            if message.number == self.want:
                self._begun, self._marks = message.number, set()
                self.done = 0
                self.refused.clear()
                self.helpless.clear()
                self.created = self.removed = 0
                self._deadline_ns = now_ns + (BULK_NS << min(self.late, LATE_MAX))
                self.audit.reset()
            return []
        if not self.want or self._begun != self.want:
            return []
        if isinstance(message, stream.Changes):
            commands = [
                command for change in message.changes for command in self._change(change, now_ns)
            ]
            self.position, self.reached_ns = message.position, now_ns
            self.batches += 1
            self.changes += len(message.changes)
            return commands
        if isinstance(message, stream.BulkEnd) and message.number == self.want:
            self.sweeping = True
        elif isinstance(message, stream.BarrierPassed):
            self.barrier = message.number
        elif isinstance(message, stream.State):
            self.told, self._told_once = message.told, True
        elif self.complete:
            return self._audit(message, now_ns)
        return []

    def _audit(self, message: stream.Message, now_ns: int) -> list[Command]:
        """Compare, ask for what is missing or stale, and return the deletions of what is not so."""
        if isinstance(message, stream.Digest):
            differ = self.audit.differing(digest.decode(message.sums), now_ns)
            if len(differ) > AFRESH and now_ns >= self._afresh_ns:
                self._afresh_ns = now_ns + AFRESH_NS
                self.start()
            elif differ:
                self.replies.append(stream.List(tuple(differ[:LISTED_MAX])))
        elif isinstance(message, stream.Listing):
            found = self.audit.listed(message.bucket, message.entries, last=message.last)
            ask, delete = self.audit.mend(found) if found else ([], [])
            for start in range(0, len(ask), stream.KEYS_ASKED_MAX):
                keys = ask[start : start + stream.KEYS_ASKED_MAX]
                self.replies.append(stream.Ask(tuple(keys)))
            return [Command(Verb.DELETE, key, None) for key in delete if self.mirror.forget(key)]
        return []

    def refused_by_kernel(self, command: Command, code: int, now_ns: int) -> list[Command]:
        """Return what to try instead of a command that the kernel refused."""
        if command.verb in (Verb.DELETE, Verb.EVICT):
            return []
        instead = second_way(command, code)
        if command.last:
            # What holds its translated reply may be a living one, told before this patient word:
            # nothing is put out of the way of what is closed.
            return [each for each in instead if each.verb is not Verb.EVICT]
        if instead:
            if command.verb in (Verb.CREATE, Verb.UPDATE_HELPER) and code == errno.EOPNOTSUPP:
                self.helpless.add(command.key)
            return instead
        self.mirror.forget(command.key)
        self.refused[complaint(code)] += 1
        self._retry_ns = now_ns + RETRY_REFUSED_NS
        return []

    def retry(self, now_ns: int) -> None:
        """Ask for everything again while some of it was refused, or if it has not come in time."""
        if self.complete:
            self.late = 0
            if self.refused and now_ns >= self._retry_ns:
                self.start()
        elif self._begun and not self.sweeping and now_ns >= self._deadline_ns:
            self.late += 1
            self.start()

    def sweep(self, entries: list[bytes]) -> list[Command]:
        """Return the deletions for a piece of the own table: survivable and not told."""
        commands = []
        for attributes in entries:
            try:
                entry = flow.parse(attributes)
                counts = self.mirror.counts(entry)
            except PeerError:
                continue
            if counts and self._marks is not None and entry.key not in self._marks:
                self.mirror.forget(entry.key)
                self.removed += 1
                commands.append(Command(Verb.DELETE, entry.key, None))
        return commands

    def swept(self) -> None:
        """The walk of the sweep is over: the copy is complete."""
        if self.sweeping:
            self.sweeping, self._marks = False, None
            self.done = self.want

    def _change(self, change: Change, now_ns: int) -> list[Command]:
        op, payload = change
        if op is Op.DELETE:
            if self._marks is not None:
                self._marks.discard(payload)
            self.helpless.discard(payload)
            held = self.mirror.forget(payload)
            return [Command(Verb.DELETE, payload, None)] if held else []
        try:
            entry = flow.parse(payload)
            if not self.mirror.scope.belongs(entry):
                return []
        except PeerError:
            self.refused["a record that cannot be read"] += 1
            return []
        if op is Op.LAST:
            return self._last(entry)
        known = self.mirror.note(entry, now_ns // S_NS, whole=op is Op.REPLACE)
        if self._marks is not None:
            self._marks.add(entry.key)
        if known is Known.NOT:
            self.created += 1
            return [Command(Verb.CREATE, entry.key, entry)]
        if op is Op.REPLACE or known is Known.OTHER:
            # A bulk, for one, does not know that it tells of a successor, and an update would leave
            # the old translation: the kernel translates an entry when it is created.
            return [Command(Verb.DELETE, entry.key, None), Command(Verb.CREATE, entry.key, entry)]
        if self._marks is not None and rewrite.helper(entry):
            # Whether the copy that is here has its helper is what only the kernel knows.
            return [Command(Verb.UPDATE_HELPER, entry.key, entry)]
        return [Command(Verb.UPDATE, entry.key, entry)]

    def _last(self, entry: flow.Entry) -> list[Command]:
        """A connection is closed: its copy may be needed for a moment, and is counted no more."""
        known = self.mirror.let_go(entry)
        if self._marks is not None:
            self._marks.add(entry.key)
        self.helpless.discard(entry.key)
        if known is Known.SAME:
            return [Command(Verb.UPDATE, entry.key, entry, last=True)]
        before = [Command(Verb.DELETE, entry.key, None)] if known is Known.OTHER else []
        return [*before, Command(Verb.CREATE, entry.key, entry, last=True)]
