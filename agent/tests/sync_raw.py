# SPDX-License-Identifier: GPL-3.0-or-later
"""Flows of protocols that this kernel has no sockets for, made of raw packets at both ends.

Tests of replication enter. The kernel writes the addresses; what stands behind them is made here,
checksums included, because the tracker looks at them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from sync_netns import Namespace

ICMP, UDPLITE, GRE, ESP, ICMPV6, SCTP, ODD = 1, 136, 47, 50, 58, 132, 253
"""253 is for experiments (RFC 3692): a protocol that no tracker knows."""
_TAG_NEAR, _TAG_FAR = 0x11223344, 0x55667788
_INIT, _INIT_ACK, _DATA, _COOKIE_ECHO, _COOKIE_ACK = 1, 2, 0, 10, 11


class RawFlow:
    """One flow; `opening` are the packets that begin it, by turns from near and from far."""

    def __init__(
        self,
        near: Namespace,
        far: Namespace,
        ends: tuple[str, str],
        protocol: int,
        opening: tuple[bytes, ...],
        answer: Callable[[bytes], bytes],
    ) -> None:
        """`ends` are the near and the far address; `answer` makes the packet of the middle."""
        family = socket.AF_INET6 if ":" in ends[0] else socket.AF_INET
        self._six = family == socket.AF_INET6
        self._ends, self._opening, self._answer = ends, opening, answer
        with near.inside():
            self.near = socket.socket(family, socket.SOCK_RAW, protocol)
        with far.inside():
            self.far = socket.socket(family, socket.SOCK_RAW, protocol)
        self.near.bind((ends[0], 0))
        self.far.bind((ends[1], 0))
        self._seen: tuple[str, bytes] = ("", b"")

    def open(self) -> str:
        """Begin the flow; returns the address that the far end sees."""
        for index, packet in enumerate(self._opening):
            if index % 2 == 0:
                self.near.sendto(packet, (self._ends[1], 0))
                self._seen = self._receive(self.far, len(packet), 3)
            else:
                self.far.sendto(self._addressed(packet), (self._seen[0], 0))
                self._receive(self.near, len(packet), 3)
        return self._seen[0]

    def answered(self, timeout_s: float = 3) -> bool:
        """Send from the far end, in the middle of the flow; True if the near end gets it."""
        packet = self._answer(self._seen[1])
        self.far.sendto(packet, (self._seen[0], 0))
        try:
            return self._receive(self.near, len(packet), timeout_s)[0] == self._ends[1]
        except TimeoutError:
            return False

    def close(self) -> None:
        """Close both ends."""
        self.near.close()
        self.far.close()

    def _addressed(self, packet: bytes) -> bytes:
        """The far end answers to the ports that it sees, which may have been changed."""
        return packet

    def _receive(self, end: socket.socket, size: int, timeout_s: float) -> tuple[str, bytes]:
        end.settimeout(timeout_s)
        while True:
            data, address = end.recvfrom(2048)
            payload = data if self._six else data[(data[0] & 15) * 4 :]
            # The kernel's own answers (echo replies, neighbour discovery) are of other sizes.
            if len(payload) == size:
                return address[0], payload


def _internet_checksum(data: bytes) -> int:
    data += bytes(len(data) & 1)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _bit in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sctp_packet(sport: int, dport: int, tag: int, kind: int, body: bytes) -> bytes:
    """Return one SCTP packet of one chunk."""
    chunk = struct.pack(">BBH", kind, 3 if kind == _DATA else 0, 4 + len(body)) + body
    head = struct.pack(">HHI", sport, dport, tag)
    checksum = struct.pack("<I", _crc32c(head + bytes(4) + chunk))
    return head + checksum + chunk


def sctp(near: Namespace, far: Namespace, ends: tuple[str, str]) -> RawFlow:
    """An association, set up and in the middle of its data."""
    there, back = (3868, 3869), (3869, 3868)

    def init(tag: int) -> bytes:
        return struct.pack(">IIHHI", tag, 65536, 1, 1, 1)

    opening = (
        sctp_packet(*there, 0, _INIT, init(_TAG_NEAR)),
        sctp_packet(*back, _TAG_NEAR, _INIT_ACK, init(_TAG_FAR) + bytes(8)),
        sctp_packet(*there, _TAG_FAR, _COOKIE_ECHO, bytes(4)),
        sctp_packet(*back, _TAG_NEAR, _COOKIE_ACK, b""),
    )
    data = struct.pack(">IHHI", 7, 0, 0, 0) + b"data"
    return RawFlow(
        near, far, ends, SCTP, opening,
        lambda _seen: sctp_packet(*back, _TAG_NEAR, _DATA, data),
    )  # fmt: skip


def plain(
    near: Namespace, far: Namespace, ends: tuple[str, str], protocol: int, payload: bytes
) -> RawFlow:
    """A flow of a protocol that has addresses only, or the same head in both directions."""
    opening = (payload, payload)
    return RawFlow(near, far, ends, protocol, opening, lambda _seen: payload + b"more")


def gre(near: Namespace, far: Namespace, ends: tuple[str, str]) -> RawFlow:
    """A tunnel of version 0, without a key."""
    return plain(near, far, ends, GRE, struct.pack(">HH", 0, 0x0800) + bytes(20))


def esp(near: Namespace, far: Namespace, ends: tuple[str, str]) -> RawFlow:
    """A security association, as far as one can see it from outside."""
    return plain(near, far, ends, ESP, struct.pack(">II", 0x1001, 1) + bytes(24))


def odd(near: Namespace, far: Namespace, ends: tuple[str, str]) -> RawFlow:
    """A protocol that nobody knows."""
    return plain(near, far, ends, ODD, b"experiment!!")


def echo(near: Namespace, far: Namespace, ends: tuple[str, str]) -> RawFlow:
    """A ping that is answered late: the kernel of the far end answers once more, which is fine."""
    six = ":" in ends[0]
    request, reply = (128, 129) if six else (8, 0)

    def packet(kind: int, number: int, text: bytes) -> bytes:
        body = struct.pack(">HH", number, 1) + text
        # For ICMPv6 the kernel fills the checksum in.
        checksum = 0 if six else _internet_checksum(bytes([kind, 0, 0, 0]) + body)
        return struct.pack(">BBH", kind, 0, checksum) + body

    def late(seen: bytes) -> bytes:
        return packet(reply, int.from_bytes(seen[4:6], "big"), b"a late answer")

    opening = (packet(request, 0x4D2, b"asked"),)
    return RawFlow(near, far, ends, ICMPV6 if six else ICMP, opening, late)


PROTOCOLS: dict[str, Callable[[Namespace, Namespace, tuple[str, str]], RawFlow]] = {
    "icmp": echo,
    "sctp": sctp,
    "gre": gre,
    "esp": esp,
    "protocol 253": odd,
}
