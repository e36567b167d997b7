# SPDX-License-Identifier: GPL-3.0-or-later
"""Opt-in health: an interface without carrier here that has carrier there is a reason to hand over.

The engine enters once a turn with both bitmaps of carrier. Only interfaces of the plan with
`monitor` count; the loss must last for a debounce, and there are at most three such hand-overs in
ten minutes. Nothing here hands over: the role table does, if the peer would lose nothing.
"""

from __future__ import annotations

from collections import deque

from amaranten_ha.core.plan import NodePlan
from amaranten_ha.core.timing import HEALTH_HANDOVERS_MAX, HEALTH_WINDOW_MS, MS_NS


def bit(link: int) -> int:
    """Return the place of a link in a bitmap of carrier; a link beyond it has none."""
    return 1 << (link - 1) if link <= 32 else 0


class Monitor:
    """What is worse here than there, and since when."""

    def __init__(self, plan: NodePlan) -> None:
        self._watched = {link.number: link.name for link in plan.links if link.monitor}
        self._debounce_ns = plan.timing.monitor_ms * MS_NS
        self._since_ns: dict[int, int] = {}
        self._offers: deque[int] = deque(maxlen=HEALTH_HANDOVERS_MAX)

    def look(self, here: int, there: int, now_ns: int) -> None:
        """Take in which links have carrier here and there."""
        for link in self._watched:
            worse = bool(there & bit(link) & ~here)
            if worse:
                self._since_ns.setdefault(link, now_ns)
            else:
                self._since_ns.pop(link, None)

    def reason(self, now_ns: int) -> str:
        """Return why to hand over now; empty if there is no reason, or too many had one."""
        spent = len(self._offers) == HEALTH_HANDOVERS_MAX
        if spent and now_ns - self._offers[0] < HEALTH_WINDOW_MS * MS_NS:
            return ""
        lost = [
            self._watched[link]
            for link, since_ns in self._since_ns.items()
            if now_ns - since_ns >= self._debounce_ns
        ]
        return f"health: {', '.join(sorted(lost))} has no carrier here" if lost else ""

    def offered(self, now_ns: int) -> None:
        """Note that a hand-over was offered for health."""
        self._offers.append(now_ns)
