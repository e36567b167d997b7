# SPDX-License-Identifier: GPL-3.0-or-later
"""An element of a named nftables set as bytes, and how long it still has.

Both sides enter with what nf_tables says of elements: a ban list's, a rate meter's. An element
travels as the kernel's own attributes under the name of its set. Packets renew elements without a
word, so two readings differ all the time: only what matters is told, and how long is left goes with
it. A deadline is kept in this node's clock, because the two clocks have nothing to do with one
another.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from amaranten_ha.core import tlv
from amaranten_ha.core.errors import ConfigurationError, PeerError
from amaranten_ha.core.vital import Item

COUNT_MAX = 16_384
"""All sets together: a look at so many takes less than a tenth of a second."""
FAMILIES = {"inet": 1, "ip": 2, "netdev": 5, "bridge": 7, "ip6": 10}
ANONYMOUS, CONSTANT, INTERVAL, MAP = 0x1, 0x2, 0x4, 0x8
KEY, TIMEOUT, EXPIRATION, USERDATA, EXPRESSION, EXPRESSIONS = 1, 4, 5, 6, 7, 11
_NAME, _OF = 1, 2
_KEPT = (TIMEOUT, EXPIRATION, USERDATA, EXPRESSION, EXPRESSIONS)
_NESTS = frozenset({KEY, EXPRESSION, EXPRESSIONS})
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_/\\.-]{0,127}")
TOLERANCE_MS_MIN = 2_000


class SetName(NamedTuple):
    """Which set: `inet filter banned`."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return " ".join(self)


def set_name(text: str) -> SetName:
    """Read the name of a set; raises ConfigurationError."""
    words = text.split(" ")
    if len(words) != 3 or words[0] not in FAMILIES or not all(map(_WORD.fullmatch, words[1:])):
        raise ConfigurationError(
            f"{text!r}: expected a family ({', '.join(FAMILIES)}), a table and a set, as in"
            " 'inet filter banned'"
        )
    return SetName(*words)


def unfit(flags: int) -> str:
    """Return why a set with these flags is not replicated, nothing if it is."""
    for flag, word in (
        (ANONYMOUS, "it has no name"),
        (CONSTANT, "it is constant"),
        (INTERVAL, "it holds intervals"),
        (MAP, "it is a map"),
    ):
        if flags & flag:
            return word
    return ""


def item(of: SetName, attributes: bytes) -> Item:
    """Read one element as the kernel tells it; raises PeerError."""
    fields = tlv.index(attributes)
    if KEY not in fields:
        raise PeerError("an element without a key")
    key = tlv.attribute(_NAME, str(of).encode()) + tlv.nest(_OF, fields[KEY])
    return Item(key, _joined(fields, _KEPT))


def owner(key: bytes) -> str:
    """Return the name of the set that an element belongs to; raises PeerError."""
    return tlv.index(key).get(_NAME, b"").decode(errors="replace")


def left_ms(value: bytes) -> int | None:
    """Return how long an element had when it was read, None if for ever; raises PeerError."""
    said = tlv.index(value).get(EXPIRATION)
    return None if said is None else int.from_bytes(said, "big")


def essence(value: bytes) -> bytes:
    """Return what makes an element another one: not how long it has, and not its counters."""
    return _joined(tlv.index(value), (TIMEOUT, USERDATA))


def tolerance_ms(value: bytes) -> int:
    """Return by how much a deadline may move before it is told again."""
    timeout = tlv.index(value).get(TIMEOUT) or tlv.index(value).get(EXPIRATION) or b""
    return max(TOLERANCE_MS_MIN, int.from_bytes(timeout, "big") // 10)


def element(key: bytes, value: bytes, left: int | None, *, plain: bool = False) -> bytes:
    """Return the attributes that make the element; `plain` leaves meters and counters out."""
    fields = tlv.index(value)
    if left is not None:
        fields[EXPIRATION] = left.to_bytes(8, "big")
    if plain:
        fields = {kind: fields[kind] for kind in fields if kind not in (EXPRESSION, EXPRESSIONS)}
    return bare(key) + _joined(fields, _KEPT)


def bare(key: bytes) -> bytes:
    """Return the attributes that find the element."""
    return tlv.nest(KEY, tlv.index(key).get(_OF, b""))


def _joined(fields: dict[int, bytes], kinds: tuple[int, ...]) -> bytes:
    return b"".join(
        tlv.attribute(kind | (tlv.NESTED if kind in _NESTS else 0), fields[kind])
        for kind in kinds
        if kind in fields
    )
