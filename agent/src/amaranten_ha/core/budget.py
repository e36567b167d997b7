# SPDX-License-Identifier: GPL-3.0-or-later
"""How many frames heart takes from one link, so that a flood drowns neither the others nor heart.

A port enters once a turn. It is a token bucket: the burst is more than a receive buffer holds, so
that what piled up while heart was stopped is heard before anybody is judged; the rate is ten times
that of the fastest profile's beats. What comes beyond it is the kernel's to throw away.
"""

from __future__ import annotations

from amaranten_ha.core.timing import MS_NS

TURN_MAX = 256
"""Frames of one turn; after them the beat is looked after first."""
BURST = 2048
PER_MS = 2


class Budget:
    """The frames that one link may still cost."""

    def __init__(self) -> None:
        self._left = BURST
        self._at_ns = 0
        self.spent = False
        """More was there than could be afforded: do not even listen for it."""

    def grant(self, now_ns: int) -> int:
        """Return how many frames may be taken now."""
        earned = (now_ns - self._at_ns) * PER_MS // MS_NS
        if earned > 0:
            self._left = min(self._left + earned, BURST)
            self._at_ns = now_ns
        return min(self._left, TURN_MAX)

    def took(self, count: int, granted: int) -> None:
        """Note how many were there; less than granted means that there are no more."""
        self._left -= count
        self.spent = count == granted and self._left < TURN_MAX
