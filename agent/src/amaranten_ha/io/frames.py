# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet socket of one link: heartbeats, probes and announcements out, beats and answers in.

Heart enters with bytes. The socket takes every EtherType and a classic BPF filter picks, because a
socket that is bound to the heartbeat's EtherType stands behind a user's ingress chain, and one for
all of them does not. Arrival times come from the kernel, so that a late wake-up accuses nobody.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from amaranten_ha.core.beat import ETHERTYPE, GROUP_MAC, MAGIC, MARK
from amaranten_ha.core.errors import KernelRefused

_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_SO_MARK = 36
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_STATISTICS = 6
_PACKET_MR_MULTICAST = 0
_RECEIVE_BUFFER_BYTES = 1 << 20
_TIMESPEC = struct.Struct("qq")
_LD_W, _LD_H, _LD_B = 0x20, 0x28, 0x30
_JEQ, _RET = 0x15, 0x06
_AD_PKTTYPE, _AD_VLAN_PRESENT = 0xFFFFF004, 0xFFFFF030
_OTHERHOST, _OUTGOING = 3, 4
_ACCEPT, _REJECT = "accept", "reject"


@dataclass(frozen=True, slots=True)
class Received:
    """A frame and when the kernel got it, on the monotonic clock."""

    data: bytes
    at_ns: int


def link_filter(length_max: int) -> bytes:
    """Return the filter as bytes: heartbeats, ARP replies and neighbour advertisements.

    Tagged frames belong to a sub-interface's own socket and are left to it. A beat of another pair
    or of a wrong length is let through, to be counted; it is cut one byte after the longest one.
    """
    magic = int.from_bytes(MAGIC)
    program: list[tuple[str, int, int, str, str]] = [
        ("", _LD_H, _AD_PKTTYPE, "", ""),
        ("", _JEQ, _OUTGOING, _REJECT, ""),
        ("", _JEQ, _OTHERHOST, _REJECT, ""),
        ("", _LD_H, _AD_VLAN_PRESENT, "", ""),
        ("", _JEQ, 0, "", _REJECT),
        ("", _LD_H, 12, "", ""),
        ("", _JEQ, ETHERTYPE, "beat", ""),
        ("", _JEQ, 0x0806, "arp", ""),
        ("", _JEQ, 0x86DD, "ipv6", _REJECT),
        ("ipv6", _LD_B, 20, "", ""),
        ("", _JEQ, 58, "", _REJECT),
        ("", _LD_B, 54, "", ""),
        ("", _JEQ, 136, _ACCEPT, _REJECT),
        ("arp", _LD_H, 20, "", ""),
        ("", _JEQ, 2, _ACCEPT, _REJECT),
        ("beat", _LD_W, 14, "", ""),
        ("", _JEQ, magic, _ACCEPT, _REJECT),
        (_ACCEPT, _RET, 14 + length_max + 1, "", ""),
        (_REJECT, _RET, 0, "", ""),
    ]
    places = {label: index for index, (label, *_rest) in enumerate(program) if label}

    def jump(target: str, index: int) -> int:
        return places[target] - index - 1 if target else 0

    return b"".join(
        struct.pack("=HBBI", code, jump(yes, index), jump(no, index), value)
        for index, (_label, code, value, yes, no) in enumerate(program)
    )


class LinkSocket:
    """The socket of one device; it is thrown away and made anew when the device is."""

    def __init__(self, device: str, index: int, length_max: int) -> None:
        self.index = index
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        try:
            self._attach(link_filter(length_max))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind((device, _ETH_P_ALL))
            membership = struct.pack("iHH8s", index, _PACKET_MR_MULTICAST, 6, GROUP_MAC)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            self.mac: bytes = self._socket.getsockname()[4]
        except OSError as error:
            self._socket.close()
            raise KernelRefused(f"{device}: packet socket: {error.strerror}") from None

    def _attach(self, program: bytes) -> None:
        code = ctypes.create_string_buffer(program, len(program))
        descriptor = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._socket.fileno()

    def send(self, data: bytes) -> bool:
        """Send one frame; False if the device did not take it."""
        try:
            self._socket.send(data)
        except OSError:
            return False
        return True

    def drain(self, frames_max: int) -> Iterator[Received]:
        """Yield what has arrived, up to so many frames."""
        offset_ns = time.monotonic_ns() - time.time_ns()
        for _frame in range(frames_max):
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(2048, 64)
            except OSError:
                return
            at_ns = time.monotonic_ns()
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack(value)
                    at_ns = min(at_ns, seconds * 1_000_000_000 + nanoseconds + offset_ns)
            yield Received(data, at_ns)

    def dropped(self) -> int:
        """Return how many frames the kernel threw away since the last call: the queue was full."""
        data = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        drops: int = struct.unpack("=II", data)[1]
        return drops

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
