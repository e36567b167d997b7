# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes that forward at once, told from the frames on the wire.

Enter with ``at_once``. A frame of one node counts if the other delivered something shortly before
and shortly after it: then both forwarded. A role that changes hands, once or often, leaves no such
frame; a host that still sends to the deposed node, while others follow the new one, does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.lab.watch import Frame

NEAR_NS = 100_000_000


def at_once(frames: Iterable[Frame], deposed: str) -> list[int]:
    """When the deposed node delivered something between two deliveries of the other, in ns."""
    own: list[int] = []
    other: list[int] = []
    for frame in frames:
        (own if frame.node == deposed else other).append(frame.at_ns)
    other.sort()
    return [at_ns for at_ns in sorted(own) if _between(other, at_ns)]


def _between(times: Sequence[int], at_ns: int) -> bool:
    place = bisect_left(times, at_ns)
    if place in (0, len(times)):
        return False
    return at_ns - times[place - 1] <= NEAR_NS and times[place] - at_ns <= NEAR_NS


def lasted_ms(times: Sequence[int]) -> float:
    """For how long: the spans of what follows each other closely, together."""
    total = sum(later - earlier for earlier, later in pairwise(times) if later - earlier <= NEAR_NS)
    return round(total / 1e6, 1)
