# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to connections and expectations, as the kernel tells it: ctnetlink events.

`sync` enters once a turn and gets bytes; what they mean is `core.flow`'s business. A filter on the
socket drops in the kernel, before it costs buffer or time, what our own changes cause (nothing
echoes) and the noise of TCP connections that are not replicated: what half-open ones say, and the
end of those that had said before that they are closed. Events are read many at a time. Nothing in
here decides.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys

from amaranten_ha.core import flow
from amaranten_ha.core.intake import Heard
from amaranten_ha.io.netlink import (
    BODY_BYTES,
    CT_DELETE,
    SO_RCVBUFFORCE,
    open_socket,
)

CONNECTIONS, EXPECTATIONS = 0b111, 0b111000
"""Groups of events: what is new, what is changed, what is gone."""
_GONE = CT_DELETE & 0xFF
"""The low byte of the type of a deletion, of a connection or of an expectation."""
_EVENT_BUFFER_BYTES = 16 << 20
"""The kernel doubles it and counts 1 280 bytes an event (seen on 6.18): room for 26 000 events.
Memory is used only while events wait."""
_SO_ATTACH_FILTER = 26
_AT_ONCE = 256
_SLOT_BYTES = 4096
_TRUNCATED = 0x20
_TYPE_AT = 4 if sys.byteorder == "little" else 5
"""Where the low byte of a message's type is: what happened."""


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vector", ctypes.POINTER(_Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", _Header), ("length", ctypes.c_uint)]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.recvmmsg.argtypes = [
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p,
]  # fmt: skip


class Events:
    """What happens to the table; `overrun` says that the kernel had to drop some of it."""

    def __init__(self, ignored_port: int, groups: int = CONNECTIONS) -> None:
        self._socket = open_socket(groups)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        self._attach(_filter(ignored_port, half_open=groups != CONNECTIONS))
        self._memory = mmap.mmap(-1, _AT_ONCE * _SLOT_BYTES)
        self._anchor = ctypes.c_char.from_buffer(self._memory)
        base = ctypes.addressof(self._anchor)
        self._vectors = (_Vector * _AT_ONCE)(
            *(_Vector(base + slot * _SLOT_BYTES, _SLOT_BYTES) for slot in range(_AT_ONCE))
        )
        self._messages = (_Message * _AT_ONCE)()
        for slot in range(_AT_ONCE):
            self._messages[slot].header.vector = ctypes.pointer(self._vectors[slot])
            self._messages[slot].header.vectors = 1
        self._words = memoryview(self._messages).cast("B").cast("I")
        self.overrun = False
        self.count = self.losses = 0
        """How many events were heard, and how often the kernel had to drop some."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self, count_max: int) -> list[Heard]:
        """Return what is waiting, at most about `count_max`; sets `overrun` when some was lost."""
        events: list[Heard] = []
        while len(events) < count_max:
            received = _libc.recvmmsg(
                self._socket.fileno(),
                ctypes.addressof(self._messages),
                _AT_ONCE,
                socket.MSG_DONTWAIT,
                None,
            )
            if received < 0:
                code = ctypes.get_errno()
                if code in (errno.EAGAIN, errno.EINTR):
                    break
                if code != errno.ENOBUFS:
                    raise OSError(code, os.strerror(code))
                self._lose()
                continue
            self._read(received, events)
            if received < _AT_ONCE:
                break
        self.count += len(events)
        return events

    def _read(self, received: int, events: list[Heard]) -> None:
        memory, words, size = self._memory, self._words, ctypes.sizeof(_Message) // 4
        length_at, flags_at = _Message.length.offset // 4, _Header.flags.offset // 4
        start = 0
        for word in range(0, received * size, size):
            if words[word + flags_at] & _TRUNCATED:
                self._lose()
            else:
                events.append(
                    (
                        memory[start + _TYPE_AT] == _GONE,
                        memory[start + BODY_BYTES : start + words[word + length_at]],
                    )
                )
            start += _SLOT_BYTES

    def _lose(self) -> None:
        self.overrun = True
        self.losses += 1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _attach(self, program: bytes) -> None:
        kept = ctypes.create_string_buffer(program, len(program))
        attach = struct.pack("HL", len(program) // 8, ctypes.addressof(kept))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attach)


_LOAD_WORD, _LOAD_BYTE, _LOAD_BYTE_AT_X = 0x20, 0x30, 0x50
_LOAD, _LOAD_X, _A_TO_X = 0x00, 0x01, 0x07
_IF_EQUAL, _IF_GREATER, _IF_ANY_BIT, _RETURN = 0x15, 0x25, 0x45, 0x06
_NLATTR, _NLATTR_NEST = 0xFFFFF000 + 12, 0xFFFFF000 + 16
"""SKF_AD_NLATTR and _NEST: A is where to begin, X the type; A becomes where it is, 0 if nowhere."""
_RARE = (flow.HELP, flow.MASTER, flow.LABELS, flow.SYNPROXY)
"""Told once, possibly while half-open, and needed later."""


def _filter(port: int, *, half_open: bool) -> bytes:
    """Return the classic BPF program; a jump is the name of its target, the next line otherwise."""
    lines: list[tuple[int, int, str, str]] = [
        (_LOAD_WORD, 12, "", ""),  # the port that caused it, as the kernel has it
        (_IF_EQUAL, socket.htonl(port), "drop", "keep" if half_open else ""),
        *_find(_NLATTR, BODY_BYTES, flow.PROTOINFO, "keep"),
        *_find(_NLATTR_NEST, None, flow.TCP_INFO, "keep"),
        *_find(_NLATTR_NEST, None, flow.TCP_STATE, "keep"),
        (_A_TO_X, 0, "", ""),
        (_LOAD_BYTE_AT_X, 4, "", ""),
        (_IF_GREATER, flow.TcpState.CLOSE, "half", ""),
        (_IF_GREATER, flow.TcpState.LAST_ACK, "closed", ""),
        (_IF_GREATER, flow.TcpState.ESTABLISHED - 1, "keep", "half"),
    ]
    closed = len(lines)
    lines += [
        (_LOAD_BYTE, _TYPE_AT, "", ""),
        (_IF_EQUAL, _GONE, "", "keep"),
        # A reset removes what nobody has answered without saying before that it is closed.
        *_find(_NLATTR, BODY_BYTES, flow.STATUS, "keep"),
        (_A_TO_X, 0, "", ""),
        (_LOAD_BYTE_AT_X, 7, "", ""),
        (_IF_ANY_BIT, flow.SEEN_REPLY, "drop", "keep"),
    ]
    half = len(lines)
    for kind in _RARE:
        lines += _find(_NLATTR, BODY_BYTES, kind, "")[:-1]
        lines.append((_IF_EQUAL, 0, "", "keep"))
    drop = len(lines)
    lines += [(_RETURN, 0, "", ""), (_RETURN, 0xFFFFFFFF, "", "")]
    targets = {"closed": closed, "half": half, "drop": drop, "keep": drop + 1}
    return b"".join(
        struct.pack(
            "HBBI", code, *(targets[to] - at - 1 if to else 0 for to in (so, not_so)), value
        )
        for at, (code, value, so, not_so) in enumerate(lines)
    )


def _find(how: int, start: int | None, kind: int, nowhere: str) -> list[tuple[int, int, str, str]]:
    """Let A be where an attribute is, searched from `start` or inside the one that A is at."""
    begin = [(_LOAD, start, "", "")] if start is not None else []
    return [
        *begin,
        (_LOAD_X, kind, "", ""),
        (_LOAD_WORD, how, "", ""),
        (_IF_EQUAL, 0, nowhere, ""),
    ]
