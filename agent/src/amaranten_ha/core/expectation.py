# SPDX-License-Identifier: GPL-3.0-or-later
"""An expectation as bytes: what identifies it, what it is, and what the peer's kernel is told.

Both sides enter with what ctnetlink says of expectations: a helper saw in a control connection that
another connection will follow (FTP's PORT and PASV). An expectation belongs to its master and can
be made only where the master is, with its helper; which is why it may have to be tried again.
"""

from __future__ import annotations

from amaranten_ha.core import flow, tlv
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.vital import Item

COUNT_MAX = 4_096
MASTER, TUPLE, MASK, TIMEOUT = 1, 2, 3, 4
HELPER, ZONE, FLAGS, CLASS, NAT, FUNCTION = 6, 7, 8, 9, 10, 11
_NESTS = frozenset({MASTER, TUPLE, MASK, NAT})
_KEYS = (MASTER, TUPLE, MASK, ZONE)
_VALUES = (HELPER, FLAGS, CLASS, NAT, FUNCTION)
"""Not the timeout: the helper's policy sets it, whatever one asks for."""


def parse(attributes: bytes) -> Item:
    """Read an expectation, as events and dumps have it; raises PeerError."""
    fields = tlv.index(attributes)
    if not fields.keys() >= {MASTER, TUPLE, MASK}:
        raise PeerError("an expectation without its master, tuple or mask")
    return Item(_some(fields, _KEYS), _some(fields, _VALUES))


def master(key: bytes) -> bytes:
    """Return the key of the connection that an expectation belongs to; raises PeerError."""
    fields = tlv.index(key)
    if MASTER not in fields:
        raise PeerError("the key of an expectation begins with its master")
    found = tlv.nest(flow.ORIG, fields[MASTER])
    return found + tlv.attribute(flow.ZONE, fields[ZONE]) if ZONE in fields else found


def family(key: bytes) -> int:
    """Return the address family of an expectation; raises PeerError."""
    return flow.key_family(master(key))


def creation(item: Item) -> bytes:
    """Return the attributes that create it."""
    return item.key + item.value


def deletion(key: bytes) -> bytes:
    """Return the attributes that find it."""
    return _some(tlv.index(key), (TUPLE, ZONE))


def _some(fields: dict[int, bytes], kinds: tuple[int, ...]) -> bytes:
    return b"".join(
        tlv.attribute(kind | (tlv.NESTED if kind in _NESTS else 0), fields[kind])
        for kind in kinds
        if kind in fields
    )
