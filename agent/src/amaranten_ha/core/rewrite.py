# SPDX-License-Identifier: GPL-3.0-or-later
"""The one rewrite of replication: from the active's entry to what the passive's kernel is told.

The passive's side enters with entries. An event of a translated connection, given to another
kernel unchanged, is accepted and translates nothing. So a creation says the reply as the plain
inverse of the original, and the translation as NAT attributes with address and port; the kernel
then computes the translated reply itself. An update must not carry these, nor the
master, and the helper only where the kernel is to say whether it has it. TCP entries are liberal:
the windows of the active were never seen here.
"""

from __future__ import annotations

import struct

from amaranten_ha.core import flow, tlv
from amaranten_ha.core.flow import Entry

_IP, _PROTO, _TUPLE_ZONE = 1, 2, 3
_NUMBER, _FIRST, _SECOND = 1, 2, 3
_ICMP_PARTS = {flow.ICMP: (4, 5, 6), flow.ICMPV6: (7, 8, 9)}
"""Attribute numbers of id, type and code."""
_FLAGS_CARRIED = flow.WINDOW_SCALE | flow.SACK | flow.CLOSE_INIT
_FLAGS = [
    bytes([said & _FLAGS_CARRIED | flow.WINDOW_SCALE | flow.LIBERAL] * 2) for said in range(256)
]
"""Flags and mask: scaling is known in both directions, the window itself is not (liberal)."""

_STATUSES = {
    said | fixed: tlv.attribute(flow.STATUS, (said | fixed | flow.CONFIRMED).to_bytes(4, "big"))
    for said in (0, flow.SEEN_REPLY, flow.ASSURED, flow.STATUS_CARRIED)
    for fixed in (0, flow.FIXED_TIMEOUT)
}
_TIMEOUT_HEADER = struct.pack("=HH", 8, flow.TIMEOUT)
_NO_MARK = struct.pack("=HHI", 8, flow.MARK, 0)
_COMMON_EXTRAS = (
    flow.ZONE, flow.LABELS, flow.SEQ_ADJ_ORIG, flow.SEQ_ADJ_REPLY, flow.SYNPROXY,
)  # fmt: skip


def creation(entry: Entry, *, plain: bool = False, last: bool = False) -> bytes:
    """Return the attributes that create the entry; `plain` leaves helper and master out.

    The `last` word on a closed connection makes an entry that ends soon. A helper that is not
    loaded here, or a master that is not known here, would be refused.
    """
    record, split, tuples = entry.record, entry.split, entry.tuples
    fields = {} if len(record) <= entry.extras else entry.fields
    ports = (split, tuples) in ((52, 104), (76, 152)) and entry.protocol not in _ICMP_PARTS
    inverse, translation = _by_ports(entry) if ports else _by_attributes(entry)
    if not translation and entry.status & (flow.SRC_NAT_DONE | flow.DST_NAT_DONE):
        # An empty nest: the rules here shall not translate what was not translated there.
        translation = tlv.nest(flow.NAT_SRC)
    out = record[:split] + inverse + translation + _common(entry, fields, True, last)
    if not plain:
        if flow.MASTER in fields:
            out += tlv.nest(flow.MASTER, fields[flow.MASTER])
        out += helper(entry) if flow.HELP in fields else b""
    return out


def helper(entry: Entry) -> bytes:
    """Return the attribute that names the entry's helper, empty without one.

    An update with it changes nothing: the kernel refuses it when the entry has no such helper.
    """
    if len(entry.record) <= entry.extras:
        return b""
    name = tlv.index(entry.fields.get(flow.HELP, b"")).get(1)
    return b"" if name is None else tlv.nest(flow.HELP, tlv.attribute(1, name))


def update(entry: Entry, *, with_status: bool = True, last: bool = False) -> bytes:
    """Return the attributes that bring an entry that exists up to date.

    The kernel refuses status bits that would have to be taken away: then leave them out.
    """
    fields = {} if len(entry.record) <= entry.extras else entry.fields
    return entry.record[: entry.split] + _common(entry, fields, with_status, last)


