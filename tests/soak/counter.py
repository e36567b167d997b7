# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts heartbeats on a cable: statistics of a packet socket that nobody reads.

The soak enters. Nothing of the agent takes part, so that an agent that miscounts is noticed.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from gate_bench import inside

_ETHERTYPE = 0x88B5
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS, _SO_ATTACH_FILTER = 263, 6, 26
_PROGRAM = b"".join(
    struct.pack("=HBBI", *line)
    for line in (
        (0x28, 0, 0, 0xFFFFF004),  # packet type
        (0x15, 3, 0, 4),  # outgoing: reject
        (0x28, 0, 0, 12),  # EtherType
        (0x15, 0, 1, _ETHERTYPE),
        (0x06, 0, 0, 1),  # accept one byte
        (0x06, 0, 0, 0),
    )
)


class Counter:
    """Heartbeats that arrive at one device, counted before anybody's rules."""

    def __init__(self, namespace: str, device: str) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        code = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
        descriptor = struct.pack("HxxxxxxP", len(_PROGRAM) // 8, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        with inside(namespace):
            self._socket.bind((device, _ETH_P_ALL))

    def taken(self) -> int:
        """Return how many came since the last call; the kernel counts those it could not queue."""
        data = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        packets: int = struct.unpack("=II", data)[0]
        return packets

    def close(self) -> None:
        """Stop counting."""
        self._socket.close()
