# SPDX-License-Identifier: GPL-3.0-or-later
"""The active's side of replication: from what the kernel says to what the peer is told.

`sync` enters with events, with pieces of a walk through the table, and with the peer's state; it
takes messages out while the channel has room. No socket or clock in here. Three things keep the
copy right, and all are one survey of the table: a bulk (everything), a renewal (what is new,
changed or about to run out), and the repair after events were lost (the same, at once). An entry
that a survey did not see is looked up before it is told as gone: a walk may miss entries.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from amaranten_ha.core import digest, flow, greeting, stream
from amaranten_ha.core.census import Census
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Ledger, Mark, MarkKind
from amaranten_ha.core.mirror import Known, Mirror

S_NS = 1_000_000_000
MS_NS = 1_000_000
UNCONFIRMED_NS = 250 * MS_NS
LOST_MAX = 65_536
DIGEST_NS = S_NS
"""How often the passive gets something to compare itself with."""
DIGEST_MENDED_NS = 100 * MS_NS
"""How soon it gets another one, when it has asked for what the last one had shown."""
LISTED_AT_ONCE = 512


class Survey(Enum):
    """Why the table is walked."""

    NONE = "none"
    RENEWAL = "renewal"
    BULK = "bulk"


class Source:
    """Knows the own table, and what the peer was told of it while `sending`."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.ledger = Ledger()
        self.census = Census()
        self.sending = False
        self.survey = Survey.NONE
        self.position = 0
        self.lost: list[bytes] = []
        """Entries that vanished from the own table while nobody was told: the passive's holes."""
        self.alone = False
        """This node is active: what begins while nobody is told is remembered in `born`."""
        self.born: dict[bytes, None] = {}
        self.minor = greeting.MINOR
        """The minor version of replication that the peer understands."""
        self.malformed = 0
        self.changes = 0
        """How many changes the peer was told."""
        self._bulk = self._swept = 0
        """The numbers of the newest bulk, and of the newest that the peer has completed."""
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self._lag_ns = 0
        self._digest_due_ns = self._digest_ns = 0
        self._listings: deque[int] = deque()
        self._deep = self._deep_survey = False
        self._whole = True

    @property
    def told(self) -> int:
        """How many connections the peer holds once all that was handed out has arrived."""
        return len(self.mirror) - self.ledger.births + self.ledger.deaths

    def stop(self) -> None:
        """The peer is gone or is not to be told any more."""
        self.sending = False
        self.ledger.clear()
        self._in_flight.clear()
        self._bulk = self._swept = self._lag_ns = 0
        self._listings.clear()
        self._deep = self._deep_survey = False
        if self.survey is Survey.BULK:
            self.survey = Survey.RENEWAL

    # What the kernel says.

    def hear(self, gone: bool, attributes: bytes, now_ns: int) -> bytes | None:
        """Take one event in; returns the key of an entry that has to be looked up for it."""
        try:
            if gone:
                self.gone(flow.key_of(attributes), now_ns)
                return None
            return self._changed(flow.parse(attributes), now_ns)
        except PeerError:
            self.malformed += 1
            return None

    def gone(self, key: bytes, now_ns: int) -> None:
        """An entry does not exist any more."""
        if not self.mirror.forget(key):
            return
        self.born.pop(key, None)
        if self.sending:
            self.ledger.delete(key, now_ns)
        elif len(self.lost) < LOST_MAX:
            self.lost.append(key)

    def looked_up(self, key: bytes, attributes: bytes | None, now_ns: int) -> None:
        """Take the answer to a look-up in: what the entry is now."""
        try:
            entry = flow.parse(attributes) if attributes is not None else None
        except PeerError:
            self.malformed += 1
            self.mirror.let_be(key)
            return
        # The kernel finds an entry by either direction: another one may answer.
        if entry is None or entry.key != key:
            self.gone(key, now_ns)
        elif self._counts(entry) and entry.state != flow.UNSAID:
            self._tell(entry, now_ns, whole=True)
        else:
            self._closed(entry, now_ns)

    def adopted(self, entry: flow.Entry, now_ns: int) -> None:
        """An entry of the node that yielded is in the own kernel now."""
        self._tell(entry, now_ns)

    def _counts(self, entry: flow.Entry) -> bool:
        """Say whether the mirror is to know the entry."""
        return self.mirror.scope.survives(entry) if self.alone else self.mirror.counts(entry)

    def _changed(self, entry: flow.Entry, now_ns: int) -> bytes | None:
        if not self.mirror.scope.survives(entry):
            if entry.over:
                self._closed(entry, now_ns)
            elif entry.protocol == flow.TCP:
                self.mirror.put_aside(entry, now_ns // S_NS)
            return None
        if entry.state == flow.UNSAID:
            return entry.key
        self._tell(self.mirror.complete(entry, now_ns // S_NS), now_ns)
        return None

    def _closed(self, entry: flow.Entry, now_ns: int) -> None:
        """Take in an entry that does not survive any more: what a reset leaves says nothing.

        Of what both sides have closed, data and the last segment may still be on their way, or be
        sent again: the tracker does not look at what the last acknowledgement says.
        """
        told = self.sending and self.minor >= greeting.LAST_MINOR
        closed = entry.state == flow.TcpState.TIME_WAIT and self.mirror.scope.belongs(entry)
        if told and closed:
            whole = self.mirror.complete(entry, now_ns // S_NS)
            self.ledger.last(whole, now_ns, known=self.mirror.forget(entry.key))
        else:
            self.gone(entry.key, now_ns)

    def _tell(self, entry: flow.Entry, now_ns: int, *, whole: bool = False) -> None:
        known = self.mirror.note(entry, now_ns // S_NS, whole=whole) is not Known.NOT
        if self.alone and not self.sending and not known and len(self.born) < LOST_MAX:
            self.born[entry.key] = None
        if self.sending:
            self.ledger.upsert(entry, now_ns, known=known)

    # Surveys.

    def begin_survey(
        self, survey: Survey, bulk: int = 0, *, whole: bool = True
    ) -> stream.Message | None:
        """Begin a walk; for a bulk returns what announces it. What was pending is in the walk.

        Unless it is `whole` it sees only what is known, and what cannot survive is not counted.
        """
        self.survey, self._whole = survey, whole
        self._deep, self._deep_survey = False, self._deep
        self.mirror.begin_survey()
        if whole:
            self.census.begin()
        if survey is not Survey.BULK:
            return None
        # What was told before this beginning is believed by nobody and confirmed by nobody.
        self._in_flight.clear()
        self._lag_ns = 0
        self.ledger.clear()
        self.born.clear()
        self.sending = True
        self._bulk = bulk
        return stream.BulkBegin(bulk)

    def surveyed(self, entries: list[bytes], now_ns: int) -> None:
        """Take a piece of the walk in."""
        everything = self.survey is Survey.BULK
        for attributes in entries:
            try:
                entry = flow.parse(attributes)
                if not self._counts(entry):
                    if not entry.over:
                        self.census.add(entry, self.mirror.scope)
                    continue
                if not (self.mirror.due(entry, now_ns // S_NS) or everything):
                    continue
            except PeerError:
                self.malformed += 1
                continue
            if self.mirror.doubts(entry):
                continue  # which of the two is there now is looked up in the end
            known = self.mirror.note(entry, now_ns // S_NS, whole=True) is not Known.NOT
            if self.sending:
                self.ledger.upsert(entry, now_ns, known=known or everything)

    def give_up_survey(self) -> None:
        """The walk cannot go on: a bulk without an end is none, and has to begin anew."""
        if self.survey is Survey.BULK:
            self.stop()

    def end_survey(self, now_ns: int) -> None:
        """The walk is over, and what it had not seen was looked up."""
        self.mirror.end_survey()
        if self._whole:
            self.census.end()
        if self.survey is Survey.BULK and self.sending:
            self.ledger.mark(MarkKind.BULK_END, self._bulk, now_ns)
        self.survey = Survey.NONE
        if self._deep_survey and self.sending:
            self._listings.extend(range(digest.BUCKETS))
        self._deep_survey = False

    # What the peer is told, and what it says.

    def barrier(self, number: int, now_ns: int) -> None:
        """All that was heard so far is told before this barrier."""
        if self.sending:
            self.ledger.mark(MarkKind.BARRIER, number, now_ns)

    def take(self, now_ns: int, *, urgent: bool) -> stream.Message | None:
        """Return the next message, None while there is nothing or it may wait for company."""
        oldest_ns = self.ledger.oldest_ns
        if oldest_ns is None:
            return None
        if urgent:
            taken = self.ledger.take(stream.BATCH_BYTES, now_ns)
        else:
            taken = self.ledger.take_due(stream.BATCH_BYTES, now_ns)
        if isinstance(taken, Mark):
            if taken.kind is MarkKind.BARRIER:
                return stream.BarrierPassed(taken.number)
            return stream.BulkEnd(taken.number)
        if taken is None:
            return None
        self.position += 1
        self.changes += len(taken)
        self._in_flight.append((self.position, oldest_ns, len(taken)))
        return stream.Changes(self.position, tuple(taken))

    def asked(self, wanted: stream.List) -> None:
        """The peer wants buckets entry by entry; for all of them a survey must come first."""
        self._deep |= wanted.deep
        self._listings.extend(wanted.buckets[: digest.BUCKETS - len(self._listings)])

    def mending(self) -> None:
        """The peer has asked for entries: it compares itself again once it has them."""
        self._digest_due_ns = min(self._digest_due_ns, self._digest_ns + DIGEST_MENDED_NS)

    def audit_due(self, now_ns: int) -> bool:
        """Something is to be compared: then nothing should wait in the ledger."""
        return (
            self.sending
            and self.survey is not Survey.BULK
            and (now_ns >= self._digest_due_ns or bool(self._listings))
        )

    def audit(self, now_ns: int) -> list[stream.Message]:
        """Return what the peer compares itself with at this place of the stream; often nothing.

        Only while nothing is pending is the mirror what the peer was told, and nothing may come
        between the pieces of a list, nor a digest between the lists of one.
        """
        if len(self.ledger) or not self.audit_due(now_ns):
            return []
        if not self._listings:
            self._digest_due_ns, self._digest_ns = now_ns + DIGEST_NS, now_ns
            return [stream.Digest(self.mirror.sums.encode())]
        bucket = self._listings.popleft()
        entries = tuple(self.mirror.listed(bucket).items())
        starts = range(0, len(entries) or 1, LISTED_AT_ONCE)
        pieces = [entries[start : start + LISTED_AT_ONCE] for start in starts]
        return [stream.Listing(bucket, piece is pieces[-1], piece) for piece in pieces]

    def confirmed(self, state: stream.State, now_ns: int) -> None:
        """The peer says how far it is."""
        if state.done == self._bulk != self._swept:
            # It counts as a copy once it was compared.
            self._swept, self._digest_due_ns = state.done, now_ns
        reached_ns = now_ns - state.age_us * 1000
        self._lag_ns = 0
        while self._in_flight and self._in_flight[0][0] <= state.position:
            _position, oldest_ns, _count = self._in_flight.popleft()
            self._lag_ns = max(self._lag_ns, reached_ns - oldest_ns)

    def lag_ms(self, now_ns: int) -> int:
        """Return how old the oldest change is that the peer has not applied, or the newest had."""
        waiting = [self.ledger.oldest_ns] if self.ledger.oldest_ns is not None else []
        waiting += [self._in_flight[0][1]] if self._in_flight else []
        waits_ns = now_ns - min(waiting) if waiting else 0
        return max(self._lag_ns, waits_ns if waits_ns > UNCONFIRMED_NS else 0, 0) // MS_NS

    @property
    def lag_entries(self) -> int:
        """How many changes the peer has not applied, as far as is known."""
        return len(self.ledger) + sum(count for _position, _since, count in self._in_flight)
