# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection entry as bytes: its key, its stable part, and the one rewrite that carries it over.

The active's side enters with what ctnetlink said (an event, a dump, an answer) and gets the
record that travels: the entry's own attributes, less those that mean nothing on another node. The
passive's side enters with such a record and gets the messages that make its kernel hold the same
entry. No socket, clock or role in here. Bytes come in; a value or a PeerError comes out.

An event of a translated connection, given to another kernel unchanged, is accepted and translates
nothing. So a creation says the reply as the plain inverse of the original, and the translation as
NAT attributes with address and port; the kernel then computes the translated reply itself. An
update must not carry these, nor the helper, nor the master.
"""

from __future__ import annotations

import zlib
from enum import IntEnum
from typing import NamedTuple

from amaranten_ha.core import tlv
from amaranten_ha.core.errors import PeerError

AF_INET, AF_INET6 = 2, 10
ICMP, TCP, DCCP, GRE, ICMPV6, SCTP = 1, 6, 33, 47, 58, 132
STATEFUL = frozenset({TCP, DCCP, SCTP})
"""Protocols whose entry is useless without its protocol information."""

ORIG, REPLY, STATUS, PROTOINFO, HELP, NAT_SRC, TIMEOUT, MARK = range(1, 9)
ID, NAT_DST, MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY = 12, 13, 14, 15, 16
ZONE, LABELS, SYNPROXY = 18, 22, 24

_CARRIED = (
    ORIG, REPLY, STATUS, PROTOINFO, HELP, TIMEOUT, MARK, MASTER,
    SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, ZONE, LABELS, SYNPROXY,
)  # fmt: skip
_NESTS = frozenset({ORIG, REPLY, PROTOINFO, HELP, MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY})
_RARE = (MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, LABELS, SYNPROXY)
"""Said by the one event that changes them and by dumps, never again by later events."""

SEEN_REPLY, ASSURED, CONFIRMED = 0x2, 0x4, 0x8
SRC_NAT_DONE, DST_NAT_DONE = 0x80, 0x100
FIXED_TIMEOUT = 0x400
_STATUS_CARRIED = SEEN_REPLY | ASSURED

_IP, _PROTO, _TUPLE_ZONE = 1, 2, 3
_NUMBER, _FIRST, _SECOND = 1, 2, 3
_ICMP_PARTS = {ICMP: (4, 5, 6), ICMPV6: (7, 8, 9)}
"""Attribute numbers of id, type and code."""

_TCP_INFO = 1
_STATE, _SCALE_ORIG, _SCALE_REPLY, _FLAGS_ORIG, _FLAGS_REPLY = 1, 2, 3, 4, 5
_WINDOW_SCALE, _SACK, _CLOSE_INIT, _LIBERAL = 1, 2, 4, 8
_FLAGS_CARRIED = _WINDOW_SCALE | _SACK | _CLOSE_INIT
_FLAGS_STABLE = _WINDOW_SCALE | _SACK

COPY_S_MIN = 120
COPY_LONGER_S = 60
"""The original ends first, and says so; a copy that ends by itself would look like a hole."""
COPY_S_MAX = 0x7FFFFFFF
COPY_FIXED_S = 6 * 3600
"""A copy of GRE ends at this age whether it is used or not: nothing can move a fixed timeout."""
COPY_UNSAID_S = 600
"""An offloaded entry tells no timeout."""


class TcpState(IntEnum):
    """The tracker's states that are replicated; what comes before ESTABLISHED is not."""

    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8


class Tuple(NamedTuple):
    """One direction of a connection."""

    source: bytes
    target: bytes
    protocol: int
    parts: dict[int, bytes]
    """The protocol's own fields by attribute number: ports, keys, or ICMP id, type and code."""

    zone: bytes


