# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of frames, for the tests of the gate: ARP, IPv4, IPv6, neighbour discovery, heartbeats."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass

MARK = 0x416D4841
BEAT, LINGER, RESTARTING, UNSURE, CLOSE, FAREWELL = range(1, 7)
STARTING, PASSIVE, ACTIVE, HANDING_OVER, FAULT = range(1, 6)
ARP, IP, IP6, BEATS, OTHER = 0x0806, 0x0800, 0x86DD, 0x88B5, 0x9000


def mac(text: str) -> bytes:
    """The bytes of a hardware address."""
    return bytes.fromhex(text.replace(":", ""))


def packed(address: str) -> bytes:
    """The bytes of an address."""
    return ipaddress.ip_address(address).packed


def arp(operation: int, sender_mac: bytes, sender: str, target: str) -> bytes:
    """The payload of an ARP frame."""
    head = struct.pack(">HHBBH", 1, IP, 6, 4, operation)
    return head + sender_mac + packed(sender) + bytes(6) + packed(target)


def is_arp(operation: int, sender: str) -> Callable[[bytes], bool]:
    """A test for ARP frames with this sender address."""
    return lambda frame: (
        frame[12:14] == b"\x08\x06"
        and frame[20:22] == operation.to_bytes(2)
        and frame[28:32] == packed(sender)
    )


def checksum(data: bytes) -> bytes:
    """The Internet checksum."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


def ip4(source: str, target: str, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    """An IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0)
    head += packed(source) + packed(target)
    return head[:10] + checksum(head) + head[12:] + payload


def ip6(source: str, target: str, protocol: int, payload: bytes, hops: int = 255) -> bytes:
    """An IPv6 packet; ICMPv6 gets its checksum."""
    ends = packed(source) + packed(target)
    if protocol == 58:
        pseudo = ends + struct.pack(">II", len(payload), 58)
        payload = payload[:2] + checksum(pseudo + payload) + payload[4:]
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + ends + payload


def udp(source_port: int, target_port: int, payload: bytes) -> bytes:
    """A UDP datagram without checksum."""
    return struct.pack(">HHHH", source_port, target_port, 8 + len(payload), 0) + payload


def echo(source: str, target: str, token: bytes) -> bytes:
    """A ping."""
    body = b"\x08\0\0\0" + b"\0\1\0\1" + token
    return ip4(source, target, 1, body[:2] + checksum(body) + body[4:])


def neighbour(kind: int, target: str, option: int, own_mac: bytes) -> bytes:
    """A neighbour solicitation (135) or advertisement (136)."""
    flags = 0x60000000 if kind == 136 else 0
    body = struct.pack(">BBHI", kind, 0, 0, flags) + packed(target)
    return body + bytes((option, 1)) + own_mac


@dataclass(frozen=True, slots=True)
class Beat:
    """The bytes of a heartbeat that the gate reads, and the socket's mark."""

    kind: int = BEAT
    role: int = ACTIVE
    cluster: int = 7
    node: int = 1
    magic: bytes = b"AmHA"
    major: int = 1
    mark: int = MARK
    ethertype: int = BEATS
    flags: int = 0

    def payload(self) -> bytes:
        """What follows the Ethernet header."""
        head = struct.pack(">4sBBHBBH", self.magic, self.major, self.kind, self.cluster,
                           self.node, self.role, 1)  # fmt: skip
        return head + self.flags.to_bytes(4) + bytes(32)
