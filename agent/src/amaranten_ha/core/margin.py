# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the heartbeats are from a false alarm: per link and direction, and for the pair.

The engine enters with each beat that it believed, each turn's lateness and each answer to a slow
probe; an operator reads the result, and the peer gets it back in the beats, so that both nodes know
both directions. Nothing here is asked before a role is decided: a margin advises, it never judges.

Worst values are those of the last day, in hours, so that one bad moment is forgotten at last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from amaranten_ha.core.beat import UINT32_MAX, Beat, Floors, LinkMargin
from amaranten_ha.core.timing import (
    FLOOR_FACTOR,
    MARGIN_HOUR_MS,
    MARGIN_HOURS,
    MS_NS,
    PROFILES,
    Timing,
)

_JITTER_SHARE = 16
"""Gain of the jitter's mean, as in RFC 3550, section 6.4.1."""
US_NS = 1000


class Worst:
    """The highest value of the last day, kept as one maximum for each hour."""

    def __init__(self) -> None:
        self._hours: deque[tuple[int, int]] = deque(maxlen=MARGIN_HOURS)
        self.value = 0
        """As of the newest note; an hour is forgotten when a later one begins."""

    def note(self, value: int, now_ns: int) -> None:
        """Take in a value."""
        hour = now_ns // (MARGIN_HOUR_MS * MS_NS)
        if self._hours and self._hours[-1][0] >= hour:
            if value <= self._hours[-1][1]:
                return
            self._hours[-1] = (self._hours[-1][0], value)
        else:
            self._hours.append((hour, value))
        oldest = hour - MARGIN_HOURS
        self.value = max(highest for when, highest in self._hours if when > oldest)


