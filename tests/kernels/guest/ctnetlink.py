# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw ctnetlink messages, right and deliberately wrong ones, and the kernel's answer to each.

The agent never builds a message that the kernel refuses, so the facts about refusals need bytes
of their own; what the agent does build is tested with the agent's code. Numbers are the
kernel's (nfnetlink_conntrack.h).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

NEW, GET, DELETE = 0, 1, 2
REQUEST, ACK, EXCL, CREATE, REPLACE = 0x1, 0x4, 0x200, 0x400, 0x100

(TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, HELP, NAT_SRC, TIMEOUT, MARK) = range(1, 9)
ID, NAT_DST, TUPLE_MASTER = 12, 13, 14

EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED = 0x1, 0x2, 0x4, 0x8
SRC_NAT, DST_NAT, DYING, FIXED_TIMEOUT = 0x10, 0x20, 0x200, 0x400
USUAL = CONFIRMED | SEEN_REPLY | ASSURED

ICMP, TCP, UDP, GRE, ESP, SCTP, UDPLITE = 1, 6, 17, 47, 50, 132, 136
ESTABLISHED, SYN_RECV, FIN_WAIT = 3, 2, 4
WINDOW_SCALE, BE_LIBERAL = 0x1, 0x8

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1
_NESTED = 0x8000


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


@dataclass(frozen=True, slots=True)
class Tuple:
    """One direction; ``keys`` are the two ports, or (id, type, code) of ICMP, or nothing."""

    source: str
    destination: str
    protocol: int
    keys: tuple[int, ...] = ()

    def inverse(self) -> Tuple:
        keys = self.keys
        if self.protocol == ICMP:
            keys = (keys[0], {8: 0, 0: 8}[keys[1]], keys[2])
        else:
            keys = keys[::-1]
        return Tuple(self.destination, self.source, self.protocol, keys)

    @property
    def family(self) -> int:
        version = ipaddress.ip_address(self.source).version
        return socket.AF_INET if version == 4 else socket.AF_INET6

    def pack(self, kind: int) -> bytes:
        first = 1 if self.family == socket.AF_INET else 3
        addresses = nest(
            1,
            attribute(first, ipaddress.ip_address(self.source).packed),
            attribute(first + 1, ipaddress.ip_address(self.destination).packed),
        )
        parts = [attribute(1, bytes([self.protocol]))]
        if self.protocol == ICMP and self.keys:
            identity, icmp_type, code = self.keys
            parts += [
                attribute(4, struct.pack("!H", identity)),
                attribute(5, bytes([icmp_type])),
                attribute(6, bytes([code])),
            ]
        elif self.keys:
            parts += [attribute(2 + at, struct.pack("!H", key)) for at, key in enumerate(self.keys)]
        return nest(kind, addresses, nest(2, *parts))


def nat(kind: int, address: str, port: int | None) -> bytes:
    """CTA_NAT_SRC or CTA_NAT_DST; the port is what may not be forgotten."""
    parsed = ipaddress.ip_address(address)
    low, high = (1, 2) if parsed.version == 4 else (4, 5)
    parts = [attribute(low, parsed.packed), attribute(high, parsed.packed)]
    if port is not None:
        value = struct.pack("!H", port)
        parts.append(nest(3, attribute(1, value), attribute(2, value)))
    return nest(kind, *parts)


def tcp_info(state: int, flags: int = 0, mask: int = 0, scale: int | None = None) -> bytes:
    parts = [attribute(1, bytes([state]))]
    if scale is not None:
        parts += [attribute(2, bytes([scale])), attribute(3, bytes([scale]))]
    parts += [attribute(4, bytes([flags, mask])), attribute(5, bytes([flags, mask]))]
    return nest(PROTOINFO, nest(1, *parts))


def entry(
    original: Tuple,
    reply: Tuple | None = None,
    *more: bytes,
    timeout_s: int | None = 300,
    status: int | None = USUAL,
) -> bytes:
    """The attributes of a usual entry; the reply is the plain inverse unless told otherwise."""
    parts = [original.pack(TUPLE_ORIG), (reply or original.inverse()).pack(TUPLE_REPLY)]
    if timeout_s is not None:
        parts.append(number(TIMEOUT, timeout_s))
    if status is not None:
        parts.append(number(STATUS, status))
    return b"".join([*parts, *more])


def parse(data: bytes) -> dict[int, bytes]:
    """A run of attributes, by number."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


class Table:
    """The connection table of the network namespace in which this object was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)
        self._sequence = 0

    def ask(self, kind: int, flags: int, attributes: bytes, family: int = socket.AF_INET) -> int:
        """Send one request with ACK; 0, or the errno that the kernel answered."""
        self._send(kind, ACK | flags, attributes, family)
        while True:
            answer = self._socket.recv(65536)
            _length, told, _flags, sequence, _port = struct.unpack_from("=IHHII", answer)
            if told == 2 and sequence == self._sequence:
                return -int(struct.unpack_from("=i", answer, 16)[0])

    def _send(self, kind: int, flags: int, attributes: bytes, family: int) -> None:
        self._sequence += 1
        length, told = 20 + len(attributes), _SUBSYSTEM << 8 | kind
        head = struct.pack("=IHHII", length, told, REQUEST | flags, self._sequence, 0)
        self._socket.send(head + struct.pack("=BBH", family, 0, 0) + attributes)

    def get(self, flow: Tuple) -> dict[int, bytes]:
        """The attributes of one entry, by number."""
        self._send(GET, ACK, flow.pack(TUPLE_ORIG), flow.family)
        found: dict[int, bytes] = {}
        while True:
            answer = self._socket.recv(65536)
            _length, told, _flags, sequence, _port = struct.unpack_from("=IHHII", answer)
            if sequence != self._sequence:
                continue
            if told != 2:
                found = parse(answer[20:])
                continue
            code = -int(struct.unpack_from("=i", answer, 16)[0])
            if code:
                raise AssertionError(f"{flow} cannot be read: {os.strerror(code)}")
            return found

    def tcp(self, flow: Tuple) -> dict[int, bytes]:
        return parse(parse(self.get(flow)[PROTOINFO])[1])

    def tcp_flags(self, flow: Tuple) -> tuple[int, int]:
        info = self.tcp(flow)
        return info[4][0], info[5][0]

    def tcp_scales(self, flow: Tuple) -> tuple[int, int]:
        info = self.tcp(flow)
        return info[2][0], info[3][0]

    def identity(self, flow: Tuple) -> bytes:
        return self.get(flow)[ID]

    def create(self, attributes: bytes, family: int = socket.AF_INET) -> int:
        return self.ask(NEW, CREATE | EXCL, attributes, family)

    def upsert(self, attributes: bytes, family: int = socket.AF_INET) -> int:
        return self.ask(NEW, CREATE, attributes, family)

    def update(self, attributes: bytes, family: int = socket.AF_INET) -> int:
        return self.ask(NEW, 0, attributes, family)

    def delete(self, attributes: bytes, family: int = socket.AF_INET) -> int:
        return self.ask(DELETE, 0, attributes, family)


def expect(answer: int, wanted: int, what: str) -> None:
    """The kernel's answer is the fact under test."""
    if answer != wanted:
        was, should = (errno.errorcode.get(code, "success") for code in (answer, wanted))
        raise AssertionError(f"{what}: {was}, not {should}")
