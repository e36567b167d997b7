# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixed ring of what happened and why: the events that an operator asks for after a switch.

Heart writes; the control socket reads. Old events fall out; nothing grows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

EVENTS_MAX = 512


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, at a monotonic time, in a sentence."""

    at_ns: int
    kind: str
    text: str


class Trace:
    """The newest events, oldest first."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=EVENTS_MAX)

    def add(self, at_ns: int, kind: str, text: str) -> Event:
        """Remember an event and return it."""
        event = Event(at_ns, kind, text)
        self._events.append(event)
        return event

    def newest(self, count: int = EVENTS_MAX) -> list[Event]:
        """Return the newest events, oldest first."""
        return list(self._events)[-count:]
