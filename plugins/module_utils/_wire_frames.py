# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The frames of the wire probe as bytes: what a node says on a cable, and what it makes of others'.

Pure: bytes in, values out.  One body is sent in five wrappings, because a switch or a hypervisor
may let some kinds of frames through and not others.  Nothing here can be taken for a heartbeat,
whatever its EtherType: a heartbeat begins with `AmHA` and is sealed, these begin with `AmWP`.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import socket
import struct

PROBE, BEAT, ARP, IP, IP6 = "probe", "beat", "arp", "ip", "ip6"
KINDS = (PROBE, BEAT, ARP, IP, IP6)
FULL_BIT = 1 << len(KINDS)
"""Beside one bit for each kind that was heard: a frame of the full size was heard."""
ALL_BITS = (FULL_BIT << 1) - 1

ETHERTYPE_PROBE, ETHERTYPE_BEAT = 0x88B6, 0x88B5
ETHERTYPE_ARP, ETHERTYPE_IP, ETHERTYPE_IP6 = 0x0806, 0x0800, 0x86DD
GROUP = b"\x03AmHA\x01"
"""The group of the heartbeats: whether a switch floods it is part of the question."""
BROADCAST = b"\xff" * 6

MAGIC, HEARTBEAT_MAGIC = b"AmWP", b"AmHA"
VERSION = 1
DONE = 1
HEAD = struct.Struct(">4sBBHBBH8sIHQB")
HEARD = struct.Struct(">HB")
NOBODY = b"\0\0\0\0"
# The network's own address of TEST-NET-1: no host can have it, so nobody answers (RFC 5737).
ASKED_FOR_NOBODY = socket.inet_aton("192.0.2.0")
DISCARD_PORT = 9
HEADERS = {PROBE: 14, BEAT: 14, ARP: 14 + 28, IP: 14 + 20 + 8, IP6: 14 + 40}


class Body(object):
    """What one frame of a probe says."""

    def __init__(self, cluster, node, link, run, kind, sequence, size=0, done=False, heard=None):
        self.cluster = cluster
        self.node = node
        self.link = link
        self.run = run
        self.kind = kind
        self.sequence = sequence
        self.size = size
        self.done = done
        self.heard = heard or {}
        self.wall_ns = 0

    def pack(self, wall_ns):
        """The bytes of it; `wall_ns` is the sender's clock now."""
        head = HEAD.pack(
            MAGIC, VERSION, KINDS.index(self.kind), self.cluster, self.node,
            DONE if self.done else 0, self.link, self.run, self.sequence, self.size, wall_ns,
            len(self.heard),
        )  # fmt: skip
        return head + b"".join(HEARD.pack(*each) for each in sorted(self.heard.items()))


def unpack(data):
    """The body in these bytes, or None if there is none."""
    if len(data) < HEAD.size or data[:4] != MAGIC:
        return None
    fields = HEAD.unpack_from(data)
    dummy, version, kind, cluster, node, flags, link, run, sequence, size, wall_ns, count = fields
    if version != VERSION or kind >= len(KINDS) or len(data) < HEAD.size + count * HEARD.size:
        return None
    heard = dict(HEARD.unpack_from(data, HEAD.size + i * HEARD.size) for i in range(count))
    body = Body(
        cluster, node, link, run, KINDS[kind], sequence, size, bool(flags & DONE), heard
    )  # fmt: skip
    body.wall_ns = wall_ns
    return body


def wrap(kind, mac, body, size=0):
    """A whole frame from `mac`; padded until it carries `size` bytes behind its Ethernet header."""
    room = size - (HEADERS[kind] - 14)
    body = body.ljust(room, b"\0") if room > 0 else body
    if kind == PROBE:
        return ethernet(GROUP, mac, ETHERTYPE_PROBE, body)
    if kind == BEAT:
        return ethernet(GROUP, mac, ETHERTYPE_BEAT, body)
    if kind == ARP:
        return ethernet(
            BROADCAST, mac, ETHERTYPE_ARP, arp_request(mac, NOBODY, ASKED_FOR_NOBODY) + body
        )
    if kind == IP:
        udp = struct.pack(">HHHH", DISCARD_PORT, DISCARD_PORT, 8 + len(body), 0) + body
        return ethernet(BROADCAST, mac, ETHERTYPE_IP, ipv4(NOBODY, b"\xff" * 4, 17, udp))
    everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
    # Next header 59, "no next header": whatever follows is ignored by everybody (RFC 8200, 4.7).
    packet = ipv6(link_local(mac), everybody, 59, 1, body)
    return ethernet(multicast_mac(everybody), mac, ETHERTYPE_IP6, packet)


def found(frame):
    """The body in a received frame, or None."""
    ethertype = frame[12:14]
    for kind, value in (
        (PROBE, ETHERTYPE_PROBE), (BEAT, ETHERTYPE_BEAT), (ARP, ETHERTYPE_ARP),
        (IP, ETHERTYPE_IP), (IP6, ETHERTYPE_IP6),
    ):  # fmt: skip
        if ethertype == struct.pack(">H", value):
            body = unpack(frame[HEADERS[kind] :])
            return body if body is not None and body.kind == kind else None
    return None


