# SPDX-License-Identifier: GPL-3.0-or-later
"""Alarms: what needs somebody's hand and moves no role, said when it begins and when it is over.

A cable in the wrong switch, a peer that forwards although it is not heard, a stranger's address,
two active nodes of which neither yields. The observer enters once a second, the engine with each
heartbeat of another interface. Nothing is decided here, and a cause that comes and goes is not
said again for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from amaranten_ha.core.beat import ACTIVE_ROLES
from amaranten_ha.core.plan import NodePlan
from amaranten_ha.core.pulse import Silence
from amaranten_ha.core.timing import ALARM_AGAIN_MS, ALARM_LASTS_MS, ALARM_OVER_MS, MS_NS

if TYPE_CHECKING:
    from amaranten_ha.core.node import Node

_ELSEWHERE = 0
"""Stands for every link number that the inventory does not have: one alarm for all of them."""


@dataclass(slots=True)
class _Alarm:
    text: str
    seen_ns: int
    raised: bool = False
    quiet_until_ns: int = 0


class Alarms:
    """What is wrong now, and what was said of it; by kind and by what it is about."""

    def __init__(self, plan: NodePlan) -> None:
        self._plan = plan
        self._links = {link.number: link.name for link in plan.links}
        self._known: dict[tuple[str, int, int], _Alarm] = {}

    def miswired(self, link: int, said: int, at_ns: int) -> None:
        """Take in that a heartbeat of the link `said` arrived on another one.

        It was sealed with our keys, and is not known to be fresh: crossed cables let none be. So
        a recording raises this alarm too.
        """
        known = said if said in self._links else _ELSEWHERE
        name = self._links.get(said, f"an interface that is not in the inventory ({said})")
        here, peer = self._links[link], self._plan.peer_name
        text = (
            f"a heartbeat of {peer} for {name} arrives here on {here}: a cable of one of the two"
            " nodes is in the wrong switch, or the two networks are joined"
        )
        self._see("wiring", link, known, text, at_ns)

    def look(self, node: Node, now_ns: int) -> list[tuple[str, str]]:
        """Return (kind, sentence) of each alarm that begins or is over."""
        peer = self._plan.peer_name
        if self._forwards_unheard(node, now_ns):
            text = (
                f"{peer} is not heard on any interface, and its kernel forwards: heartbeats are"
                f" being lost, and {self._plan.name} does not take over"
            )
            self._see("forwarding", 0, 0, text, now_ns)
        if conflict := node.conflicts.problem(now_ns):
            self._see("conflict", 0, 0, conflict, now_ns)
        if node.dual and now_ns - node.dual.met_ns >= ALARM_LASTS_MS * MS_NS:
            text = f"{self._plan.name} and {peer} are both active, and neither yields"
            self._see("dual-active", 0, 0, text, now_ns)
        return self._told(now_ns)

    def _forwards_unheard(self, node: Node, now_ns: int) -> bool:
        """A lease, or an announced restart, has ended by now if there is no heart behind it."""
        timing, pulse = node.timing, node.pulse
        longest_ms = max(timing.lease_ms, timing.restarting_ms) + timing.dead_ms
        return (
            node.role not in ACTIVE_ROLES
            and pulse.silence(now_ns) is Silence.FORWARDING
            and pulse.silent_ns(now_ns) >= longest_ms * MS_NS
        )

    def _see(self, kind: str, about: int, beside: int, text: str, at_ns: int) -> None:
        alarm = self._known.setdefault((kind, about, beside), _Alarm(text, at_ns))
        alarm.seen_ns = max(alarm.seen_ns, at_ns)
        if not alarm.raised:
            alarm.text = text

    def _told(self, now_ns: int) -> list[tuple[str, str]]:
        found = []
        for (kind, _about, _beside), alarm in self._known.items():
            present = now_ns - alarm.seen_ns <= ALARM_OVER_MS * MS_NS
            if present and not alarm.raised and now_ns >= alarm.quiet_until_ns:
                alarm.raised = True
                alarm.quiet_until_ns = now_ns + ALARM_AGAIN_MS * MS_NS
                found.append((kind, f"alarm: {alarm.text}"))
            elif alarm.raised and not present:
                alarm.raised = False
                found.append((kind, f"over: {alarm.text}"))
        return found
