# SPDX-License-Identifier: GPL-3.0-or-later
"""Ethernet frames as bytes: heartbeats, probes that ask, and announcements that tell.

Everything is built before it is needed. ARP is RFC 826, neighbour discovery RFC 4861; a gratuitous
ARP has its sender's address as target, because a Linux neighbour ignores any other change within
a second (kernel facts, section 4).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

BROADCAST_MAC = b"\xff" * 6
ARP, IPV6 = 0x0806, 0x86DD
_ARP_REQUEST, _ARP_REPLY = 1, 2
_ICMPV6, _NS, _NA = 58, 135, 136
_ARP_HEAD = struct.Struct(">HHBBH")
_NA_ROUTER_OVERRIDE = 0xA0000000
_NA_ROUTER_SOLICITED_OVERRIDE = 0xE0000000
_MIN_FRAME = 60

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Answer:
    """An address that somebody says is at a hardware address."""

    address: IPAddress
    mac: bytes


def frame(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """Return an Ethernet frame, padded to the smallest size."""
    return (destination + source + ethertype.to_bytes(2) + payload).ljust(_MIN_FRAME, b"\0")


def probe(
    address: IPAddress, mac: bytes, own: IPAddress | None, destination: bytes | None
) -> bytes:
    """Ask who has `address`: unicast to `destination`, or to everybody if that is None.

    Without an own address the question is an ARP probe from 0.0.0.0, which a kernel answers.
    """
    if isinstance(address, ipaddress.IPv4Address):
        sender = own.packed if own is not None and own.version == 4 else bytes(4)
        body = _arp(_ARP_REQUEST, mac, sender, bytes(6), address.packed)
        return frame(destination or BROADCAST_MAC, mac, ARP, body)
    group = ipaddress.IPv6Address(
        int(ipaddress.IPv6Address("ff02::1:ff00:0")) | (int(address) & 0xFFFFFF)
    )
    source = own if own is not None and own.version == 6 else _link_local(mac)
    message = bytes(4) + address.packed + bytes([1, 1]) + mac
    if destination is None:
        return _icmpv6(_multicast_mac(group), mac, source, group, _NS, message)
    return _icmpv6(destination, mac, source, address, _NS, message)


def announcements(address: IPAddress, mac: bytes) -> list[bytes]:
    """Tell everybody that `address` is here: two gratuitous ARPs, or an unsolicited NA."""
    if isinstance(address, ipaddress.IPv4Address):
        packed = address.packed
        return [
            frame(BROADCAST_MAC, mac, ARP, _arp(_ARP_REQUEST, mac, packed, bytes(6), packed)),
            frame(BROADCAST_MAC, mac, ARP, _arp(_ARP_REPLY, mac, packed, mac, packed)),
        ]
    everybody = ipaddress.IPv6Address("ff02::1")
    message = _NA_ROUTER_OVERRIDE.to_bytes(4) + address.packed + bytes([2, 1]) + mac
    return [_icmpv6(_multicast_mac(everybody), mac, address, everybody, _NA, message)]


def answer(received: bytes) -> Answer | None:
    """Return who answered for which address, if the frame is an ARP reply or an NA."""
    ethertype = int.from_bytes(received[12:14])
    if ethertype == ARP and len(received) >= 42 and received[20:22] == b"\0\2":
        return Answer(ipaddress.IPv4Address(received[28:32]), received[22:28])
    if ethertype == IPV6 and len(received) >= 78 and received[20] == _ICMPV6:
        if received[54] == _NA:
            return Answer(ipaddress.IPv6Address(received[62:78]), received[6:12])
    return None


def _arp(operation: int, mac: bytes, sender: bytes, target_mac: bytes, target: bytes) -> bytes:
    head = _ARP_HEAD.pack(1, 0x0800, 6, 4, operation)
    return head + mac + sender + target_mac + target


def _icmpv6(
    destination: bytes, mac: bytes, source: IPAddress, target: IPAddress, kind: int, message: bytes
) -> bytes:
    length = 4 + len(message)
    pseudo = source.packed + target.packed + struct.pack(">IxxxB", length, _ICMPV6)
    body = bytes([kind, 0, 0, 0]) + message
    checksum = _checksum(pseudo + body)
    body = bytes([kind, 0]) + checksum.to_bytes(2) + message
    head = struct.pack(">IHBB", 0x60000000, length, _ICMPV6, 255)
    return frame(destination, mac, IPV6, head + source.packed + target.packed + body)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _multicast_mac(group: ipaddress.IPv6Address) -> bytes:
    return b"\x33\x33" + group.packed[-4:]


def _link_local(mac: bytes) -> ipaddress.IPv6Address:
    identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