def loosening(entry: Entry) -> bytes | None:
    """Return an update that makes an own TCP entry liberal, None if there is nothing to do.

    While the traffic moves a node sees one half of a connection, and when the traffic comes back
    its windows are stale. So the kernel's note that a side fitted into them is taken away as well.
    """
    if entry.protocol != flow.TCP or entry.state == flow.UNSAID:
        return None
    info = entry.tuples + 16
    said = entry.record[info + 36], entry.record[info + 44]
    if said[0] & said[1] & flow.LIBERAL and not (said[0] | said[1]) & flow.MAXACK_SET:
        return None
    return _flags(entry, flow.LIBERAL, flow.LIBERAL | flow.MAXACK_SET)


def is_liberal(entry: Entry) -> bool:
    """Say whether segments outside of the windows pass, at least in one direction."""
    if entry.protocol != flow.TCP or entry.state == flow.UNSAID:
        return False
    info = entry.tuples + 16
    return bool((entry.record[info + 36] | entry.record[info + 44]) & flow.LIBERAL)


def tightening(entry: Entry) -> bytes | None:
    """Return an update that makes a liberal entry strict, None while its windows are not known."""
    info = entry.tuples + 16
    if not entry.record[info + 36] & entry.record[info + 44] & flow.MAXACK_SET:
        return None
    return _flags(entry, 0, flow.LIBERAL)


def _flags(entry: Entry, flags: int, mask: int) -> bytes:
    said = bytes([flags, mask])
    change = tlv.attribute(flow.FLAGS_ORIG, said) + tlv.attribute(flow.FLAGS_REPLY, said)
    return entry.key + tlv.nest(flow.PROTOINFO, tlv.nest(flow.TCP_INFO, change))


def reply_key(entry: Entry) -> bytes:
    """Return what finds the entry, of whatever original, that holds this one's translated reply."""
    return entry.record[entry.split : entry.tuples] + entry.key[entry.split :]


def _common(entry: Entry, fields: dict[int, bytes], with_status: bool, last: bool) -> bytes:
    record, tuples = entry.record, entry.tuples
    timeout_s = flow.COPY_LAST_S if last else flow.copy_timeout_s(entry)
    out = _TIMEOUT_HEADER + timeout_s.to_bytes(4, "big")
    mark = fields.get(flow.MARK)
    out += _NO_MARK if mark is None else tlv.attribute(flow.MARK, mark)
    if with_status:
        # The tracker's own timeouts are zero in an injected entry of GRE: a packet would end it.
        fixed = flow.FIXED_TIMEOUT if entry.protocol == flow.GRE else 0
        out += _STATUSES[record[tuples + 7] & flow.STATUS_CARRIED | fixed]
    if entry.protocol == flow.TCP and entry.state != flow.UNSAID:
        info = record[tuples + 16 : tuples + 64]
        out += info[:36] + _FLAGS[info[36]] + info[38:44] + _FLAGS[info[44]] + info[46:]
    elif len(record) > tuples + 16:
        info = entry.fields.get(flow.PROTOINFO, b"")
        out += tlv.nest(flow.PROTOINFO, info) if info else b""
    for kind in _COMMON_EXTRAS if fields else ():
        if kind in fields:
            nested = tlv.NESTED if kind in flow.NESTS else 0
            out += tlv.attribute(kind | nested, fields[kind])
    return out


