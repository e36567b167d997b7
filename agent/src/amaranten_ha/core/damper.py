# SPDX-License-Identifier: GPL-3.0-or-later
"""Flap damping: the third unplanned change within ten minutes makes both nodes slower for ten.

The engine enters with each unplanned change of its own and with those that the peer tells of. A
change is known by the epoch that was claimed for it, so both nodes count the same ones, and a node
that reboots learns them again. Nothing here changes a role.
"""

from __future__ import annotations

from amaranten_ha.core.timing import DAMPING_CHANGES, DAMPING_MS, MS_NS

CHANGES_TOLD_MAX = 8
_WINDOW_NS = DAMPING_MS * MS_NS


class Damper:
    """The unplanned changes that are young enough to matter, by epoch."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._changes: dict[int, int] = {}

    def add(self, epoch: int, at_ns: int) -> None:
        """Note an unplanned change; one that is known already is not counted twice."""
        self._changes.setdefault(epoch, at_ns)

    def hear(self, changes: tuple[tuple[int, int], ...], now_ns: int) -> None:
        """Take in (epoch, age in seconds) of the changes that the peer knows of."""
        for epoch, age_s in changes:
            self.add(epoch, now_ns - age_s * 1000 * MS_NS)

    def told(self, now_ns: int) -> tuple[tuple[int, int], ...]:
        """Return (epoch, age in seconds) of what this node knows of, newest last."""
        if not self._changes:
            return ()
        self._forget(now_ns)
        found = sorted(self._changes.items(), key=lambda item: item[1])[-CHANGES_TOLD_MAX:]
        # What was heard since the last decision is later than it, and a farewell waits for none.
        return tuple((epoch, max(0, now_ns - at_ns) // (1000 * MS_NS)) for epoch, at_ns in found)

    def damped(self, now_ns: int) -> bool:
        """Say whether the durations are to be the long ones now."""
        if not self._enabled or len(self._changes) < DAMPING_CHANGES:
            return False
        self._forget(now_ns)
        times = sorted(self._changes.values())
        first = DAMPING_CHANGES - 1
        return any(
            times[index] - times[index - first] < _WINDOW_NS > now_ns - times[index]
            for index in range(first, len(times))
        )

    def _forget(self, now_ns: int) -> None:
        """A change that is older than two windows can damp nothing any more."""
        old = [epoch for epoch, at_ns in self._changes.items() if now_ns - at_ns > 2 * _WINDOW_NS]
        for epoch in old:
            del self._changes[epoch]
