# SPDX-License-Identifier: GPL-3.0-or-later
"""Sync's walks through the own connection table: one at a time, a piece each turn.

`sync` enters once a turn and says what is due: a bulk for the peer, a survey after lost events, a
sweep after a bulk was received, the loosening of own entries before the traffic moves away. A walk
keeps the pace of the stream and never holds up a turn; what the kernel refuses ends the walk, is
said, and is tried again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import Enum

from amaranten_ha.core import flow, rewrite, stream
from amaranten_ha.core.command import Command
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.source import Source, Survey
from amaranten_ha.io.netlink import CT_NEW, Dump, Reader, Request, Revisit, Table
from amaranten_ha.windows import Windows

S_NS = 1_000_000_000
RENEWAL_NS = 20 * S_NS
WHOLE_NS = 300 * S_NS
"""How often the whole table is read while few entries are known and each could be looked up."""
KNOWN_FEW = 4096
"""So many fill the kernel's buffer often enough: no piece of a dump takes long (1 ms at 2 000 and
262 144 buckets, seen on 6.18)."""
RETRY_NS = S_NS
LOOK_UPS_PER_TURN = 128
PENDING_MAX = 8_192
"""While so much waits to be told, the walk rests."""


class Walk(Enum):
    """Why the own table is being read."""

    SURVEY = "survey"
    SWEEP = "sweep"
    LOOSEN = "loosen"


class Walker:
    """Reads the table for `source` and `copy`; `apply` makes the changes of a sweep."""

    def __init__(
        self, table: Table, source: Source, copy: Copy, apply: Callable[[list[Command], int], None]
    ) -> None:
        self._table = table
        self._source = source
        self._copy = copy
        self._apply = apply
        self.windows = Windows(table, source.mirror, lambda: self._read(whole=False))
        self._walk: Walk | None = None
        self._reader: Reader | None = None
        self._survey_due_ns = self._whole_due_ns = self._retry_ns = 0
        self.loosen_due = False
        self.repairing = False
        """Events were lost and the table was not compared since."""
        self._lost = False
        """They were, since the newest survey began."""
        self.refusal = ""
        self.learned = False
        """The whole table was walked at least once."""
        self._surveys_begun = 0
        self.surveys_ended = 0
        """The number of the newest survey that has ended."""

    @property
    def ready(self) -> bool:
        """A walk is under way and does not rest."""
        return self._walk is not None and len(self._source.ledger) < PENDING_MAX

    def repair(self, now_ns: int) -> None:
        """Events were lost: compare the whole table at once."""
        self.repairing = self._lost = True
        self._survey_due_ns = now_ns

    def compare(self, now_ns: int) -> None:
        """What counts as survivable has changed: go through the whole table soon."""
        self._survey_due_ns = self._whole_due_ns = now_ns

    def fresh_survey(self, now_ns: int) -> int:
        """Ask for a survey that sees the table as it is from now on; returns its number."""
        self.compare(now_ns)
        return self._surveys_begun + 1

    def begin_bulk(self, number: int, now_ns: int, *, whole: bool) -> stream.Message | None:
        """Begin the bulk that the peer asked for; it takes the place of any other walk.

        It is of the `whole` table where the peer asks again: something may have been missed.
        None while the kernel refuses, and for a moment after it has.
        """
        if now_ns < self._retry_ns:
            return None
        try:
            whole = self._start(Walk.SURVEY, now_ns, whole=whole)
        except KernelRefused as error:
            self._give_up(str(error), now_ns)
            return None
        return self._source.begin_survey(Survey.BULK, number, whole=whole)

    def turn(self, now_ns: int) -> bool:
        """Do a piece of what is due; True when a sweep was finished."""
        self.windows.turn(now_ns)
        try:
            if self._walk is None:
                self._begin(now_ns)
            if not self.ready:
                return False
            done = self._continue(now_ns)
        except KernelRefused as error:
            self._give_up(str(error), now_ns)
            return False
        self.refusal = ""
        return done

    def _give_up(self, why: str, now_ns: int) -> None:
        self._walk = self._reader = None
        self._survey_due_ns = self._whole_due_ns = self._retry_ns = now_ns + RETRY_NS
        self._source.give_up_survey()
        self.refusal = why

    def _begin(self, now_ns: int) -> None:
        if self.loosen_due:
            self.loosen_due = False
            self.windows.stop()
            self._start(Walk.LOOSEN, now_ns, whole=False)
        elif self._copy.sweeping:
            self._start(Walk.SWEEP, now_ns, whole=False)
        elif now_ns >= self._survey_due_ns:
            whole = self._start(Walk.SURVEY, now_ns, whole=now_ns >= self._whole_due_ns)
            self._source.begin_survey(Survey.RENEWAL, whole=whole)

    def _start(self, walk: Walk, now_ns: int, *, whole: bool) -> bool:
        """Begin a walk in place of another one; says whether it sees the whole table."""
        if self._reader is not None:
            # What was to be whole stays so.
            whole |= self._walk is Walk.SURVEY and isinstance(self._reader, Dump)
            self._reader.close()
        self.loosen_due |= self._walk is Walk.LOOSEN
        reader = self._read(whole=whole)
        self._walk, self._reader = walk, reader
        if walk is Walk.SURVEY:
            self._lost = False
            self._surveys_begun += 1
            self._survey_due_ns = now_ns + RENEWAL_NS
            if isinstance(reader, Dump):
                self._whole_due_ns = now_ns + WHOLE_NS
        return isinstance(reader, Dump)

    def _read(self, *, whole: bool) -> Reader:
        """Begin to read the table: whole if that is wanted, or needed, or costs nobody much."""
        mirror = self._source.mirror
        if whole or not self.learned or self.repairing or len(mirror) > KNOWN_FEW:
            return Dump()
        return Revisit(self._table, [(flow.key_family(key), key) for key in mirror])

    def _continue(self, now_ns: int) -> bool:
        entries = self._reader.read() if self._reader is not None else []
        if self._walk is Walk.SURVEY:
            self._source.surveyed(entries, now_ns)
        elif self._walk is Walk.SWEEP:
            self._apply(self._copy.sweep(entries), now_ns)
        else:
            self._loosen(entries)
        if self._reader is not None and not self._reader.done:
            return False
        self._reader = None
        if self._walk is Walk.SURVEY and not self._confirm_unseen(now_ns):
            return False
        swept = self._walk is Walk.SWEEP
        self._walk = None
        if swept:
            self._copy.swept()
        return swept

    def _confirm_unseen(self, now_ns: int) -> bool:
        """A walk may miss an entry: look up what it has not seen before it is told as gone."""
        unseen = self._source.mirror.unseen(LOOK_UPS_PER_TURN)
        for key in unseen:
            self.look_up(key, now_ns)
        if unseen:
            return False
        self._source.end_survey(now_ns)
        self.surveys_ended = self._surveys_begun
        self.learned = True
        self.repairing &= self._lost
        return True

    def look_up(self, key: bytes, now_ns: int) -> None:
        """Ask the kernel for one entry, and let the source know what it is now."""
        try:
            found = self._table.look_up(flow.key_family(key), key)
        except (PeerError, KernelRefused):
            # A key that the peer made up, for one; nothing is learned, and nothing is lost.
            self._source.mirror.let_be(key)
            return
        self._source.looked_up(key, found, now_ns)

    def loosen_within(self, budget_ns: int, clock: Callable[[], int]) -> None:
        """Loosen at once what can be done in this time; a walk does the rest."""
        self.windows.stop()
        deadline_ns = clock() + budget_ns
        try:
            walk = self._read(whole=False)
            while not walk.done and clock() < deadline_ns:
                self._loosen(walk.read())
        except KernelRefused as error:
            self.refusal = str(error)
            return
        self.loosen_due = not walk.done
        walk.close()

    def _loosen(self, entries: list[bytes]) -> None:
        requests = []
        survives = self._source.mirror.scope.survives
        for attributes in entries:
            with contextlib.suppress(PeerError):
                entry = flow.parse(attributes)
                change = rewrite.loosening(entry) if survives(entry) else None
                if change is not None:
                    requests.append(Request(CT_NEW, 0, entry.family, change))
        # An entry that ended meanwhile needs no second thought: errors are of no interest.
        self._table.change(requests)
