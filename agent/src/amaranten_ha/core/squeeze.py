# SPDX-License-Identifier: GPL-3.0-or-later
"""Records made small before they are sealed: one compressed stream for each direction of a session.

`io.channel` enters with records in their order. What earlier records said is not said again, so a
batch of a few connections compresses as well as a large one. What the peer sends may not grow
beyond the bound of a record.
"""

from __future__ import annotations

import zlib

from amaranten_ha.core.errors import PeerError

LEVEL = 1
"""The cheapest: connections resemble each other so much that a higher one gains little."""
_WINDOW = -15
_TAIL = b"\0\0\xff\xff"
"""Every record ends with it (RFC 1951, an empty stored block), so it is not sent."""


class Squeezer:
    """Makes records small."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW)

    def squeeze(self, record: bytes) -> bytes:
        """Return the record, to be opened behind all those before it."""
        made = self._stream.compress(record) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return made.removesuffix(_TAIL)


class Unsqueezer:
    """Makes them what they were."""

    def __init__(self, bytes_max: int) -> None:
        self._stream = zlib.decompressobj(_WINDOW)
        self._bytes_max = bytes_max

    def unsqueeze(self, data: bytes) -> bytes:
        """Return the next record; raises PeerError if it is too large or no compressed record."""
        try:
            record = self._stream.decompress(data + _TAIL, self._bytes_max)
        except zlib.error as error:
            raise PeerError(f"a record that cannot be decompressed: {error}") from None
        if self._stream.unconsumed_tail or self._stream.eof:
            raise PeerError(f"a record of more than {self._bytes_max} bytes")
        return record
