# SPDX-License-Identifier: GPL-3.0-or-later
"""The control socket: one JSON object per packet, from the operator's tool and from sync.

Heart enters once a turn. Nothing here blocks: a client that does not read is dropped, and a packet
that is not a JSON object is answered with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from amaranten_ha.core.errors import KernelRefused

PACKET_BYTES_MAX = 1 << 20
CLIENTS_MAX = 32


class Client:
    """One connection to the desk."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.follows = False
        self.open = True

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._channel.fileno()

    def say(self, answer: dict[str, Any]) -> None:
        """Send one object; a client that cannot take it is closed."""
        try:
            self._channel.send(json.dumps(answer).encode())
        except OSError:
            self.close()

    def hear(self) -> dict[str, Any] | None:
        """Return the next request; None if there is none now or the client is gone."""
        try:
            data = self._channel.recv(PACKET_BYTES_MAX)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.close()
            return None
        with contextlib.suppress(ValueError, RecursionError):
            request = json.loads(data)
            # Half of a surrogate pair is a text that cannot be written to any log.
            json.dumps(request, ensure_ascii=False).encode()
            if isinstance(request, dict):
                return request
        self.say({"ok": False, "reasons": ["the request is not a JSON object"]})
        return None

    def close(self) -> None:
        """End the connection."""
        if self.open:
            self.open = False
            self._channel.close()


class Desk:
    """The listening socket."""

    def __init__(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            self._socket.bind(str(path))
            os.chmod(path, 0o600)
            self._socket.listen(16)
        except OSError as error:
            raise KernelRefused(f"{path}: control socket: {error.strerror}") from None

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._socket.fileno()

    def accept(self, clients: int) -> Client | None:
        """Return a new client, or None; one too many is turned away."""
        try:
            channel, _address = self._socket.accept()
        except OSError:
            return None
        channel.setblocking(False)
        if clients >= CLIENTS_MAX:
            channel.close()
            return None
        return Client(channel)


def ask(
    path: Path, request: dict[str, Any], timeout_s: float, who: str = "heart"
) -> dict[str, Any]:
    """Send one request as the operator's tool does, and return the answer; raises KernelRefused."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as channel:
        channel.settimeout(timeout_s)
        try:
            channel.connect(str(path))
            channel.send(json.dumps(request).encode())
            answer = json.loads(channel.recv(PACKET_BYTES_MAX))
        except TimeoutError:
            raise KernelRefused(f"{who} gave no answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or error
            raise KernelRefused(f"{who} cannot be asked ({path}: {text}): is it running?") from None
    if not isinstance(answer, dict):
        raise KernelRefused(f"{who}'s answer is not a JSON object")
    return answer