def heartbeat(frame):
    """(cluster, node) of a heartbeat, sealed or not, or None if the frame is none."""
    if frame[12:14] == struct.pack(">H", ETHERTYPE_BEAT) and frame[14:18] == HEARTBEAT_MAGIC:
        if len(frame) >= 14 + 32:
            return struct.unpack_from(">HB", frame, 14 + 6)
    return None


def ethernet(destination, mac, ethertype, payload):
    """An Ethernet frame, padded to the smallest size."""
    return (destination + mac + struct.pack(">H", ethertype) + payload).ljust(60, b"\0")


def ipv4(source, target, protocol, payload):
    """An IPv4 packet that must not be fragmented and is not forwarded."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 1, protocol, 0)
    total = checksum(head + source + target)
    return head[:10] + struct.pack(">H", total) + source + target + payload


def ipv6(source, target, protocol, hops, payload):
    """An IPv6 packet."""
    return (
        struct.pack(">IHBB", 0x60000000, len(payload), protocol, hops) + source + target + payload
    )


def checksum(data):
    """The internet checksum of some bytes."""
    data = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def link_local(mac):
    """The IPv6 link-local address that belongs to a hardware address (RFC 4291, appendix A)."""
    head = struct.pack(">B", mac[0] ^ 2) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return b"\xfe\x80" + b"\0" * 6 + head


def multicast_mac(group):
    """The hardware address of an IPv6 group."""
    return b"\x33\x33" + group[-4:]


def arp_request(mac, sender, target):
    """The body of an ARP request; sender 0.0.0.0 makes it a probe that changes nobody's tables."""
    return struct.pack(">HHBBH", 1, ETHERTYPE_IP, 6, 4, 1) + mac + sender + b"\0" * 6 + target


def ask(mac, sender, target):
    """A frame that asks who has `target`; `sender` is an own address, or None. All are packed."""
    if len(target) == 4:
        return ethernet(BROADCAST, mac, ETHERTYPE_ARP, arp_request(mac, sender or NOBODY, target))
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target[13:]
    # From nobody the question must not name a hardware address (RFC 4861, 7.1.1).
    option = b"\x01\x01" + mac if sender else b""
    message = b"\0" * 4 + target + option
    source = sender or b"\0" * 16
    length = 4 + len(message)
    pseudo = source + group + struct.pack(">IxxxB", length, 58)
    total = checksum(pseudo + b"\x87\0\0\0" + message)
    packet = ipv6(source, group, 58, 255, b"\x87\0" + struct.pack(">H", total) + message)
    return ethernet(multicast_mac(group), mac, ETHERTYPE_IP6, packet)


def answer(frame):
    """(address as text, hardware address) of an ARP reply or neighbour advertisement, or None."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x06" and len(frame) >= 42 and frame[20:22] == b"\0\2":
        return socket.inet_ntoa(frame[28:32]), frame[22:28]
    if ethertype == b"\x86\xdd" and len(frame) >= 78 and frame[20] == 58 and frame[54] == 136:
        return socket.inet_ntop(socket.AF_INET6, frame[62:78]), frame[6:12]
    return None


def speaker(frame):
    """The IPv4 address as which an ARP frame was sent, or None: it tells which network this is."""
    if frame[12:14] == b"\x08\x06" and len(frame) >= 42 and frame[28:32] != NOBODY:
        return socket.inet_ntoa(frame[28:32])
    return None


# What the kernel hands to the socket, so that a busy firewall's traffic never reaches Python.
LD_H, LD_B, LD_W, JEQ, RET = 0x28, 0x30, 0x20, 0x15, 0x06
PACKET_TYPE, OUTGOING = 0xFFFFF004, 4


def socket_filter():
    """A classic BPF program: the probe's own kinds, heartbeats, ARP, neighbour advertisements."""
    lines = [
        ("", LD_H, PACKET_TYPE, "", ""),
        ("", JEQ, OUTGOING, "reject", ""),
        ("", LD_H, 12, "", ""),
        ("", JEQ, ETHERTYPE_PROBE, "accept", ""),
        ("", JEQ, ETHERTYPE_BEAT, "accept", ""),
        ("", JEQ, ETHERTYPE_ARP, "accept", ""),
        ("", JEQ, ETHERTYPE_IP, "ip", ""),
        ("", JEQ, ETHERTYPE_IP6, "ip6", "reject"),
        ("ip", LD_W, 26, "", ""),
        ("", JEQ, 0, "", "reject"),
        ("", LD_W, 30, "", ""),
        ("", JEQ, 0xFFFFFFFF, "accept", "reject"),
        ("ip6", LD_B, 20, "", ""),
        ("", JEQ, 59, "accept", ""),
        ("", JEQ, 58, "", "reject"),
        ("", LD_B, 54, "", ""),
        ("", JEQ, 136, "accept", "reject"),
        ("accept", RET, 0x40000, "", ""),
        ("reject", RET, 0, "", ""),
    ]
    places = {line[0]: number for number, line in enumerate(lines) if line[0]}
    program = b""
    for number, (_dummy, code, value, yes, no) in enumerate(lines):
        program += struct.pack(
            "=HBBI", code, places[yes] - number - 1 if yes else 0,
            places[no] - number - 1 if no else 0, value,
        )  # fmt: skip
    return program