def _by_ports(entry: Entry) -> tuple[bytes, bytes]:
    """Inverse and translation of an entry with ports, from their places in the record."""
    record, reply, size = entry.record, entry.split, entry.address_bytes
    target, proto = 16 + size, 16 + 2 * size
    first, second = record[proto + 16 : proto + 20], record[proto + 24 : proto + 28]
    inverse = b"".join(
        (
            record[reply : reply + 12],
            record[target:proto],
            record[12 + size : target],
            record[12 : 12 + size],
            record[proto : proto + 16],
            second,
            record[proto + 20 : proto + 24],
            first,
        )
    )
    if record[reply : entry.tuples] == inverse:
        return inverse, b""
    out = b""
    source, port = record[reply + target : reply + proto], record[reply + proto + 24 :][:4]
    if source != record[12 : 12 + size] or port != first:
        out = _nat_port(flow.NAT_SRC, source, port)
    source, port = record[reply + 12 :][:size], record[reply + proto + 16 :][:4]
    if source != record[target:proto] or port != second:
        out += _nat_port(flow.NAT_DST, source, port)
    return inverse, out


_RANGES = {
    (kind, size): (
        struct.pack("=HHHH", 36 + 2 * (size - 4) + 4, kind | tlv.NESTED, 4 + size, first),
        struct.pack("=HH", 4 + size, first + 1),
    )
    for kind in (flow.NAT_SRC, flow.NAT_DST)
    for size, first in ((4, 1), (16, 4))
}
_PORT_MIN, _PORT_MAX = struct.pack("=HHHH", 20, 3 | tlv.NESTED, 6, 1), struct.pack("=HH", 6, 2)


def _nat_port(kind: int, address: bytes, port: bytes) -> bytes:
    """Return one NAT attribute; the port is given with its padding."""
    head, middle = _RANGES[kind, len(address)]
    return b"".join((head, address, middle, address, _PORT_MIN, port, _PORT_MAX, port))


def _by_attributes(entry: Entry) -> tuple[bytes, bytes]:
    """Inverse and translation of any other entry, attribute by attribute."""
    fields = entry.fields
    orig, reply = tlv.index(fields[flow.ORIG]), tlv.index(fields[flow.REPLY])
    had, has = tlv.index(orig[_PROTO]), tlv.index(reply[_PROTO])
    source, target, source_now, target_now = entry.addresses
    first = 1 if len(source) == 4 else 3
    parts = [tlv.attribute(_NUMBER, had[_NUMBER])]
    if entry.protocol in _ICMP_PARTS:
        number, kind, code = _ICMP_PARTS[entry.protocol]
        turned = had | {kind: has.get(kind, b"")}
        parts += [
            tlv.attribute(each, turned[each]) for each in (number, kind, code) if each in turned
        ]
        ports = had.get(number, b""), b"", b"", has.get(number, b"")
    else:
        said = [each.get(part, b"") for each in (had, has) for part in (_FIRST, _SECOND)]
        ports = said[0], said[1], said[2], said[3]
        if ports[0] and ports[1]:
            parts += [tlv.attribute(_FIRST, ports[1]), tlv.attribute(_SECOND, ports[0])]
    inverse = tlv.nest(_IP, tlv.attribute(first, target) + tlv.attribute(first + 1, source))
    inverse += tlv.nest(_PROTO, *parts)
    if _TUPLE_ZONE in reply:
        inverse += tlv.attribute(_TUPLE_ZONE, reply[_TUPLE_ZONE])
    before = (source, ports[0]), (target, ports[1])
    after = (target_now, ports[3]), (source_now, ports[2])
    return tlv.nest(flow.REPLY, inverse), _nat(before, after)


_End = tuple[bytes, bytes]


def _nat(before: tuple[_End, _End], after: tuple[_End, _End]) -> bytes:
    """Return the NAT attributes; an end is an address and a port, a key or an ICMP id."""
    out = b""
    for kind, had, has in zip((flow.NAT_SRC, flow.NAT_DST), before, after, strict=True):
        if had != has:
            address, port = has
            first = 1 if len(address) == 4 else 4
            body = tlv.attribute(first, address) + tlv.attribute(first + 1, address)
            if port:
                body += tlv.nest(3, tlv.attribute(1, port) + tlv.attribute(2, port))
            out += tlv.nest(kind, body)
    return out
