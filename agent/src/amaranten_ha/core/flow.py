# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection entry as bytes: its key, its record, and the stable part of it.

Both sides enter: with what ctnetlink said (an event, a dump, an answer), or with a record that
came from the peer. A record is the entry's own attributes in one order (tuples, status, timeout,
protocol information, the rest), less those that mean nothing on another node; it is what travels.
How the passive's kernel is made to hold such an entry is the business of `rewrite`. No socket,
clock or role in here. Bytes come in; a value or a PeerError comes out.

Nearly all entries are of one of two shapes, IPv4 or IPv6 with ports, and the kernel writes them in
a fixed layout: a few comparisons recognise it. Everything else goes through the attributes one by
one; both ways give the same entry.
"""

from __future__ import annotations

import ipaddress
import struct
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
_USE = 11

NESTS = frozenset({ORIG, REPLY, PROTOINFO, HELP, MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY})
_RARE = (HELP, MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, LABELS, SYNPROXY)
"""Said by the one event that changes them and by dumps, never again by later events."""
_EXTRAS = (MARK, *_RARE, ZONE)

SEEN_REPLY, ASSURED, CONFIRMED = 0x2, 0x4, 0x8
SRC_NAT_DONE, DST_NAT_DONE = 0x80, 0x100
FIXED_TIMEOUT = 0x400
OFFLOADED = 0x4000 | 0x8000
STATUS_CARRIED = SEEN_REPLY | ASSURED

TCP_INFO = 1
TCP_STATE, SCALE_ORIG, SCALE_REPLY, FLAGS_ORIG, FLAGS_REPLY = 1, 2, 3, 4, 5
WINDOW_SCALE, SACK, CLOSE_INIT, LIBERAL = 1, 2, 4, 8
MAXACK_SET = 0x20
"""An acknowledgement from this side fitted into the windows that the tracker knows."""

RARE_BITS = 32
UNSAID = -1
"""The state of an entry whose protocol information was not said."""
COPY_S_MIN = 120
COPY_LONGER_S = 60
"""The original ends first, and says so; a copy that ends by itself would look like a hole."""
COPY_S_MAX = 0x3FFFFFFF
COPY_LAST_S = 10
"""The copy of a closed one serves what is sent again: as long as one lives after a reset."""
COPY_FIXED_S = 6 * 3600
"""A copy of GRE ends at this age whether it is used or not: nothing can move a fixed timeout."""
OFFLOADED_S = 600
"""An offloaded entry tells no timeout."""


class TcpState(IntEnum):
    """The tracker's states from ESTABLISHED on: what comes before them is not replicated."""

    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8


