# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages of replication, inside the sealed records of a session (`greeting`).

`io.channel` enters with bytes, `sync` with messages. The state of a side is told as its present
value (State), never as a difference. What is changed travels as Changes with a growing position; a
bulk has a number, given by the passive that asked for it: a passive believes no change before the
bulk that it asked for has begun.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from amaranten_ha.core.beat import Role
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Change, Op

BATCH_BYTES = 48 * 1024
KEYS_ASKED_MAX = 256
COUNT_MAX = 0xFFFF_FFFF

_CHANGE = struct.Struct(">BH")
_NUMBERED = struct.Struct(">BQ")
_STATE = struct.Struct(">BBIQQIQIIIII")

_OPS = {op.value: op for op in Op}
_STATE_KIND, _CHANGES, _BULK_BEGIN, _BULK_END, _BARRIER, _ASK, _LOCALS = range(1, 8)


@dataclass(frozen=True, slots=True)
class State:
    """The present value of everything that one side tells the other; also the sign of life."""

    role: Role
    want: int = 0
    """Passive: the number of the bulk that it asks for or has; 0 if it is not passive."""
    done: int = 0
    """Passive: the number of the last bulk that is complete."""
    position: int = 0
    """Active: the position of its newest changes. Passive: the newest that are in its kernel."""
    age_us: int = 0
    """Passive: how long ago that position was reached."""
    barrier: int = 0
    """Passive: the highest barrier that was passed."""
    told: int = 0
    """Active: how many connections the peer was told of. Passive: how many it holds."""
    lag_ms: int = 0
    refused: int = 0
    share_permille: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """A batch of changes."""

    position: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class BulkBegin:
    """All that follows until the end is everything there is."""

    number: int


@dataclass(frozen=True, slots=True)
class BulkEnd:
    """What was not told since the beginning does not exist."""

    number: int


@dataclass(frozen=True, slots=True)
class BarrierPassed:
    """Everything before this happened before the barrier was asked for."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """The passive lost these connections; it is told of those that still exist."""

    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Locals:
    """The sender's own addresses, declared or not: connections of them cannot move."""

    addresses: frozenset[bytes]


Message = State | Changes | BulkBegin | BulkEnd | BarrierPassed | Ask | Locals
_NUMBERED_KINDS: dict[int, type[BulkBegin] | type[BulkEnd] | type[BarrierPassed]] = {
    _BULK_BEGIN: BulkBegin,
    _BULK_END: BulkEnd,
    _BARRIER: BarrierPassed,
}


def encode(message: Message) -> bytes:
    """Return a message as bytes."""
    if isinstance(message, State):
        return _STATE.pack(
            _STATE_KIND, message.role, message.want, message.position, message.barrier,
            message.done, min(message.age_us, COUNT_MAX), message.told,
            min(message.lag_ms, COUNT_MAX), message.refused, message.share_permille, 0,
        )  # fmt: skip
    if isinstance(message, Changes):
        out = [_NUMBERED.pack(_CHANGES, message.position)]
        for op, payload in message.changes:
            out += (_CHANGE.pack(op, len(payload)), payload)
        return b"".join(out)
    if isinstance(message, Ask | Locals):
        kind = _ASK if isinstance(message, Ask) else _LOCALS
        parts = message.keys if isinstance(message, Ask) else sorted(message.addresses)
        return bytes([kind]) + b"".join(_CHANGE.pack(0, len(part)) + part for part in parts)
    kind = next(kind for kind, each in _NUMBERED_KINDS.items() if isinstance(message, each))
    return _NUMBERED.pack(kind, message.number)


def decode(data: bytes) -> Message | None:
    """Read a message; None for a kind that a later minor version added."""
    kind = data[0] if data else 0
    try:
        if kind == _STATE_KIND:
            return _decode_state(data)
        if kind == _CHANGES:
            return _decode_changes(data)
        if kind == _ASK:
            return Ask(tuple(payload for _none, payload in _parts(data, 1)))
        if kind == _LOCALS:
            return Locals(frozenset(payload for _none, payload in _parts(data, 1)))
        if kind in _NUMBERED_KINDS:
            return _NUMBERED_KINDS[kind](_NUMBERED.unpack(data)[1])
    except (struct.error, KeyError, ValueError) as error:
        raise PeerError(f"a message of kind {kind} and {len(data)} bytes: {error}") from None
    if kind == 0:
        raise PeerError("an empty message")
    return None


def _decode_state(data: bytes) -> State:
    _kind, role, want, position, barrier, done, age_us, told, lag_ms, refused, share, _pad = (
        _STATE.unpack_from(data)
    )
    return State(
        role=Role(role), want=want, done=done, position=position, age_us=age_us, barrier=barrier,
        told=told, lag_ms=lag_ms, refused=refused, share_permille=share,
    )  # fmt: skip


def _decode_changes(data: bytes) -> Changes:
    _kind, position = _NUMBERED.unpack_from(data)
    changes = tuple((_OPS[op], payload) for op, payload in _parts(data, _NUMBERED.size))
    return Changes(position, changes)


def _parts(data: bytes, start: int) -> list[tuple[int, bytes]]:
    found = []
    size, unpack, head = len(data), _CHANGE.unpack_from, _CHANGE.size
    while start < size:
        op, length = unpack(data, start)
        start += head
        end = start + length
        if end > size:
            raise PeerError(f"a part of {length} bytes is cut off at {size}")
        found.append((op, data[start:end]))
        start = end
    return found
