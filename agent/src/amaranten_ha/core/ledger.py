# SPDX-License-Identifier: GPL-3.0-or-later
"""What the peer has yet to be told: one pending change for each connection, never a history.

The active's side enters with every event and takes batches when the stream can carry them. An
update replaces what was pending, a connection that was born and died in between vanishes, and a
successor of the same tuple is told as a replacement. Overload makes the ledger compact, not grow;
beyond its bound it forgets everything and says so, and a bulk must follow.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum, IntEnum

from amaranten_ha.core import flow

PENDING_MAX = 262_144


class Op(IntEnum):
    """What is to be done with one connection."""

    UPSERT = 1
    DELETE = 2
    REPLACE = 3
    """Delete, then create: a successor may be translated otherwise, and NAT is never updated."""


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
    """The peer knows nothing of this connection yet."""
    since_ns: int


@dataclass(frozen=True, slots=True)
class _Marked:
    mark: Mark
    since_ns: int


Change = tuple[Op, bytes]


class Ledger:
    """The pending changes, oldest first."""

    def __init__(self, pending_max: int = PENDING_MAX) -> None:
        self._pending: OrderedDict[bytes, _Pending | _Marked] = OrderedDict()
        self._pending_max = pending_max
        self.overflowed = False
        self.births = 0
        self.deaths = 0
        """How many connections the peer does not know yet, and how many it still thinks alive."""

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest pending change came in, None while nothing is pending."""
        return next(iter(self._pending.values())).since_ns if self._pending else None

    def upsert(self, entry: flow.Entry, now_ns: int, *, known: bool) -> None:
        """Note that a connection is as `entry` says; `known` if the peer was told of it before."""
        pending = self._pending.get(entry.key)
        if not isinstance(pending, _Pending):
            self._add(entry.key, _Pending(Op.UPSERT, entry, not known, now_ns))
        elif pending.entry is None:
            pending.op, pending.entry = Op.REPLACE, entry
            self.deaths -= 1
        else:
            pending.entry = flow.merge(pending.entry, entry)

    def delete(self, key: bytes, now_ns: int) -> None:
        """Note that a connection is gone."""
        pending = self._pending.get(key)
        if not isinstance(pending, _Pending):
            self._add(key, _Pending(Op.DELETE, None, False, now_ns))
        elif pending.born:
            del self._pending[key]
            self.births -= 1
        elif pending.entry is not None:
            pending.op, pending.entry = Op.DELETE, None
            self.deaths += 1

    def mark(self, kind: MarkKind, number: int, now_ns: int) -> None:
        """Put a mark behind everything that is pending; it replaces an older one of its kind."""
        self._pending.pop(kind.value, None)
        self._add(kind.value, _Marked(Mark(kind, number), now_ns))

    def take(self, bytes_max: int) -> list[Change] | Mark | None:
        """Take the oldest changes, up to a size or to a mark; None if nothing is pending."""
        batch: list[Change] = []
        size = 0
        while self._pending and size < bytes_max:
            key, pending = self._pending.popitem(last=False)
            if isinstance(pending, _Marked):
                if not batch:
                    return pending.mark
                self._pending[key] = pending
                self._pending.move_to_end(key, last=False)
                break
            payload = key if pending.entry is None else pending.entry.record
            batch.append((pending.op, payload))
            size += len(payload)
            self.births -= pending.born
            self.deaths -= pending.entry is None
        return batch or None

    def clear(self) -> None:
        """Forget everything: the peer is away, or a bulk will say it all."""
        self._pending.clear()
        self.overflowed = False
        self.births = self.deaths = 0

    def _add(self, key: bytes, pending: _Pending | _Marked) -> None:
        if len(self._pending) >= self._pending_max:
            self.clear()
            self.overflowed = True
            return
        self._pending[key] = pending
        if isinstance(pending, _Pending):
            self.births += pending.born
            self.deaths += pending.entry is None
