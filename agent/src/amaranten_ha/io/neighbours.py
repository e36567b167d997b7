# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's table of neighbours by rtnetlink: events, the whole of it, and changes.

`neighbours` enters; what is worth telling or making is decided there.
"""

from __future__ import annotations

import errno
import os
import socket

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.neighbour import Neighbour, message, read
from amaranten_ha.io import rtnetlink

_NEW, _DELETE, _GET = 28, 29, 30
_GROUP = 1 << 2
_EVENT_BUFFER_BYTES = 1 << 20
_SO_RCVBUFFORCE = 33


class NeighbourTable:
    """Two sockets: one that hears, one that asks and changes."""

    def __init__(self) -> None:
        self._events = rtnetlink.connect(_GROUP)
        self._events.setblocking(False)
        self._events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        self._requests = rtnetlink.connect()

    def fileno(self) -> int:
        """Return the descriptor of the events."""
        return self._events.fileno()

    def events(self) -> tuple[list[tuple[Neighbour, bool]], bool]:
        """Return the changed rows, each with True if it is gone, and whether some were lost."""
        rows: list[tuple[Neighbour, bool]] = []
        lost = False
        while True:
            try:
                data = self._events.recv(rtnetlink.RECEIVE_BYTES)
            except BlockingIOError:
                return rows, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            for kind, _sequence, body in rtnetlink.split(data):
                row = read(body) if kind in (_NEW, _DELETE) else None
                if row is not None:
                    rows.append((row, kind == _DELETE))

    def rows(self) -> list[Neighbour]:
        """Return the whole table; raises KernelRefused."""
        try:
            answers = list(rtnetlink.dump(self._requests, _GET, bytes(12)))
        except OSError as error:
            raise KernelRefused(f"neighbours: {error.strerror}") from None
        found = (read(body) for kind, body in answers if kind == _NEW)
        return [row for row in found if row is not None]

    def put(self, row: Neighbour) -> str:
        """Make or replace a row; return why the kernel refused, or nothing."""
        return self._change(_NEW, rtnetlink.CREATE | rtnetlink.REPLACE, row)

    def remove(self, row: Neighbour) -> str:
        """Remove a row; return why the kernel refused, or nothing."""
        return self._change(_DELETE, 0, row)

    def _change(self, kind: int, flags: int, row: Neighbour) -> str:
        self._requests.send(rtnetlink.message(kind, flags | rtnetlink.ACK, message(row)))
        try:
            answer = self._requests.recv(rtnetlink.RECEIVE_BYTES)
        except OSError as error:
            return error.strerror or "no answer"
        for kind, _sequence, body in rtnetlink.split(answer):
            code = rtnetlink.error_of(body) if kind == rtnetlink.ERROR else 0
            if code:
                return os.strerror(code)
        return ""
