# SPDX-License-Identifier: GPL-3.0-or-later
"""What the peer has yet to be told: one pending change for each connection, never a history.

The active's side enters with every event and takes batches when the stream can carry them. An
update replaces what was pending, a connection that was born and died in between vanishes, one that
closed is told once more, and a successor of the same tuple is told as a replacement. Overload makes
the ledger compact, not grow; beyond its bound it forgets everything and says so, and a bulk must
follow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from amaranten_ha.core import flow

MS_NS = 1_000_000
PENDING_MAX = 262_144
HOLD_NS = 5 * MS_NS
"""How long a change may wait for company, or for its own end."""
HOLD_LOADED_NS = 100 * MS_NS
"""How long a patient one may, while `CROWD` or more of them wait."""
CROWD = 500


class Op(IntEnum):
    """What is to be done with one connection."""

    UPSERT = 1
    DELETE = 2
    REPLACE = 3
    """Delete, then create: a successor may be translated otherwise, and NAT is never updated."""
    LAST = 4
    """It is closed. The copy ends by itself soon, and neither side counts it any more."""


class MarkKind(Enum):
    """What stands between changes."""

    BARRIER = b"barrier"
    BULK_END = b"bulk end"


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything before it was told when it is reached."""

    kind: MarkKind
    number: int


@dataclass(slots=True)
class _Pending:
    op: Op
    entry: flow.Entry | None
    born: bool
    """The peer is to hold this connection, and knows nothing of it yet."""
    dies: bool
    """The peer holds it, and is not to any more."""
    since_ns: int


@dataclass(frozen=True, slots=True)
class _Marked:
    mark: Mark
    since_ns: int


Change = tuple[Op, bytes]


