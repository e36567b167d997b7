# SPDX-License-Identifier: GPL-3.0-or-later
"""When to tell the network where the shared addresses are: at once, and again for a few seconds.

A single announcement can be lost, and a switch learns a port only from a frame that it sees.
"""

from __future__ import annotations

from amaranten_ha.core.timing import MS_NS

REPEATS_MS = (0, 40, 150, 500, 1500, 3000)


class Announcer:
    """The schedule of one burst; a new burst replaces the old one."""

    def __init__(self) -> None:
        self._due: list[int] = []

    def begin(self, now_ns: int) -> None:
        """Start a burst."""
        self._due = [now_ns + pause * MS_NS for pause in REPEATS_MS]

    def stop(self) -> None:
        """Say nothing more: the addresses are not ours any longer."""
        self._due = []

    def due(self, now_ns: int) -> bool:
        """Say whether to announce now, once however late it is."""
        waiting = [at for at in self._due if at > now_ns]
        is_due = len(waiting) < len(self._due)
        self._due = waiting
        return is_due

    def next_ns(self, never_ns: int) -> int:
        """Return when the next one is due."""
        return self._due[0] if self._due else never_ns
