# SPDX-License-Identifier: GPL-3.0-or-later
"""The line to heart: it says which role this node has, and hears how the replica stands.

`sync` enters once a turn. Heart may be away, restart or be slow: the line is made again every
200 ms, what cannot be sent is dropped (the next report says the same better), and nothing waits.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from pathlib import Path
from typing import Any

RETRY_NS = 200_000_000
PACKET_BYTES_MAX = 1 << 20


class Follower:
    """A client of the control socket that follows heart's role."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._epoll = select.epoll()
        self._socket: socket.socket | None = None
        self._next_try_ns = 0
        self.away_since_ns: int | None = 0
        """Since when heart is away; None while it is there."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do."""
        return self._epoll.fileno()

    def turn(self, now_ns: int) -> list[dict[str, Any]]:
        """Return what heart pushed since the last turn."""
        if self._socket is None and now_ns >= self._next_try_ns:
            self._connect(now_ns)
        pushes: list[dict[str, Any]] = []
        while self._socket is not None:
            try:
                packet = self._socket.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:
                packet = b""
            if not packet:
                self._lose(now_ns)
                break
            with contextlib.suppress(ValueError):
                push = json.loads(packet)
                if isinstance(push, dict) and "push" in push:
                    pushes.append(push)
        return pushes

    def say(self, request: dict[str, Any], now_ns: int) -> None:
        """Send one request, or drop it."""
        if self._socket is not None:
            try:
                self._socket.send(json.dumps(request).encode())
            except BlockingIOError:
                return
            except OSError:
                self._lose(now_ns)

    def close(self) -> None:
        """Close the line."""
        if self._socket is not None:
            self._socket.close()
        self._epoll.close()

    def _connect(self, now_ns: int) -> None:
        self._next_try_ns = now_ns + RETRY_NS
        line = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            line.connect(str(self._path))
            line.send(json.dumps({"op": "follow"}).encode())
        except OSError:
            line.close()
            return
        self._socket, self.away_since_ns = line, None
        self._epoll.register(line.fileno(), select.EPOLLIN)

    def _lose(self, now_ns: int) -> None:
        if self._socket is not None:
            self._epoll.unregister(self._socket.fileno())
            self._socket.close()
        self._socket, self.away_since_ns = None, now_ns
