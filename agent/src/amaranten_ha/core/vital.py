# SPDX-License-Identifier: GPL-3.0-or-later
"""Other vital state, whatever it is: what the peer knows of it, and what is to be done here.

The rooms of expectations, neighbours and named sets enter, each with keys and values that are
opaque here. The active's `Teller` says differences, and everything when a bulk begins; the
passive's `Holder` remembers what is wanted and what could not be made yet. All of it is bounded and
nothing in here knows the kernel, so the order in which things arrive does not matter: what cannot
be made because something else is missing is tried again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from amaranten_ha.core import tlv
from amaranten_ha.core.errors import PeerError

MS_NS = 1_000_000
RETRY_NS = 200 * MS_NS
TRIES_MAX = 50
"""Ten seconds: what is missing for so long does not come."""
CHANGES_BYTES_MAX = 32 * 1024
_KEY, _VALUE = 1, 2


class Topic(IntEnum):
    """What a message is about; the numbers are on the wire."""

    EXPECTATIONS = 1
    NEIGHBOURS = 2
    SETS = 3


class Op(IntEnum):
    """What one part of a message says."""

    PUT = 1
    REMOVE = 2
    BEGIN = 3
    """All that follows until the end is everything there is; the payload is the bulk's number."""
    END = 4


Change = tuple[Op, bytes]


class Item(NamedTuple):
    """One thing: what identifies it, and what it is."""

    key: bytes
    value: bytes


def packed(item: Item) -> bytes:
    """Return an item as the payload of a change."""
    return tlv.attribute(_KEY, item.key) + tlv.attribute(_VALUE, item.value)


def unpacked(payload: bytes) -> Item:
    """Read the payload of a change; raises PeerError."""
    parts = tlv.index(payload)
    if not parts.keys() >= {_KEY, _VALUE}:
        raise PeerError("other vital state without a key or a value")
    return Item(parts[_KEY], parts[_VALUE])


class Teller:
    """The active's side of one topic: what there is, and what the peer has yet to be told."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._bulk = 0
        self._opens = self._closes = False
        self._pending: dict[bytes, None] = {}
        self.known: dict[bytes, bytes] = {}
        self.sending = False
        self.left_out = 0
        """How many things were more than fits."""

    def begin(self, bulk: int) -> None:
        """Tell everything, and from now on every difference."""
        self._bulk, self.sending = bulk, True
        self._opens = self._closes = True
        self._pending = dict.fromkeys(self.known)

    def stop(self) -> None:
        """Tell nothing."""
        self.sending = self._opens = self._closes = False
        self._pending.clear()

    def put(self, key: bytes, value: bytes) -> None:
        """Note that this is so."""
        if self.known.get(key) == value:
            return
        if key not in self.known and len(self.known) >= self._count_max:
            self.left_out += 1
            return
        self.known[key] = value
        self._note(key)

    def remove(self, key: bytes) -> None:
        """Note that this is no more."""
        if self.known.pop(key, None) is not None:
            self._note(key)

    def present(self, items: Mapping[bytes, bytes]) -> None:
        """Take in everything that there is."""
        self.left_out = 0
        for key in [key for key in self.known if key not in items]:
            self.remove(key)
        for key, value in items.items():
            self.put(key, value)

    def take(self) -> tuple[Change, ...]:
        """Return what is to be told next, nothing if nothing is."""
        changes: list[Change] = []
        size = 0
        if self._opens:
            self._opens = False
            changes.append((Op.BEGIN, self._bulk.to_bytes(8, "big")))
        while self._pending and size < CHANGES_BYTES_MAX:
            key = next(iter(self._pending))
            del self._pending[key]
            value = self.known.get(key)
            change = (Op.REMOVE, key) if value is None else (Op.PUT, packed(Item(key, value)))
            changes.append(change)
            size += len(change[1])
        if self._closes and not self._pending:
            self._closes = False
            changes.append((Op.END, b""))
        return tuple(changes)

    def _note(self, key: bytes) -> None:
        if self.sending:
            self._pending[key] = None


class Work(NamedTuple):
    """What is to be done in the kernel, in this order."""

    removals: list[Item]
    puts: list[Item]


class Holder:
    """The passive's side of one topic: what is wanted, and what of it is not made yet."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._marks: set[bytes] | None = None
        self._todo: dict[bytes, int] = {}
        """What has to be made, and how often it was tried."""
        self._removals: list[Item] = []
        self._retry_ns = 0
        self.wanted: dict[bytes, bytes] = {}
        self.believes = False
        self.refused: dict[bytes, str] = {}
        """What could not be made for good, and why."""

    def stop(self) -> None:
        """This node is not passive, or the session is over: believe nothing; touch nothing."""
        self.believes, self._marks = False, None
        self._todo.clear()
        self._removals.clear()
        self.wanted.clear()
        self.refused.clear()

    def receive(self, changes: Iterable[Change], bulk: int) -> None:
        """Take changes in; nothing is believed before the beginning of the bulk asked for."""
        for op, payload in changes:
            if op is Op.BEGIN:
                self.believes = bulk != 0 and payload == bulk.to_bytes(8, "big")
                self._marks = set()
            elif not self.believes:
                continue
            elif op is Op.PUT:
                self._put(unpacked(payload))
            elif op is Op.REMOVE:
                self._remove(payload)
            elif self._marks is not None:
                for key in [key for key in self.wanted if key not in self._marks]:
                    self._remove(key)
                self._marks = None

    def work(self, now_ns: int, *, again: bool = False) -> Work:
        """Return what is to be done now; `again` if what was missing may have come."""
        due = again or now_ns >= self._retry_ns
        keys = [key for key, tries in self._todo.items() if due or not tries]
        removals, self._removals = self._removals, []
        return Work(removals, [Item(key, self.wanted[key]) for key in keys])

    @property
    def waiting(self) -> bool:
        """Something is to be done or tried again."""
        return bool(self._todo or self._removals)

    @property
    def complete(self) -> bool:
        """Everything was said at least once."""
        return self.believes and self._marks is None

    def done(self, key: bytes) -> None:
        """This was made."""
        self._todo.pop(key, None)
        self.refused.pop(key, None)

    def failed(self, key: bytes, why: str, now_ns: int, *, for_good: bool = False) -> None:
        """This could not be made; it is tried again unless it is of no use."""
        tries = self._todo.get(key, 0) + 1
        self._retry_ns = now_ns + RETRY_NS
        self.refused[key] = why
        if for_good or tries >= TRIES_MAX:
            self._todo.pop(key, None)
        else:
            self._todo[key] = tries

    def lost(self, key: bytes) -> None:
        """This vanished from the kernel by itself: make it again."""
        if key in self.wanted:
            self._todo[key] = 0

    def _put(self, item: Item) -> None:
        if item.key not in self.wanted and len(self.wanted) >= self._count_max:
            return
        self.wanted[item.key] = item.value
        self._todo[item.key] = 0
        if self._marks is not None:
            self._marks.add(item.key)

    def _remove(self, key: bytes) -> None:
        value = self.wanted.pop(key, None)
        self._todo.pop(key, None)
        self.refused.pop(key, None)
        if value is not None:
            self._removals.append(Item(key, value))
