# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink attributes as bytes: walk them, index them, build them.

The rooms that speak netlink enter with what the kernel or the peer sent. Nothing in here knows what
an attribute means. Whatever the bytes are, the outcome is a value or a PeerError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from amaranten_ha.core.errors import PeerError

HEADER_BYTES = 4
NESTED = 0x8000
TYPE_MASK = 0x3FFF
LENGTH_MAX = 0xFFFF - 3
_HEADER = struct.Struct("=HH")


def index(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """Return the attributes between two offsets: type without its flags -> payload.

    Raises PeerError for an attribute that is cut off, and for one that occurs twice.
    """
    end = len(data) if end is None else end
    found: dict[int, bytes] = {}
    unpack = _HEADER.unpack_from
    while start < end:
        if end - start < HEADER_BYTES:
            raise PeerError(f"attributes end with {end - start} stray bytes")
        length, kind = unpack(data, start)
        if length < HEADER_BYTES or start + length > end:
            raise PeerError(f"attribute {kind & TYPE_MASK} says {length} bytes at {start} of {end}")
        kind &= TYPE_MASK
        if kind in found:
            raise PeerError(f"attribute {kind} occurs twice")
        found[kind] = data[start + HEADER_BYTES : start + length]
        start += (length + 3) & ~3
    return found


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type without its flags and payload of each attribute; a malformed rest ends the walk.

    For what the own kernel says where an attribute may occur more than once.
    """
    position, end = 0, len(data)
    while position + HEADER_BYTES <= end:
        length, kind = _HEADER.unpack_from(data, position)
        if length < HEADER_BYTES or position + length > end:
            return
        yield kind & TYPE_MASK, data[position + HEADER_BYTES : position + length]
        position += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes; `kind` carries NESTED where it applies."""
    length = HEADER_BYTES + len(payload)
    if length > LENGTH_MAX:
        raise PeerError(f"attribute {kind & TYPE_MASK} of {length} bytes is too long")
    return _HEADER.pack(length, kind) + payload + bytes(-length & 3)


def nest(kind: int, *attributes: bytes) -> bytes:
    """Return attributes wrapped in one more."""
    return attribute(kind | NESTED, b"".join(attributes))
