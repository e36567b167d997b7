# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's book of devices and addresses as messages: open, ask for a list, take apart.

`links` enters for heart, `inventory` for gate and stage. What the messages mean is theirs.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from amaranten_ha.core.errors import KernelRefused

NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
ERROR, DONE = 2, 3
ACK, DUMP, REPLACE, CREATE = 4, 0x300, 0x100, 0x400
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
ADDRESS = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index of the device."""
RECEIVE_BYTES = 1 << 17
_HEADER = struct.Struct("=IHHII")
_CODE = struct.Struct("=i")
_REQUEST = 1
_ANSWER_S = 2.0


def connect(groups: int = 0) -> socket.socket:
    """Open a socket that waits for two seconds at most, and hears the given groups of events."""
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.bind((0, groups))
    channel.settimeout(_ANSWER_S)
    return channel


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """Return a request."""
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, sequence, 0) + body


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, sequence and body of each message; a malformed rest ends the walk."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, sequence, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def error_of(body: bytes) -> int:
    """Return the errno in an answer of kind ERROR; 0 if it acknowledges."""
    code: int = unpack(_CODE, body)[0]
    return -code


def unpack(layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    """Return the fixed head of a message; raises KernelRefused for one that is cut off."""
    if len(body) < layout.size:
        raise KernelRefused(f"rtnetlink: a message of {len(body)} bytes is cut off")
    return layout.unpack_from(body)


def dump(channel: socket.socket, request: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Ask for a list and yield kind and body of each answer; raises KernelRefused."""
    channel.send(message(request, DUMP, body))
    while True:
        for kind, _sequence, payload in split(channel.recv(RECEIVE_BYTES)):
            if kind == DONE:
                return
            if kind == ERROR:
                raise KernelRefused(f"rtnetlink cannot list: {os.strerror(error_of(payload))}")
            yield kind, payload