class Entry(NamedTuple):
    """One entry of the connection table: its key, both directions, and its attributes."""

    key: bytes
    orig: Tuple
    reply: Tuple
    fields: dict[int, bytes]

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return AF_INET if len(self.orig.source) == 4 else AF_INET6

    @property
    def status(self) -> int:
        """The status bits, 0 if they were not said."""
        return int.from_bytes(self.fields.get(STATUS, b""), "big")

    @property
    def timeout_s(self) -> int | None:
        """The seconds left, None if they were not said."""
        said = self.fields.get(TIMEOUT)
        return None if said is None else int.from_bytes(said, "big")


def parse(attributes: bytes) -> Entry:
    """Read the attributes of one entry, as events, dumps, answers and records have them."""
    fields = tlv.index(attributes)
    if ORIG not in fields or REPLY not in fields:
        raise PeerError("a connection entry without its two tuples")
    orig, reply = _tuple(fields[ORIG]), _tuple(fields[REPLY])
    if orig.protocol != reply.protocol or orig.parts.keys() != reply.parts.keys():
        raise PeerError("the two tuples of a connection entry differ in protocol")
    if len(orig.source) != len(reply.source):
        raise PeerError("the two tuples of a connection entry differ in address family")
    for kind, size in ((STATUS, 4), (TIMEOUT, 4), (MARK, 4), (ZONE, 2)):
        if len(fields.get(kind, bytes(size))) != size:
            raise PeerError(f"attribute {kind} of a connection entry is not of {size} bytes")
    return Entry(_key(fields), orig, reply, fields)


def key_family(key: bytes) -> int:
    """Return the address family of a key; raises PeerError if it is not one."""
    fields = tlv.index(key)
    if not fields.keys() <= {ORIG, ZONE} or ORIG not in fields:
        raise PeerError("the key of a connection is its original tuple and its zone")
    return AF_INET if len(_tuple(fields[ORIG]).source) == 4 else AF_INET6


def _key(fields: dict[int, bytes]) -> bytes:
    key = tlv.nest(ORIG, fields[ORIG])
    return key + tlv.attribute(ZONE, fields[ZONE]) if ZONE in fields else key


def _tuple(data: bytes) -> Tuple:
    outer = tlv.index(data)
    addresses = tlv.index(outer.get(_IP, b""))
    parts = tlv.index(outer.get(_PROTO, b""))
    source = addresses.get(1) or addresses.get(3, b"")
    target = addresses.get(2) or addresses.get(4, b"")
    number = parts.pop(_NUMBER, b"")
    if len(source) not in (4, 16) or len(source) != len(target) or len(addresses) != 2:
        raise PeerError("a tuple without two addresses of one family")
    if len(number) != 1:
        raise PeerError("a tuple without a protocol")
    return Tuple(source, target, number[0], parts, outer.get(_TUPLE_ZONE, b""))


# The active's side: what travels.


def record(entry: Entry) -> bytes:
    """Return the attributes that travel, in the order of their numbers."""
    fields = entry.fields
    return b"".join(
        tlv.attribute(kind | (tlv.NESTED if kind in _NESTS else 0), fields[kind])
        for kind in _CARRIED
        if kind in fields and (kind not in _RARE or _says_something(kind, fields[kind]))
    )


def merge(older: Entry, newer: Entry) -> Entry:
    """Return the union of two reports of one connection; where both speak the newer is right."""
    return newer._replace(fields=older.fields | newer.fields)


def rarities(entry: Entry) -> dict[int, bytes]:
    """Return the attributes that no later event of this connection will say again."""
    return {kind: entry.fields[kind] for kind in _RARE if kind in entry.fields}


def tcp_state(entry: Entry) -> int | None:
    """Return the state of a TCP connection, None if it was not said."""
    if PROTOINFO not in entry.fields:
        return None
    info = tlv.index(entry.fields[PROTOINFO]).get(_TCP_INFO)
    state = None if info is None else tlv.index(info).get(_STATE)
    return state[0] if state else None


