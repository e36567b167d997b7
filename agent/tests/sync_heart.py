# SPDX-License-Identifier: GPL-3.0-or-later
"""Heart as a test plays it: its control socket with one follower, pushes there, reports back.

Tests of sync enter; the real sync service is at the other end. It is heard whenever a test waits.
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

from sync_netns import meanwhile


class Heart:
    """The test as heart: one follower, pushes there, reports back."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._listener.setblocking(False)
        self._client: socket.socket | None = None
        self._push: dict[str, object] = {}
        self.reports: list[dict[str, object]] = []
        self.neighbours: dict[str, list[str]] = {}
        """Whom sync knows, by the number of the logical interface."""
        meanwhile.append(self.poll)

    def poll(self) -> None:
        """Accept, and take all reports in."""
        with contextlib.suppress(BlockingIOError):
            self._client = self._listener.accept()[0]
            self._client.setblocking(False)
            self.say(self._push)
        while self._client is not None:
            try:
                packet = self._client.recv(65536)
            except (BlockingIOError, ConnectionError):
                return
            if not packet:
                self._client = None
                return
            request = json.loads(packet)
            if request["op"] == "replica":
                self.reports.append(request)
            elif request["op"] == "neighbours":
                self.neighbours = request["known"]

    def role(self, role: str, epoch: int = 1) -> None:
        """Say the role, now and to every follower to come."""
        self._push = {"push": "role", "role": role, "epoch": epoch, "last_active": epoch}
        self.poll()
        self.say(self._push)

    def say(self, push: dict[str, object]) -> None:
        """Push something."""
        if self._client is not None and push:
            with contextlib.suppress(OSError):
                self._client.send(json.dumps(push).encode())

    def close(self) -> None:
        """Go away, as heart does when it is restarted."""
        meanwhile.remove(self.poll)
        if self._client is not None:
            self._client.close()
        self._listener.close()
