# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when a node hears the other and speaks to it, both without a silence of `dead`.

The judge enters with what truly was said and received. Times are of the node's own clock: a
machine that was paused with its clock cannot know of that silence. Nothing is judged here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Span:
    """Something that goes on as long as its signs come often enough."""

    since_ns: int = 0
    last_ns: int = 0

    def sign(self, at_ns: int, silence_ns: int) -> None:
        """Note a sign of it; one after a silence begins it anew."""
        if at_ns - self.last_ns >= silence_ns:
            self.since_ns = at_ns
        self.last_ns = at_ns


class Contact:
    """What a node can know of how long the other has had to hear it."""

    def __init__(self) -> None:
        self.hears = Span()
        """By receive times of its kernel: what waits for a stopped heart is no silence."""
        self.speaks = Span()
        """By what has left: a stopped heart says nothing, so there is nothing to be heard."""

    def lasts_ns(self, now_ns: int, silence_ns: int) -> int:
        """For how long both have gone on; 0 if one of them does not now."""
        spans = self.hears, self.speaks
        if any(now_ns - span.last_ns >= silence_ns for span in spans):
            return 0
        return now_ns - max(span.since_ns for span in spans)