class Entry(NamedTuple):
    """One entry of the connection table."""

    key: bytes
    """The attribute of its original tuple, and that of its zone if it has one."""
    record: bytes
    split: int
    """Where the reply tuple begins in the record."""
    tuples: int
    """Where the two tuples end in the record; status and timeout follow."""
    protocol: int
    state: int
    """The state of a TCP connection; UNSAID if a protocol that needs its information lacks it."""

    @property
    def over(self) -> bool:
        """Say whether both sides of a TCP connection have closed it, or one has reset it."""
        return self.protocol == TCP and TcpState.TIME_WAIT <= self.state <= TcpState.CLOSE

    @property
    def address_bytes(self) -> int:
        """4 or 16."""
        return 4 if self.record[4:6] == _NEST4_IS else 16

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return AF_INET if self.record[4:6] == _NEST4_IS else AF_INET6

    @property
    def status(self) -> int:
        """The status bits."""
        return int.from_bytes(self.record[self.tuples + 4 : self.tuples + 8], "big")

    @property
    def timeout_s(self) -> int:
        """The seconds that the original has left."""
        return int.from_bytes(self.record[self.tuples + 12 : self.tuples + 16], "big")

    @property
    def addresses(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Source and target of the original, source and target of the reply."""
        record, at = self.record, self.split
        if record[4:6] == _NEST4_IS:
            return (
                record[12:16],
                record[20:24],
                record[at + 12 : at + 16],
                record[at + 20 : at + 24],
            )
        return record[12:28], record[32:48], record[at + 12 : at + 28], record[at + 32 : at + 48]

    @property
    def extras(self) -> int:
        """Where what only some entries have begins in the record."""
        return self.tuples + (_FIXED_TCP if self.protocol == TCP else _FIXED)

    @property
    def fields(self) -> dict[int, bytes]:
        """The attributes of the record."""
        return tlv.index(self.record)


_HEAD = struct.Struct("=HHHHHH")
_NEST4, _NEST6 = 20, 44
_NEST4_IS = struct.pack("=H", _NEST4)
_PORTS_BYTES, _TCP_BYTES = 28, 48
_FIXED, _FIXED_TCP = 16, 16 + _TCP_BYTES


def _head(kind: int, nest: int, proto: int) -> bytes:
    """The first twelve bytes of a tuple: its header, that of its addresses, that of the source."""
    first, size = (1, 8) if nest == _NEST4 else (3, 20)
    return _HEAD.pack(4 + nest + proto, kind | tlv.NESTED, nest, 1 | tlv.NESTED, size, first)


ORIG4, _REPLY4 = _head(ORIG, _NEST4, _PORTS_BYTES), _head(REPLY, _NEST4, _PORTS_BYTES)
ORIG6, _REPLY6 = _head(ORIG, _NEST6, _PORTS_BYTES), _head(REPLY, _NEST6, _PORTS_BYTES)
_PORTS = struct.pack("=HHHH", _PORTS_BYTES, 2 | tlv.NESTED, 5, 1)
_TCP = struct.pack(
    "=HHHHHH", _TCP_BYTES, PROTOINFO | tlv.NESTED, _TCP_BYTES - 4, TCP_INFO | tlv.NESTED, 5, 1
)
ID_IS, _STATUS_IS, _TIMEOUT_IS = (struct.pack("=HH", 8, kind) for kind in (ID, STATUS, TIMEOUT))
_NO_MARK = struct.pack("=HHI", 8, MARK, 0)
# An entry that was injected ends with this in every dump.
_NO_SYNPROXY = tlv.nest(SYNPROXY, *(tlv.attribute(kind, bytes(4)) for kind in (1, 2, 3)))
_ID_AND_USE = struct.pack("=HHI", 8, ID, 0)[:4], struct.pack("=HH", 8, _USE)


def parse(attributes: bytes) -> Entry:
    """Read the attributes of one entry, as events, dumps, answers and records have them."""
    head = attributes[:12]
    if head == ORIG4 and attributes[52:64] == _REPLY4:
        split, tuples = 52, 104
    elif head == ORIG6 and attributes[76:88] == _REPLY6:
        split, tuples = 76, 152
    else:
        return _parse_any(attributes)
    after = attributes[tuples : tuples + 4]
    if after == ID_IS:  # an event
        record = attributes[:tuples] + attributes[tuples + 8 :]
    elif after == _STATUS_IS and attributes[tuples + 8 : tuples + 16] == _NO_MARK:  # a dump
        if attributes[tuples + 16 : tuples + 20] != _ID_AND_USE[0]:
            return _parse_any(attributes)
        if attributes[tuples + 24 : tuples + 28] != _ID_AND_USE[1]:
            return _parse_any(attributes)
        record = attributes[: tuples + 8] + attributes[tuples + 32 :].removesuffix(_NO_SYNPROXY)
    else:
        record = attributes
    if (
        record[tuples : tuples + 4] != _STATUS_IS
        or record[tuples + 8 : tuples + 12] != _TIMEOUT_IS
        or record[split - 28 : split - 20] != _PORTS
    ):
        return _parse_any(attributes)
    protocol = record[split - 20]
    if protocol == TCP:
        if len(record) != tuples + _FIXED_TCP or record[tuples + 16 : tuples + 28] != _TCP:
            return _parse_any(attributes)
        return Entry(record[:split], record, split, tuples, TCP, record[tuples + 28])
    if len(record) != tuples + _FIXED or protocol in STATEFUL:
        return _parse_any(attributes)
    return Entry(record[:split], record, split, tuples, protocol, 0)


def key_of(attributes: bytes) -> bytes:
    """Return the key alone; for an entry that is gone nothing else is of interest."""
    if attributes[:12] == ORIG4 and attributes[104:108] == ID_IS:
        return attributes[:52]
    if attributes[:12] == ORIG6 and attributes[152:156] == ID_IS:
        return attributes[:76]
    fields = tlv.index(attributes)
    if ORIG not in fields:
        raise PeerError("a connection entry without its original tuple")
    return _key(fields)


def key_family(key: bytes) -> int:
    """Return the address family of a key; raises PeerError if it is not one."""
    if key[:12] == ORIG4 and len(key) == 52:
        return AF_INET
    fields = tlv.index(key)
    if not fields.keys() <= {ORIG, ZONE} or ORIG not in fields:
        raise PeerError("the key of a connection is its original tuple and its zone")
    _check_tuple(fields[ORIG])
    return AF_INET if fields[ORIG][:2] == _NEST4_IS else AF_INET6


_NAMES = {ICMP: "icmp", TCP: "tcp", 17: "udp", DCCP: "dccp", GRE: "gre", 50: "esp",
          ICMPV6: "icmpv6", SCTP: "sctp"}  # fmt: skip


def describe(key: bytes) -> str:
    """Return a key in words: `tcp 10.1.0.9:40000 -> 198.51.100.7:443`."""
    fields = tlv.index(key)
    parts = tlv.index(fields[ORIG])
    proto = tlv.index(parts[2])
    number = proto[1][0]
    ends = [str(ipaddress.ip_address(address)) for address in tlv.index(parts[1]).values()]
    for at, kind in enumerate((2, 3)):
        if kind in proto:
            host = f"[{ends[at]}]" if ":" in ends[at] else ends[at]
            ends[at] = f"{host}:{int.from_bytes(proto[kind], 'big')}"
    zone = f" zone {int.from_bytes(fields[ZONE], 'big')}" if ZONE in fields else ""
    return f"{_NAMES.get(number, f'protocol {number}')} {ends[0]} -> {ends[1]}{zone}"


def _key(fields: dict[int, bytes]) -> bytes:
    key = tlv.nest(ORIG, fields[ORIG])
    return key + tlv.attribute(ZONE, fields[ZONE]) if ZONE in fields else key


def _parse_any(attributes: bytes) -> Entry:
    fields = tlv.index(attributes)
    if ORIG not in fields or REPLY not in fields:
        raise PeerError("a connection entry without its two tuples")
    protocol = _check_tuple(fields[ORIG])
    if protocol != _check_tuple(fields[REPLY]) or fields[ORIG][:2] != fields[REPLY][:2]:
        raise PeerError("the two tuples of a connection entry differ in protocol or family")
    for kind, size in ((STATUS, 4), (TIMEOUT, 4), (MARK, 4), (ZONE, 2)):
        if len(fields.get(kind, bytes(size))) != size:
            raise PeerError(f"attribute {kind} of a connection entry is not of {size} bytes")
    status = fields.get(STATUS, bytes(4))
    offloaded = int.from_bytes(status, "big") & OFFLOADED
    state, info = _protocol_information(protocol, fields.get(PROTOINFO), offloaded != 0)
    orig, reply = tlv.nest(ORIG, fields[ORIG]), tlv.nest(REPLY, fields[REPLY])
    record = orig + reply + tlv.attribute(STATUS, status)
    record += tlv.attribute(TIMEOUT, fields.get(TIMEOUT, OFFLOADED_S.to_bytes(4, "big"))) + info
    for kind in _EXTRAS:
        if kind in fields and _says_something(kind, fields[kind]):
            record += tlv.attribute(kind | (tlv.NESTED if kind in NESTS else 0), fields[kind])
    return Entry(_key(fields), record, len(orig), len(orig) + len(reply), protocol, state)


def _check_tuple(data: bytes) -> int:
    """Return the protocol of a tuple whose addresses come first, as the kernel writes them."""
    nest = tlv.index(data).get(1, b"")
    addresses = tlv.index(nest)
    sizes = [len(address) for address in addresses.values()]
    if (list(addresses), sizes) not in (([1, 2], [4, 4]), ([3, 4], [16, 16])):
        raise PeerError("a tuple without two addresses of one family")
    if data[: 4 + len(nest)] != tlv.nest(1, nest):
        raise PeerError("a tuple that does not begin with its addresses")
    number = tlv.index(tlv.index(data).get(2, b"")).get(1, b"")
    if len(number) != 1:
        raise PeerError("a tuple without a protocol")
    return number[0]


def _protocol_information(protocol: int, said: bytes | None, offloaded: bool) -> tuple[int, bytes]:
    """Return the state and the attribute, that of TCP always in its fixed layout."""
    if protocol != TCP:
        state = UNSAID if said is None and protocol in STATEFUL else 0
        return state, b"" if said is None else tlv.nest(PROTOINFO, said)
    if said is None and not offloaded:
        return UNSAID, b""
    info = tlv.index(tlv.index(said or b"").get(TCP_INFO, b""))
    # An offloaded connection tells no state: it is established.
    parts = [info.get(TCP_STATE, bytes([TcpState.ESTABLISHED]))]
    parts += [info.get(kind, b"\0") for kind in (SCALE_ORIG, SCALE_REPLY)]
    parts += [info.get(kind, b"\0\0") for kind in (FLAGS_ORIG, FLAGS_REPLY)]
    if [len(part) for part in parts] != [1, 1, 1, 2, 2]:
        raise PeerError("protocol information of TCP in another layout")
    body = b"".join(tlv.attribute(kind, part) for kind, part in enumerate(parts, 1))
    return parts[0][0], tlv.nest(PROTOINFO, tlv.nest(TCP_INFO, body))


def _says_something(kind: int, payload: bytes) -> bool:
    """An injected entry shows all its extensions, with zeros inside; a native one does not."""
    if kind in (SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY):
        return any(map(any, tlv.index(payload).values()))
    return any(payload)


def merge(older: Entry, newer: Entry) -> Entry:
    """Return the newer of two reports of one connection, with what only the older could say."""
    rare = rarities(older)
    return add(newer, rare) if rare else newer


def rarities(entry: Entry) -> dict[int, bytes]:
    """Return the attributes that no later event of this connection will say again."""
    if len(entry.record) <= entry.extras:
        return {}
    fields = entry.fields
    return {kind: fields[kind] for kind in _RARE if kind in fields}


def add(entry: Entry, fields: dict[int, bytes]) -> Entry:
    """Return the entry with the attributes that it does not have itself."""
    union = fields | entry.fields
    kinds = (kind | (tlv.NESTED if kind in NESTS else 0) for kind in union)
    return parse(b"".join(map(tlv.attribute, kinds, union.values())))


def stable(entry: Entry) -> int:
    """Return a checksum of what makes the entry what it is: not its timeout, flags and windows.

    The upper 32 bits are of what no later event says again (`RARE_BITS`), zero for most entries.
    Helper and master can be given at creation only, and not everywhere: they do not count.
    """
    key, record, _split, tuples, protocol, state = entry
    seed = record[tuples + 7] & STATUS_CARRIED
    extras = tuples + _FIXED
    if protocol == TCP and state != UNSAID:
        seed |= state << 8 | record[tuples + 36] << 16 | record[tuples + 44] << 24
        extras = tuples + _FIXED_TCP
    checksum = zlib.crc32(record[:tuples], seed)
    if len(record) <= extras:
        return checksum
    said = tlv.index(record, extras)
    rare = b"".join(bytes([kind]) + said.pop(kind) for kind in _RARE if kind in said
                    and kind not in (HELP, MASTER))  # fmt: skip
    rest = b"".join(bytes([kind]) + said[kind] for kind in said if kind not in (HELP, MASTER))
    if rest:
        checksum = zlib.crc32(rest + key, checksum)
    return checksum | zlib.crc32(rare) << RARE_BITS if rare else checksum


def translation(entry: Entry) -> int:
    """Return a checksum of the reply: with the key it says how the connection is translated."""
    return zlib.crc32(entry.record[entry.split : entry.tuples])


def copy_timeout_s(entry: Entry) -> int:
    """Return how long the passive's copy lives: it must outlive its next renewal."""
    record, tuples = entry.record, entry.tuples
    timeout_s = int.from_bytes(record[tuples + 12 : tuples + 16], "big")
    if entry.protocol == GRE:
        return COPY_FIXED_S
    if timeout_s > COPY_S_MIN:
        return timeout_s + COPY_LONGER_S if timeout_s < COPY_S_MAX else COPY_S_MAX
    return COPY_S_MIN + COPY_LONGER_S
