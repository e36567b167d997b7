# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to connections and expectations, as the kernel tells it: ctnetlink events.

`sync` enters once a turn and gets bytes; what they mean is `core.flow`'s business. A filter on the
socket drops in the kernel what our own changes cause, before it costs anything: nothing echoes.
Nothing in here decides.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import NamedTuple

from amaranten_ha.io.netlink import (
    CT_DELETE,
    EXPECT_DELETE,
    NF_HEADER,
    RECEIVE_BYTES,
    SO_RCVBUFFORCE,
    messages,
    open_socket,
)

CONNECTIONS, EXPECTATIONS = 0b111, 0b111000
"""Groups of events: what is new, what is changed, what is gone."""
_GONE = (CT_DELETE, EXPECT_DELETE)
_EVENT_BUFFER_BYTES = 8 << 20
_SO_ATTACH_FILTER = 26


class Event(NamedTuple):
    """One message about one connection or expectation; `gone` for a destroyed one."""

    gone: bool
    attributes: bytes


class Events:
    """What happens to the table; `overrun` says that the kernel had to drop some of it."""

    def __init__(self, ignored_port: int, groups: int = CONNECTIONS) -> None:
        self._socket = open_socket(groups)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        self._ignore(ignored_port)
        self.overrun = False
        self.count = self.losses = 0
        """How many events were heard, and how often the kernel had to drop some."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self, count_max: int) -> list[Event]:
        """Return what is waiting, at most about `count_max`; sets `overrun` when some was lost."""
        events: list[Event] = []
        receive = self._socket.recv
        while len(events) < count_max:
            try:
                data = receive(RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overrun = True
                self.losses += 1
                continue
            for kind, _sequence, body in messages(data):
                events.append(Event(kind in _GONE, body[NF_HEADER.size :]))
        self.count += len(events)
        return events

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ignore(self, port: int) -> None:
        """Drop in the kernel what our own changes cause: word 3 of the header is their port id."""
        program = ctypes.create_string_buffer(
            struct.pack("HBBI", 0x20, 0, 0, 12)  # load nlmsg_pid
            + struct.pack("HBBI", 0x15, 0, 1, socket.htonl(port))  # ours?
            + struct.pack("HBBI", 0x06, 0, 0, 0)  # drop
            + struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF)  # else accept
        )
        attach = struct.pack("HL", 4, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attach)
