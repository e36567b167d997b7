# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages of replication, inside the sealed records of a session (`greeting`).

`io.channel` enters with bytes, `sync` with messages. The state of a side is told as its present
value (State), never as a difference. What is changed travels as Changes with a growing position; a
bulk has a number, given by the passive that asked for it: a passive believes no change before the
bulk that it asked for has begun.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from amaranten_ha.core.beat import Role
from amaranten_ha.core.digest import BUCKETS
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Change, Op
from amaranten_ha.core.vital import Change as VitalChange
from amaranten_ha.core.vital import Op as VitalOp

BATCH_BYTES = 48 * 1024
KEYS_ASKED_MAX = 256
COUNT_MAX = 0xFFFF_FFFF

_CHANGE = struct.Struct(">BH")
_NUMBERED = struct.Struct(">BQ")
_STATE = struct.Struct(">BBIQQIQIIIIIIIIIIIIII")
_STATE_1_0 = 54
_ENTRY = struct.Struct(">BI")
_LISTED = struct.Struct(">BHB")
_WANTED = struct.Struct(">BBQ")

_OPS = {op.value: op for op in Op}
_STATE_KIND, _CHANGES, _BULK_BEGIN, _BULK_END, _BARRIER, _ASK, _LOCALS = range(1, 8)
_DIGEST, _LIST, _LISTING, _WISH, _FINDING, _DELTA = range(16, 22)
_VITAL, _PATHS = 32, 33


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
    missing: int = 0
    stale: int = 0
    """Passive: how many entries it lacks, and how many it has otherwise than the active."""
    own: int = 0
    masquerade: int = 0
    half_open: int = 0
    helpless: int = 0
    """Active: how many cannot survive, by class. Passive: how many are without their helper."""
    lag_entries: int = 0
    newborn: int = 0
    """Active: how many changes and how many new connections the peer was not told of yet."""
    repairing: bool = False
    """Events were lost, and the whole table was not compared since."""


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
class Delta:
    """Connections that began on this node while both were active; it was the one that yielded."""

    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Locals:
    """The sender's own addresses, declared or not: connections of them cannot move."""

    addresses: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Digest:
    """The sums of the active's table at this place of the stream (`digest.Sums`)."""

    sums: bytes


@dataclass(frozen=True, slots=True)
class List:
    """The passive wants these buckets entry by entry; all of them if `deep`.

    Before a deep comparison the active compares what it knows with its kernel.
    """

    buckets: tuple[int, ...]
    deep: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """Entries of one bucket at this place of the stream; `last` if these are the last of them."""

    bucket: int
    last: bool
    entries: tuple[tuple[bytes, int], ...]


class Wish(IntEnum):
    """What an operator on the active asks of the passive."""

    RESYNC = 1
    DEEP = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """The active passes on what its operator asked for, under a number of its own."""

    wish: Wish
    number: int


@dataclass(frozen=True, slots=True)
class Finding:
    """The passive's answer to what was wanted, a JSON object."""

    number: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Vital:
    """Changes of other vital state; a topic that is not known is skipped by who receives it."""

    topic: int
    changes: tuple[VitalChange, ...]


@dataclass(frozen=True, slots=True)
class Paths:
    """From who connects: link -> whether a connection passes there, as far as is known.

    From who listens, empty: its ruleset was changed, so they are to be tried again.
    """

    passes: tuple[tuple[str, bool], ...]


Message = (
    State | Changes | BulkBegin | BulkEnd | BarrierPassed | Ask | Delta | Locals
    | Digest | List | Listing | Wanted | Finding | Vital | Paths
)  # fmt: skip
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
            message.missing, message.stale,
            message.own, message.masquerade, message.half_open, message.helpless,
            message.lag_entries, message.newborn, message.repairing,
        )  # fmt: skip
    if isinstance(message, Changes):
        out = [_NUMBERED.pack(_CHANGES, message.position)]
        for op, payload in message.changes:
            out += (_CHANGE.pack(op, len(payload)), payload)
        return b"".join(out)
    if isinstance(message, Ask | Locals | Delta):
        if isinstance(message, Locals):
            kind, parts = _LOCALS, tuple(sorted(message.addresses))
        elif isinstance(message, Ask):
            kind, parts = _ASK, message.keys
        else:
            kind, parts = _DELTA, message.records
        return bytes([kind]) + b"".join(_CHANGE.pack(0, len(part)) + part for part in parts)
    if isinstance(message, Digest | List | Listing | Wanted | Finding):
        return _encode_audit(message)
    if isinstance(message, Vital):
        said = (_CHANGE.pack(op, len(payload)) + payload for op, payload in message.changes)
        return bytes([_VITAL, message.topic]) + b"".join(said)
    if isinstance(message, Paths):
        known = ((passes, link.encode()) for link, passes in message.passes)
        return bytes([_PATHS]) + b"".join(_CHANGE.pack(op, len(part)) + part for op, part in known)
    kind = next(kind for kind, each in _NUMBERED_KINDS.items() if isinstance(message, each))
    return _NUMBERED.pack(kind, message.number)


