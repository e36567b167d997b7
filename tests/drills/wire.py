# SPDX-License-Identifier: GPL-3.0-or-later
"""What the traffic of a drill went through, as the switch saw it: the report's judge.

Pure: frames with the kernel's times come in, milliseconds go out. The definitions are those of
docs/drill.md and the arithmetic is not the product's: a silence is the time between two answers
that followed one another, without what the sender itself was late; both nodes forwarded while each
delivered something between two deliveries of the other.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

from tests.bench.wire import at_once, lasted_ms
from tests.lab.watch import IPV4, IPV6, UDP, Frame, Way

LATE_NS = 5_000_000
CLIENT_PORT = "client-lan"


def udp_flow(frames: Iterable[Frame], version: int, port: int) -> tuple[list[int], list[int]]:
    """When requests to a port left the client's cable, and when answers from it arrived there."""
    wanted = IPV4 if version == 4 else IPV6
    asked, answered = [], []
    for frame in frames:
        if frame.port != CLIENT_PORT or frame.ethertype != wanted or frame.protocol != UDP:
            continue
        if frame.way is Way.IN and frame.target_port == port:
            asked.append(frame.at_ns)
        elif frame.way is Way.OUT and frame.source_port == port and frame.node:
            answered.append(frame.at_ns)
    return sorted(asked), sorted(answered)


def silence_ms(asked: Sequence[int], answered: Sequence[int], every_ns: int) -> float:
    """The longest time without an answer, without what the sender was late in it."""
    if not asked or not answered:
        return -1.0
    end = [asked[-1]] if asked[-1] > answered[-1] else []
    longest = 0
    for begin_ns, end_ns in pairwise([*answered, *end]):
        if end_ns - begin_ns > longest:
            longest = max(longest, end_ns - begin_ns - late_ns(asked, begin_ns, end_ns, every_ns))
    return round(longest / 1e6, 1)


def late_ns(asked: Sequence[int], begin_ns: int, end_ns: int, every_ns: int) -> int:
    """For how long of a span the next request was overdue."""
    near = asked[max(bisect_left(asked, begin_ns) - 1, 0) : bisect_right(asked, end_ns) + 1]
    return sum(
        max(0, min(later, end_ns) - max(earlier + every_ns, begin_ns))
        for earlier, later in pairwise(near)
        if later - earlier > max(LATE_NS, 2 * every_ns)
    )


def within(times: Sequence[int], begin_ns: int, end_ns: int) -> list[int]:
    """The times of a window, in order."""
    return [at_ns for at_ns in sorted(times) if begin_ns <= at_ns <= end_ns]


def dual_active_ms(delivered: Sequence[Frame], nodes: tuple[str, str]) -> float:
    """For how long both nodes forwarded: the shorter of what each did between the other's."""
    return min(lasted_ms(at_once(delivered, node)) for node in nodes)
