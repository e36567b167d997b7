# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends one frame over and over, as fast as one process can: 64 with each system call.

The benches enter. It is bounded by a count or a time, and sends to a cable of the bench's own only.
"""

from __future__ import annotations

import ctypes
import socket
import time

from gate_bench import inside

BATCH = 64
_SOL_PACKET, _QDISC_BYPASS = 263, 20
_libc = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    _fields_ = [("header", _Header), ("sent", ctypes.c_uint)]


class Sender:
    """A socket at a device, and the frame to send."""

    def __init__(self, namespace: str, device: str, frame: bytes) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((device, 0))
        self._socket.setsockopt(_SOL_PACKET, _QDISC_BYPASS, 1)
        self._frame = ctypes.create_string_buffer(frame, len(frame))
        self._vector = _Vector(ctypes.addressof(self._frame), len(frame))
        self._batch = (_Message * BATCH)()
        for message in self._batch:
            message.header.vectors, message.header.vector_count = ctypes.pointer(self._vector), 1

    def send(self, count: int) -> int:
        """Send so many frames, rounded up to a batch; return how many the device took."""
        sent = 0
        for _batch in range(-(-count // BATCH)):
            sent += max(0, _libc.sendmmsg(self._socket.fileno(), self._batch, BATCH, 0))
        return sent

    def send_for(self, seconds: float) -> int:
        """Send for so long; return how many the device took."""
        deadline, sent = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            sent += self.send(BATCH * 8)
        return sent

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