class Arrivals:
    """The beats of one peer on one link, or on any link: how evenly they come."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._session = 0
        self._sequence = 0
        self._at_ns = 0
        self._jitter_us = 0
        self.beats = 0
        self.lost = 0
        self.near_misses = 0
        """Silences beyond half the way from a beat to `dead` that ended before it."""
        self.outages = 0
        """Silences of `dead` and longer."""
        self.silence = Worst()
        """The longest silence short of `dead`, in nanoseconds."""

    def heard(self, session: int, sequence: int, at_ns: int) -> None:
        """Take in a beat; one of a new session begins anew, a late one only counts."""
        self.beats += 1
        if session != self._session:
            self._session, self._sequence, self._at_ns = session, sequence, at_ns
            return
        if sequence <= self._sequence:
            self.lost = max(0, self.lost - 1) if sequence < self._sequence else self.lost
            return
        self.lost += sequence - self._sequence - 1
        self._gap(at_ns - self._at_ns, sequence - self._sequence, at_ns)
        self._sequence, self._at_ns = sequence, at_ns

    def _gap(self, gap_ns: int, beats: int, at_ns: int) -> None:
        timing = self._timing
        if gap_ns >= timing.dead_ms * MS_NS:
            self.outages += 1
            return
        self.near_misses += gap_ns >= timing.near_miss_us * US_NS
        self.silence.note(max(gap_ns, 0), at_ns)
        uneven_us = abs(gap_ns - beats * timing.beat_ms * MS_NS) // US_NS
        # The sum, and not the mean, is kept: integers would never come down to 0.
        self._jitter_us += uneven_us - self._jitter_us // _JITTER_SHARE

    def margin(self) -> LinkMargin:
        """Return the figures, as they go into a beat."""
        return LinkMargin(
            beats=min(self.beats, UINT32_MAX),
            lost=min(self.lost, UINT32_MAX),
            near_misses=min(self.near_misses, UINT32_MAX),
            outages=min(self.outages, UINT32_MAX),
            jitter_us=min(self._jitter_us // _JITTER_SHARE, UINT32_MAX),
            silence_us=min(self.silence.value // US_NS, UINT32_MAX),
        )


class Margins:
    """What one node has measured of its links, of itself, and of the peer's kernel."""

    def __init__(self, timing: Timing, links: Iterable[int], now_ns: int) -> None:
        self._timing = timing
        self._since_ns = self._now_ns = now_ns
        self.links = {number: Arrivals(timing) for number in links}
        self.peer = Arrivals(timing)
        """The first copy of each beat, on whichever link it came."""
        self.out: dict[int, LinkMargin] = {}
        """What the peer says of our beats, by link."""
        self.peer_floors = Floors()
        self._late = Worst()
        self._answer = Worst()
        self._asked_ns: dict[int, int] = {}

    def heard(self, link: int, beat: Beat, at_ns: int) -> None:
        """Take in a beat that was believed, and what it says of ours on this link."""
        self.links[link].heard(beat.session, beat.sequence, at_ns)
        self.peer.heard(beat.session, beat.sequence, at_ns)
        if beat.margin is not None:
            self.out[link] = beat.margin
        if beat.floors is not None:
            self.peer_floors = beat.floors

    def woke(self, late_ns: int, now_ns: int) -> None:
        """Take in how late a turn was."""
        self._now_ns = now_ns
        self._late.note(max(late_ns, 0), now_ns)

    def asked(self, link: int, now_ns: int) -> None:
        """Note that the peer's kernel is asked for its own address, to see how long it takes."""
        self._asked_ns[link] = now_ns

    def answered(self, link: int, at_ns: int) -> None:
        """Take in the answer; one that nobody waits for says nothing."""
        asked_ns = self._asked_ns.pop(link, None)
        if asked_ns is not None:
            self._answer.note(max(at_ns - asked_ns, 1), at_ns)

    def floors(self) -> Floors:
        """Return what this node has measured, as it goes into a beat."""
        measured_s = (self._now_ns - self._since_ns) // (1000 * MS_NS)
        return Floors(
            late_us=min(self._late.value // US_NS, UINT32_MAX),
            answer_us=min(-(-self._answer.value // US_NS), UINT32_MAX),
            silence_us=min(self.peer.silence.value // US_NS, UINT32_MAX),
            measured_s=min(measured_s, UINT32_MAX),
        )

    def limits(self) -> Limits:
        """Return the limits that both nodes' measurements put on the timers."""
        own, peer = self.floors(), self.peer_floors
        silence_us = max(own.silence_us, peer.silence_us)
        return Limits(
            dead_us=FLOOR_FACTOR * max(own.answer_us, peer.answer_us),
            lease_us=FLOOR_FACTOR * max(own.late_us, peer.late_us),
            excess_us=max(0, silence_us - self._timing.beat_ms * 1000),
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The safe detection floors, in microseconds; a zero was not measured, and allows all."""

    dead_us: int = 0
    """Three times the longest time that a living kernel took to answer a probe."""
    lease_us: int = 0
    """Three times the worst lateness of either heart."""
    excess_us: int = 0
    """By how much a beat came late on all links at once, at worst."""

    def problems(self, timing: Timing) -> tuple[str, ...]:
        """Return in words why these timers are too short for what was measured."""
        found = []
        if timing.dead_ms * 1000 < self.dead_us:
            found.append(
                f"dead is {timing.dead_ms} ms: expected at least {_ms(self.dead_us)} ms,"
                f" {FLOOR_FACTOR} times the worst answer to a probe"
            )
        if timing.lease_ms * 1000 < self.lease_us:
            found.append(
                f"lease is {timing.lease_ms} ms: expected at least {_ms(self.lease_us)} ms,"
                f" {FLOOR_FACTOR} times the worst lateness of heart"
            )
        late_us = timing.beat_ms * 1000 + self.excess_us
        if timing.dead_ms * 1000 <= late_us:
            found.append(
                f"dead is {timing.dead_ms} ms: expected more than {_ms(late_us)} ms, one beat and"
                " the worst delay of heartbeats on all links at once"
            )
        return tuple(found)

    def advice(self, name: str, timing: Timing) -> str:
        """Return what an operator should know about the timers, in a sentence or two."""
        fitting = [each for each, row in PROFILES.items() if not self.problems(row)]
        fastest = f"the fastest profile that fits is {fitting[0]}" if fitting else "no profile fits"
        if problems := self.problems(timing):
            return f"{name} is too fast here: {'; '.join(problems)}; {fastest}"
        faster = [each for each in fitting if PROFILES[each].dead_ms < timing.dead_ms]
        return f"{name} fits; {fastest}" if faster else f"{name} fits"


def _ms(duration_us: int) -> str:
    return f"{-(-duration_us // 100) / 10:g}"
