# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's named sets by nf_tables: is there a change, what is a set, its elements, new elements.

`named_sets` enters. Events say only that something was changed somewhere: what packets do to a set
raises none.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranten_ha.core.named_set import FAMILIES, SetName
from amaranten_ha.core.tlv import attribute, nest, walk
from amaranten_ha.io.nft import CREATE, DUMP, GET_ELEMENT, GET_SET, GET_TABLE, NEW_ELEMENT, Request
from amaranten_ha.io.nft_channel import Channel, RulesetEvents

_DELETE_ELEMENT = 14
_FLAGS, _HANDLE, _ELEMENTS = 3, 16, 3
_TABLE_HANDLE = 4


class FoundSet(NamedTuple):
    """A set that exists; another `handle` means that it was made anew."""

    flags: int
    handle: bytes


class SetTable:
    """Everything that is asked of nf_tables about the user's sets."""

    def __init__(self) -> None:
        self._channel = Channel()
        self._events = RulesetEvents()

    def fileno(self) -> int:
        """Return the descriptor of the events."""
        return self._events.fileno()

    def changed(self) -> bool:
        """Say whether any ruleset was changed since the last call."""
        return self._events.drain()

    def find(self, name: SetName) -> FoundSet | None:
        """Return the set, None if there is none; raises KernelRefused."""
        requests = [(GET_TABLE, 0, _text(1, name.table)), (GET_SET, 0, _name(name))]
        table, answer = self._channel.ask(requests, FAMILIES[name.family])
        if table is None or answer is None:
            return None
        values = dict(walk(answer))
        # A set's handle counts within its table, so a table that was made anew counts again.
        handle = dict(walk(table)).get(_TABLE_HANDLE, b"") + values.get(_HANDLE, b"")
        return FoundSet(int.from_bytes(values.get(_FLAGS, b"")), handle)

    def elements(self, name: SetName) -> list[bytes]:
        """Return the attributes of each element; raises KernelRefused."""
        answers, _steady = self._channel.dump(
            (GET_ELEMENT, DUMP, _name(name)), FAMILIES[name.family]
        )
        return [
            element
            for answer in answers
            for _kind, element in walk(dict(walk(answer)).get(_ELEMENTS, b""))
        ]

    def put(self, name: SetName, made: list[bytes], found: list[bytes]) -> None:
        """Make elements, or make them anew with the time that they have left; raises KernelRefused.

        An element that is there already would keep its time, and one that has just ended cannot be
        removed: so it is made, removed and made again, all in one transaction.
        """
        self._transact(name, (NEW_ELEMENT, made), (_DELETE_ELEMENT, found), (NEW_ELEMENT, made))

    def remove(self, name: SetName, found: list[bytes]) -> None:
        """Remove elements; raises KernelRefused."""
        self._transact(name, (_DELETE_ELEMENT, found))

    def _transact(self, name: SetName, *steps: tuple[int, list[bytes]]) -> None:
        requests: list[Request] = [
            (
                kind,
                CREATE if kind == NEW_ELEMENT else 0,
                _name(name) + nest(_ELEMENTS, *(nest(1, each) for each in elements)),
            )
            for kind, elements in steps
        ]
        self._channel.transact(requests, FAMILIES[name.family])


def _name(name: SetName) -> bytes:
    return _text(1, name.table) + _text(2, name.name)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")
