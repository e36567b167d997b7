# SPDX-License-Identifier: GPL-3.0-or-later
"""The service's words to its supervisor: ready, alive, status, descriptors to keep.

A service enters with a line; without a supervisor (NOTIFY_SOCKET unset) nothing happens. It never
blocks and never fails the service: a lost notification is the supervisor's to notice.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket


class Unit:
    """The notification socket of systemd, opened once."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.path = path = os.environ.pop("NOTIFY_SOCKET", "")
        if path:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)

    def notify(self, *lines: str) -> None:
        """Send lines such as READY=1, WATCHDOG=1 or STATUS=text."""
        if self._socket:
            with contextlib.suppress(OSError):
                self._socket.send("\n".join(lines).encode())

    def keep(self, name: str, descriptor: int) -> None:
        """Have systemd hold a descriptor across a crash of this service (FDSTORE).

        FDPOLL=0: else systemd would close a netlink socket at its first error, an overrun.
        """
        if self._socket:
            with contextlib.suppress(OSError):
                self._socket.sendmsg(
                    [f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0".encode()],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))],
                )


def kept() -> dict[str, int]:
    """Return the descriptors that systemd held for us, by name (sd_listen_fds)."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    descriptors = {name: 3 + index for index, name in enumerate(names[:count])}
    for descriptor in descriptors.values():
        os.set_inheritable(descriptor, False)
    return descriptors