class Ledger:
    """The pending changes, in two queues, each oldest first.

    What a switch must not lose waits for 5 ms at most: connections that are established. The rest
    (the end of connections, and what nobody has answered yet) is patient: the more of it waits, the
    longer, because it changes again or vanishes meanwhile.
    """

    def __init__(self, pending_max: int = PENDING_MAX) -> None:
        self._prompt: OrderedDict[bytes, _Pending | _Marked] = OrderedDict()
        self._patient: OrderedDict[bytes, _Pending] = OrderedDict()
        self._pending_max = pending_max
        self.overflowed = False
        self.births = 0
        self.deaths = 0
        """How many connections the peer does not know yet, and how many it still thinks alive."""

    def __len__(self) -> int:
        return len(self._prompt) + len(self._patient)

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest pending change came in, None while nothing is pending."""
        heads = [next(iter(queue.values())).since_ns for queue in self._queues if queue]
        return min(heads) if heads else None

    @property
    def due_ns(self) -> int | None:
        """When something should be taken, None while nothing is pending."""
        due = []
        if self._prompt:
            due.append(next(iter(self._prompt.values())).since_ns + HOLD_NS)
        if self._patient:
            due.append(next(iter(self._patient.values())).since_ns + self._patience_ns)
        return min(due) if due else None

    @property
    def _queues(self) -> tuple[OrderedDict[bytes, Any], ...]:
        return self._prompt, self._patient

    @property
    def _patience_ns(self) -> int:
        crowd = min(len(self._patient), CROWD)
        return HOLD_NS + (HOLD_LOADED_NS - HOLD_NS) * crowd // CROWD

    def upsert(self, entry: flow.Entry, now_ns: int, *, known: bool) -> None:
        """Note that a connection is as `entry` says; `known` if the peer was told of it before."""
        key = entry.key
        pending = self._patient.get(key)
        if pending is None:
            pending = self._prompt.get(key)  # type: ignore[assignment]
            if pending is None:
                queue = self._prompt if _prompt(entry) else self._patient
                self._add(queue, key, _Pending(Op.UPSERT, entry, not known, False, now_ns))
                return
        elif _prompt(entry):
            self._prompt[key] = self._patient.pop(key)
        if pending.dies:
            pending.op, pending.entry = Op.REPLACE, entry
            self._count(pending, born=False, dies=False)
        elif pending.op is Op.LAST:
            pending.op, pending.entry = Op.UPSERT, entry
            self._count(pending, born=not known, dies=False)
        elif pending.entry is not None:
            pending.entry = flow.merge(pending.entry, entry)

    def delete(self, key: bytes, now_ns: int) -> None:
        """Note that a connection is gone."""
        queue = self._queue_of(key)
        pending = queue.get(key)
        if pending is None:
            self._add(self._patient, key, _Pending(Op.DELETE, None, False, True, now_ns))
            return
        dies = pending.dies or not (pending.born or pending.op is Op.LAST)
        self._count(pending, born=False, dies=dies)
        if dies:
            pending.op, pending.entry = Op.DELETE, None
            self._may_wait(key, pending, now_ns)
        else:
            del queue[key]

    def last(self, entry: flow.Entry, now_ns: int, *, known: bool) -> None:
        """Note that a connection is closed as `entry` says; `known` if the peer was told of it."""
        pending = self._queue_of(entry.key).get(entry.key)
        if pending is None:
            self._add(self._patient, entry.key, _Pending(Op.LAST, entry, False, known, now_ns))
            return
        said = entry if pending.entry is None else flow.merge(pending.entry, entry)
        dies = not pending.born and (known or pending.dies)
        pending.op, pending.entry = Op.LAST, said
        self._count(pending, born=False, dies=dies)
        self._may_wait(entry.key, pending, now_ns)

    def _may_wait(self, key: bytes, pending: _Pending, now_ns: int) -> None:
        """What has ended meanwhile is patient, unless a mark waits for it."""
        if key in self._prompt and not any(kind.value in self._prompt for kind in MarkKind):
            del self._prompt[key]
            pending.since_ns = now_ns
            self._patient[key] = pending

    def _queue_of(self, key: bytes) -> OrderedDict[bytes, Any]:
        return self._patient if key in self._patient else self._prompt

    def mark(self, kind: MarkKind, number: int, now_ns: int) -> None:
        """Put a mark behind everything that is pending; it replaces an older one of its kind."""
        self._prompt.update(self._patient)
        self._patient.clear()
        self._prompt.pop(kind.value, None)
        self._add(self._prompt, kind.value, _Marked(Mark(kind, number), now_ns))

    def take(self, bytes_max: int, before_ns: int) -> list[Change] | Mark | None:
        """Take what is prompt, and what is patient and came before a moment, oldest first.

        The batch ends at a size or before a mark; a mark comes alone. None if there is nothing.
        """
        batch: list[Change] = []
        size = 0
        while size < bytes_max:
            if self._prompt:
                key, pending = self._prompt.popitem(last=False)
                if isinstance(pending, _Marked):
                    if not batch:
                        return pending.mark
                    self._prompt[key] = pending
                    self._prompt.move_to_end(key, last=False)
                    break
            elif self._patient and next(iter(self._patient.values())).since_ns <= before_ns:
                key, pending = self._patient.popitem(last=False)
            else:
                break
            payload = key if pending.entry is None else pending.entry.record
            batch.append((pending.op, payload))
            size += len(payload)
            self._count(pending, born=False, dies=False)
        return batch or None

    def take_due(self, bytes_max: int, now_ns: int) -> list[Change] | Mark | None:
        """Take what has waited long enough, once something has.

        What is patient goes when it has waited for half as long: else every turn would find some
        that is due just now, and send a small batch.
        """
        due_ns = self.due_ns
        if due_ns is None or now_ns < due_ns:
            return None
        return self.take(bytes_max, now_ns - self._patience_ns // 2)

    def clear(self) -> None:
        """Forget everything: the peer is away, or a bulk will say it all."""
        self._prompt.clear()
        self._patient.clear()
        self.overflowed = False
        self.births = self.deaths = 0

    def _add(self, queue: OrderedDict[bytes, Any], key: bytes, pending: _Pending | _Marked) -> None:
        if len(self) >= self._pending_max:
            self.clear()
            self.overflowed = True
            return
        queue[key] = pending
        if isinstance(pending, _Pending):
            self.births += pending.born
            self.deaths += pending.dies

    def _count(self, pending: _Pending, *, born: bool, dies: bool) -> None:
        self.births += born - pending.born
        self.deaths += dies - pending.dies
        pending.born, pending.dies = born, dies


def _prompt(entry: flow.Entry) -> bool:
    """Say whether this is a connection that somebody would miss."""
    if entry.protocol == flow.TCP:
        return entry.state == flow.TcpState.ESTABLISHED
    return entry.status & flow.SEEN_REPLY != 0
