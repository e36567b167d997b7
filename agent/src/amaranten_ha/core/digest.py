# SPDX-License-Identifier: GPL-3.0-or-later
"""Are two tables the same? Sums over buckets of connections, and the difference of two of them.

The mirror enters with every entry that comes, changes or goes; the passive enters with the sums of
the active, told at one place of the stream. Equal sums mean equal buckets (two errors in one
bucket hide each other once in four thousand million times); where they differ the bucket is listed
entry by entry, and only there. No table, clock or message in here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from amaranten_ha.core.errors import PeerError

BUCKETS = 1024
MASK = BUCKETS - 1
_ONE = 1 << 48
"""Each entry adds one to the upper 16 bits of its bucket's sum, and its checksum below."""
_WRAP = (1 << 64) - 1
_SUMS = struct.Struct(f">{BUCKETS}Q")


def bucket(key: bytes) -> int:
    """Return the bucket of a connection."""
    return zlib.crc32(key) & MASK


def weight(checksum: int) -> int:
    """Return what an entry with this checksum (32 bits) adds to the sum of its bucket."""
    return _ONE + checksum


class Sums:
    """One sum for each bucket, kept up to date entry by entry."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[int] | None = None) -> None:
        self.values = [0] * BUCKETS if values is None else list(values)

    def encode(self) -> bytes:
        """Return the sums as bytes."""
        return _SUMS.pack(*(value & _WRAP for value in self.values))

    def differing(self, other: Sums) -> list[int]:
        """Return the buckets whose sums differ."""
        pairs = zip(self.values, other.values, strict=True)
        return [at for at, (one, two) in enumerate(pairs) if (one ^ two) & _WRAP]


def decode(data: bytes) -> Sums:
    """Read sums that the peer has told; raises PeerError for another number of buckets."""
    if len(data) != _SUMS.size:
        raise PeerError(f"a digest of {len(data)} bytes: expected {_SUMS.size}")
    return Sums(_SUMS.unpack(data))


class Difference(NamedTuple):
    """How a bucket here differs from the active's, by keys."""

    missing: list[bytes]
    stale: list[bytes]
    surplus: list[bytes]


def difference(theirs: Mapping[bytes, int], mine: Mapping[bytes, int]) -> Difference:
    """Compare one bucket, key -> checksum, entry by entry."""
    return Difference(
        missing=[key for key in theirs if key not in mine],
        stale=[key for key, said in theirs.items() if mine.get(key, said) != said],
        surplus=[key for key in mine if key not in theirs],
    )