def stable(entry: Entry) -> int:
    """Return a checksum of what makes the entry what it is: not its timeout, ids and windows."""
    fields = entry.fields
    parts = [fields[ORIG], fields[REPLY], bytes([entry.status & _STATUS_CARRIED])]
    if entry.orig.protocol == TCP and PROTOINFO in fields:
        info = tlv.index(tlv.index(fields[PROTOINFO]).get(_TCP_INFO, b""))
        parts += (info.get(_STATE, b""), info.get(_SCALE_ORIG, b""), info.get(_SCALE_REPLY, b""))
    elif PROTOINFO in fields:
        parts.append(fields[PROTOINFO])
    mark = fields.get(MARK, b"")
    if any(mark):
        parts.append(mark)
    parts += (fields[kind] for kind in (HELP, ZONE) if kind in fields)
    parts += (
        fields[kind] for kind in _RARE if kind in fields and _says_something(kind, fields[kind])
    )
    return zlib.crc32(b"".join(parts))


def _says_something(kind: int, payload: bytes) -> bool:
    """An injected entry shows all its extensions, with zeros inside; a native one does not."""
    return any(map(any, tlv.index(payload).values())) if kind in _NESTS else any(payload)


def copy_timeout_s(entry: Entry) -> int:
    """Return how long the passive's copy lives: it must outlive its next renewal."""
    if entry.orig.protocol == GRE:
        return COPY_FIXED_S
    timeout_s = entry.timeout_s
    if timeout_s is None:
        return COPY_UNSAID_S
    return min(max(COPY_S_MIN, timeout_s) + COPY_LONGER_S, COPY_S_MAX)


# The passive's side: the messages that make its kernel hold the entry.


def creation(entry: Entry, *, plain: bool = False) -> bytes:
    """Return the attributes that create the entry; `plain` leaves helper and master out.

    A helper that is not loaded here, or a master that is not known here, would be refused.
    """
    fields = entry.fields
    out = [tlv.nest(ORIG, fields[ORIG]), tlv.nest(REPLY, _inverse(entry)), _translation(entry)]
    if not plain:
        out += [tlv.nest(kind, fields[kind]) for kind in (MASTER,) if kind in fields]
        name = tlv.index(fields.get(HELP, b"")).get(1)
        if name is not None:
            out.append(tlv.nest(HELP, tlv.attribute(1, name)))
    return b"".join(out) + _common(entry, with_status=True)


def update(entry: Entry, *, with_status: bool = True) -> bytes:
    """Return the attributes that bring an entry that exists up to date.

    The kernel refuses status bits that would have to be taken away: then leave them out.
    """
    return tlv.nest(ORIG, entry.fields[ORIG]) + _common(entry, with_status=with_status)


def loosening(entry: Entry) -> bytes | None:
    """Return an update that makes an own TCP entry liberal, None if it is not TCP.

    The windows of a node that steps down are stale when the connection comes back to it.
    """
    if entry.orig.protocol != TCP:
        return None
    flags = bytes([_LIBERAL, _LIBERAL])
    info = tlv.attribute(_FLAGS_ORIG, flags) + tlv.attribute(_FLAGS_REPLY, flags)
    return entry.key + tlv.nest(PROTOINFO, tlv.nest(_TCP_INFO, info))


def reply_key(entry: Entry) -> bytes:
    """Return what finds the entry, of whatever original, that holds this one's translated reply."""
    key = tlv.nest(REPLY, entry.fields[REPLY])
    zone = entry.fields.get(ZONE)
    return key if zone is None else key + tlv.attribute(ZONE, zone)


def _common(entry: Entry, *, with_status: bool) -> bytes:
    fields = entry.fields
    status = entry.status & _STATUS_CARRIED | CONFIRMED
    if entry.orig.protocol == GRE:
        # The tracker's own timeouts are zero in an injected entry: the first packet would end it.
        status |= FIXED_TIMEOUT
    out = [tlv.attribute(TIMEOUT, copy_timeout_s(entry).to_bytes(4, "big"))]
    out.append(tlv.attribute(MARK, fields.get(MARK, bytes(4))))
    if with_status:
        out.append(tlv.attribute(STATUS, status.to_bytes(4, "big")))
    if ZONE in fields:
        out.append(tlv.attribute(ZONE, fields[ZONE]))
    if LABELS in fields:
        out.append(tlv.attribute(LABELS, fields[LABELS]))
    info = _protoinfo(entry)
    if info:
        out.append(tlv.nest(PROTOINFO, info))
    nests = (SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY)
    out += [tlv.nest(kind, fields[kind]) for kind in nests if kind in fields]
    return b"".join(out)


