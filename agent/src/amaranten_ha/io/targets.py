# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows the role: the systemd target of a role is started, and never waited for.

Heart enters after a change of its role, and once a turn for what has ended meanwhile. The target of
the other role is stopped by systemd, because the two conflict. A heart that no systemd started has
no targets.
"""

from __future__ import annotations

import contextlib
import os
import select

_SYSTEMCTL = "/usr/bin/systemctl"


class Targets:
    """The newest target and how its start went."""

    def __init__(self, epoll: select.epoll, supervised: bool) -> None:
        self._epoll = epoll
        self._supervised = supervised
        self._children: dict[int, int] = {}
        """Descriptor of a process to its number; the newest is last."""
        self._newest = 0
        self.name = ""
        self.result = "none started yet"

    def start(self, role: str) -> None:
        """Have systemd start the target of a role."""
        if not self._supervised:
            return
        self.name = f"amaranten-ha-{role}.target"
        self.result = "starting"
        try:
            child = os.posix_spawn(
                _SYSTEMCTL, [_SYSTEMCTL, "start", self.name], {"PATH": "/usr/sbin:/usr/bin"}
            )
            descriptor = os.pidfd_open(child)
        except OSError as error:
            self.result = f"failed: {error.strerror}"
            return
        self._children[descriptor], self._newest = child, child
        self._epoll.register(descriptor, select.EPOLLIN)

    def reap(self) -> str:
        """Take in who has ended; return a failure of the newest in words, else nothing."""
        failure = ""
        for descriptor, child in list(self._children.items()):
            ended, status = child, 0
            with contextlib.suppress(ChildProcessError):
                ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            del self._children[descriptor]
            self._epoll.unregister(descriptor)
            os.close(descriptor)
            if child == self._newest:
                code = os.waitstatus_to_exitcode(status)
                self.result = "started" if code == 0 else f"failed: systemctl ended with {code}"
                failure = "" if code == 0 else f"{self.name} {self.result}"
        return failure