def _encode_audit(message: Digest | List | Listing | Wanted | Finding) -> bytes:
    if isinstance(message, Digest):
        return bytes([_DIGEST]) + message.sums
    if isinstance(message, List):
        numbers = struct.pack(f">{len(message.buckets)}H", *message.buckets)
        return bytes([_LIST, message.deep]) + numbers
    if isinstance(message, Listing):
        out = [_LISTED.pack(_LISTING, message.bucket, message.last)]
        for key, checksum in message.entries:
            out += (_ENTRY.pack(len(key), checksum), key)
        return b"".join(out)
    if isinstance(message, Wanted):
        return _WANTED.pack(_WISH, message.wish, message.number)
    return _NUMBERED.pack(_FINDING, message.number) + message.text


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
        if kind == _VITAL:
            return Vital(data[1], tuple((VitalOp(op), payload) for op, payload in _parts(data, 2)))
        if kind == _PATHS:
            return Paths(tuple((part.decode(), bool(op)) for op, part in _parts(data, 1)))
        if kind in _NUMBERED_KINDS:
            return _NUMBERED_KINDS[kind](_NUMBERED.unpack(data)[1])
        if kind in _AUDITS:
            return _AUDITS[kind](data)
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise PeerError(f"a message of kind {kind} and {len(data)} bytes: {error}") from None
    if kind == 0:
        raise PeerError("an empty message")
    return None


def _decode_state(data: bytes) -> State:
    # A shorter one came from an earlier minor version: what it does not say is zero.
    said = _STATE.unpack_from(data.ljust(_STATE.size, b"\0") if len(data) >= _STATE_1_0 else data)
    _kind, role, want, position, barrier, done, age_us, told, lag_ms, refused, share, _pad = said[
        :12
    ]
    return State(
        role=Role(role), want=want, done=done, position=position, age_us=age_us, barrier=barrier,
        told=told, lag_ms=lag_ms, refused=refused, share_permille=share,
        missing=said[12], stale=said[13],
        own=said[14], masquerade=said[15], half_open=said[16], helpless=said[17],
        lag_entries=said[18], newborn=said[19], repairing=bool(said[20]),
    )  # fmt: skip


def _decode_list(data: bytes) -> List:
    buckets = struct.unpack(f">{len(data) // 2 - 1}H", data[2:])
    if any(number >= BUCKETS for number in buckets):
        raise PeerError(f"a bucket beyond {BUCKETS - 1} was asked for")
    return List(buckets, bool(data[1]))


def _decode_listing(data: bytes) -> Listing:
    _kind, bucket, last = _LISTED.unpack_from(data)
    entries, start, unpack = [], _LISTED.size, _ENTRY.unpack_from
    while start < len(data):
        length, checksum = unpack(data, start)
        start += _ENTRY.size
        entries.append((data[start : start + length], checksum))
        start += length
    if start != len(data) or bucket >= BUCKETS:
        raise PeerError(f"a listing of bucket {bucket} is cut off at {len(data)}")
    return Listing(bucket, bool(last), tuple(entries))


def _decode_wanted(data: bytes) -> Wanted:
    _kind, wish, number = _WANTED.unpack(data)
    return Wanted(Wish(wish), number)


def _decode_finding(data: bytes) -> Finding:
    return Finding(_NUMBERED.unpack_from(data)[1], data[_NUMBERED.size :])


_AUDITS: dict[int, Callable[[bytes], Message]] = {
    _DIGEST: lambda data: Digest(data[1:]),
    _LIST: _decode_list,
    _LISTING: _decode_listing,
    _WISH: _decode_wanted,
    _FINDING: _decode_finding,
    _DELTA: lambda data: Delta(tuple(payload for _none, payload in _parts(data, 1))),
}


def _decode_changes(data: bytes) -> Changes:
    _kind, position = _NUMBERED.unpack_from(data)
    ops = _OPS
    return Changes(position, tuple([(ops[op], part) for op, part in _parts(data, _NUMBERED.size)]))


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
