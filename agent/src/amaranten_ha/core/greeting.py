# SPDX-License-Identifier: GPL-3.0-or-later
"""How a session of replication begins: the greeting in clear, its refusal, the keys, the records.

`io.channel` enters with bytes of a connection. A session begins with one Greeting in each
direction. From both follows one key for each direction, so a recording of another session opens
nothing; the first sealed record proves that the sender has the key, and before that nothing is
believed. A greeting of another product or major version is refused with a reason. What the records
hold is the business of `stream`.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.seal import KeyRing, hkdf

PRODUCT = b"AmHR"
MAJOR, MINOR = 1, 2
COMPRESSING_MINOR = 1
"""From this minor version on a record is compressed, one stream for each direction."""
LAST_MINOR = 2
"""From this one on a closed connection is told once more, and not that it is gone (`Op.LAST`)."""
NONCE_BYTES = 32
GREETING_BYTES_MAX = 512
RECORD_BYTES_MAX = 256 * 1024

_LENGTH = struct.Struct(">I")
_GREETING = struct.Struct(">4sBBHBB32sB")


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


def read(data: bytes) -> Greeting:
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