def _protoinfo(entry: Entry) -> bytes:
    if entry.orig.protocol != TCP:
        return entry.fields.get(PROTOINFO, b"")
    info = tlv.index(tlv.index(entry.fields.get(PROTOINFO, b"")).get(_TCP_INFO, b""))
    # An offloaded connection tells no state: it is established.
    state = info.get(_STATE, bytes([TcpState.ESTABLISHED]))
    scales = info.get(_SCALE_ORIG, b"\0"), info.get(_SCALE_REPLY, b"\0")
    return tlv.nest(
        _TCP_INFO,
        tlv.attribute(_STATE, state),
        tlv.attribute(_SCALE_ORIG, scales[0]),
        tlv.attribute(_SCALE_REPLY, scales[1]),
        tlv.attribute(_FLAGS_ORIG, _flags(info.get(_FLAGS_ORIG, b"\0"))),
        tlv.attribute(_FLAGS_REPLY, _flags(info.get(_FLAGS_REPLY, b"\0"))),
    )


def _flags(said: bytes) -> bytes:
    """Flags and mask: scaling is known in both directions, the window itself is not (liberal)."""
    value = (said[0] if said else 0) & _FLAGS_CARRIED | _WINDOW_SCALE | _LIBERAL
    return bytes([value, value])


def _inverse(entry: Entry) -> bytes:
    orig, reply = entry.orig, entry.reply
    first = 1 if len(orig.source) == 4 else 3
    addresses = tlv.attribute(first, orig.target) + tlv.attribute(first + 1, orig.source)
    parts = [tlv.attribute(_NUMBER, bytes([orig.protocol]))]
    if orig.protocol in _ICMP_PARTS:
        number, kind, code = _ICMP_PARTS[orig.protocol]
        inverse = orig.parts | {kind: reply.parts.get(kind, b"")}
        parts += [
            tlv.attribute(each, inverse[each]) for each in (number, kind, code) if each in inverse
        ]
    elif _FIRST in orig.parts and _SECOND in orig.parts:
        parts.append(tlv.attribute(_FIRST, orig.parts[_SECOND]))
        parts.append(tlv.attribute(_SECOND, orig.parts[_FIRST]))
    out = tlv.nest(_IP, addresses) + tlv.nest(_PROTO, *parts)
    return out + tlv.attribute(_TUPLE_ZONE, reply.zone) if reply.zone else out


def _translation(entry: Entry) -> bytes:
    """Return the NAT attributes; an empty nest keeps a flow that was not translated as it is."""
    orig, reply = entry.orig, entry.reply
    if orig.protocol in _ICMP_PARTS:
        number = _ICMP_PARTS[orig.protocol][0]
        before_source, after_source = orig.parts.get(number, b""), reply.parts.get(number, b"")
        before_target = after_target = b""
    else:
        before_source, after_source = orig.parts.get(_FIRST, b""), reply.parts.get(_SECOND, b"")
        before_target, after_target = orig.parts.get(_SECOND, b""), reply.parts.get(_FIRST, b"")
    out = b""
    if (orig.source, before_source) != (reply.target, after_source):
        out += tlv.nest(NAT_SRC, _range(reply.target, after_source))
    if (orig.target, before_target) != (reply.source, after_target):
        out += tlv.nest(NAT_DST, _range(reply.source, after_target))
    if not out and entry.status & (SRC_NAT_DONE | DST_NAT_DONE):
        out = tlv.nest(NAT_SRC)
    return out


def _range(address: bytes, port: bytes) -> bytes:
    first = 1 if len(address) == 4 else 4
    out = tlv.attribute(first, address) + tlv.attribute(first + 1, address)
    if port:
        out += tlv.nest(3, tlv.attribute(1, port) + tlv.attribute(2, port))
    return out
