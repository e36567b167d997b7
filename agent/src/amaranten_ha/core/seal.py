# SPDX-License-Identifier: GPL-3.0-or-later
"""The seal of a message: a ring of keys, a key for each use, a MAC, and a window against replay.

Heart enters with bytes to seal or to check; sync enters for `hkdf`. No clock takes part: freshness
comes from session nonces that each side echoes, and from sequence numbers within a session.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from amaranten_ha.core.errors import ConfigurationError

KEY_BYTES = 32
TAG_BYTES = 16
WINDOW_BITS = 64
_HEARTBEAT_INFO = b"amaranten-ha heartbeat v1"


def hkdf(key: bytes, info: bytes, salt: bytes = b"", length: int = 32) -> bytes:
    """Derive `length` bytes for one use from a key (RFC 5869 with SHA-256)."""
    pseudo_random_key = hmac.digest(salt or bytes(32), key, "sha256")
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(pseudo_random_key, block + info + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:length]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that are accepted, by id (1 to 255), and the id of the one that seals.

    Raises ConfigurationError for a wrong id or length; a key's value is never in the text.
    """

    keys: Mapping[int, bytes] = field(repr=False)
    send_id: int

    def __post_init__(self) -> None:
        for key_id, key in self.keys.items():
            if not 1 <= key_id <= 255:
                raise ConfigurationError(f"key id {key_id}: expected a number from 1 to 255")
            if len(key) != KEY_BYTES:
                raise ConfigurationError(
                    f"key {key_id} has {len(key)} bytes: expected exactly {KEY_BYTES}"
                )
        if self.send_id not in self.keys:
            raise ConfigurationError(
                f"send_key is {self.send_id}: expected the id of one of the keys"
                f" ({', '.join(map(str, sorted(self.keys))) or 'there are none'})"
            )


class Sealer:
    """Seals and checks heartbeats with keyed BLAKE2b-128.

    The key id travels in clear as the byte before the tag, and is covered by the tag.
    """

    def __init__(self, ring: KeyRing) -> None:
        self.send_id = ring.send_id
        self.accepted = tuple(sorted(ring.keys))
        self._keys = {key_id: hkdf(key, _HEARTBEAT_INFO) for key_id, key in ring.keys.items()}

    def seal(self, body: bytes) -> bytes:
        """Return `body`, the id of the sealing key and the tag."""
        covered = body + bytes([self.send_id])
        return covered + self._tag(self.send_id, covered)

    def open(self, message: bytes) -> bytes | None:
        """Return the body if the tag is that of an accepted key, else None."""
        if len(message) < TAG_BYTES + 1:
            return None
        covered, tag = message[:-TAG_BYTES], message[-TAG_BYTES:]
        if covered[-1] not in self._keys:
            return None
        if not hmac.compare_digest(self._tag(covered[-1], covered), tag):
            return None
        return covered[:-1]

    def _tag(self, key_id: int, covered: bytes) -> bytes:
        return hashlib.blake2b(covered, digest_size=TAG_BYTES, key=self._keys[key_id]).digest()


class ReplayWindow:
    """Accepts each sequence number of one session once, and late ones within 64 of the newest."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0

    def accept(self, sequence: int) -> bool:
        """Say whether `sequence` is new, and remember it."""
        if sequence > self._highest:
            shift = sequence - self._highest
            self._seen = ((self._seen << shift) | 1) & ((1 << WINDOW_BITS) - 1)
            self._highest = sequence
            return True
        age = self._highest - sequence
        if age >= WINDOW_BITS or self._seen >> age & 1:
            return False
        self._seen |= 1 << age
        return True
