# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of replication: the greeting in clear, the keys of a session, and its messages.

`io.channel` enters with bytes of a connection, `sync` with messages. A session begins with one
Greeting in each direction. From both follows one key for each direction, so a recording of another
session opens nothing; the first sealed message proves that the sender has the key, and before
that nothing is believed. A greeting of another product or major version is refused with a reason.

The state of a side is told as its present value (State), never as a difference. What is changed
travels as Changes with a growing position; a bulk has a number, given by the passive that asked
for it: a passive believes no change before the bulk that it asked for has begun.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from amaranten_ha.core.beat import Role
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Change, Op
from amaranten_ha.core.seal import KeyRing, hkdf

PRODUCT = b"AmHR"
MAJOR, MINOR = 1, 0
NONCE_BYTES = 32
GREETING_BYTES_MAX = 512
RECORD_BYTES_MAX = 256 * 1024
BATCH_BYTES = 48 * 1024
KEYS_ASKED_MAX = 256
COUNT_MAX = 0xFFFF_FFFF

_LENGTH = struct.Struct(">I")
_GREETING = struct.Struct(">4sBBHBB32sB")
_CHANGE = struct.Struct(">BH")
_NUMBERED = struct.Struct(">BQ")
_STATE = struct.Struct(">BBIQQIQIIIII")


# The greeting and the keys.


@dataclass(frozen=True, slots=True)
class Greeting:
    """What each side says first, in clear: who it is, what it speaks, and a number used once."""

    cluster: int
    node: int
    nonce: bytes
    send_key: int
    accepted_keys: tuple[int, ...]
    major: int = MAJOR
    minor: int = MINOR

    def encode(self) -> bytes:
        """Return the greeting as bytes."""
        head = _GREETING.pack(
            PRODUCT, self.major, self.minor, self.cluster, self.node, self.send_key, self.nonce,
            len(self.accepted_keys),
        )  # fmt: skip
        return head + bytes(self.accepted_keys)


def greeting(data: bytes) -> Greeting:
    """Read a greeting; what a later version may add behind it is skipped."""
    if data[:4] != PRODUCT:
        raise PeerError("the other side does not speak the replication of this product")
    if len(data) < _GREETING.size or len(data) < _GREETING.size + data[_GREETING.size - 1]:
        raise PeerError(f"a greeting of {len(data)} bytes is cut off")
    _magic, major, minor, cluster, node, send_key, nonce, count = _GREETING.unpack_from(data)
    accepted = tuple(data[_GREETING.size : _GREETING.size + count])
    return Greeting(cluster, node, nonce, send_key, accepted, major, minor)


def refusal(own: Greeting, other: Greeting) -> str:
    """Return why no session is possible between the two, an empty text if one is."""
    if other.major != own.major:
        return (
            f"replication protocol: the peer speaks version {other.major}.{other.minor},"
            f" this node {own.major}.{own.minor}"
        )
    if other.cluster != own.cluster:
        return f"the other side belongs to cluster {other.cluster}, this node to {own.cluster}"
    if other.node == own.node:
        return f"the other side says that it is node {own.node}, which this node is"
    if other.send_key not in own.accepted_keys:
        return f"the peer seals with key {other.send_key}, which this node does not have"
    if own.send_key not in other.accepted_keys:
        return f"this node seals with key {own.send_key}, which the peer does not have"
    return ""


def session_keys(ring: KeyRing, own: Greeting, other: Greeting) -> tuple[bytes, bytes]:
    """Return the keys to seal with and to open with; each side seals with its own key's offspring.

    The greetings themselves are part of both: who changes one on its way gets other keys.
    """
    first, second = sorted((own, other), key=lambda each: each.node)
    said = hashlib.sha256(first.encode() + second.encode()).digest()

    def derive(sender: Greeting) -> bytes:
        info = b"amaranten-ha replication v1 from node " + bytes([sender.node]) + said
        return hkdf(ring.keys[sender.send_key], info, first.nonce + second.nonce)

    return derive(own), derive(other)


class Deframer:
    """Cuts a stream of bytes into records; a length beyond the bound is an error, not a wait."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the records that are complete now."""
        buffer = self._buffer
        buffer += data
        records = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self.bytes_max:
                raise PeerError(f"a record of {length} bytes: expected at most {self.bytes_max}")
            end = start + _LENGTH.size + length
            if end > len(buffer):
                break
            records.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return records


def framed(record: bytes) -> bytes:
    """Return a record with its length before it."""
    return _LENGTH.pack(len(record)) + record


# The messages of a session.

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
