# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an active node that was silent for longer than its lease may go on as before.

The engine enters with each turn and before each heartbeat. The kernel has fenced such a node, and
the peer may have followed it: until it has listened its beats say UNSURE, which opens no gate.
Nothing is decided here about roles.
"""

from __future__ import annotations

from amaranten_ha.core.beat import Flag
from amaranten_ha.core.pulse import Pulse
from amaranten_ha.core.timing import MS_NS


class Unsure:
    """Since when the node listens, and the first beat whose echo ends that."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._sequence: int | None = None
        """Of the first heartbeat whose echo ends it; None while the node is sure."""
        self._until_ns = self._longest_ns = 0

    def woke(self, silent_ns: int, late_ns: int, sequence: int, now_ns: int) -> None:
        """Take in how long ago the last heartbeat left, and how late this turn is.

        `sequence` is that of the next heartbeat. Who is unsure begins anew to listen after a
        silence in which it may have been followed. Else it listens longer by what it was late, for
        half of `dead` at most: a machine that stood still may have lost what was said to it, and
        who is late at every turn must go on, too.
        """
        timing = self._pulse.timing
        fenced = silent_ns > timing.lease_ms * MS_NS
        if fenced or (self._sequence is not None and self._may_be_followed(silent_ns, now_ns)):
            self._sequence = sequence
            self._until_ns = now_ns + timing.dead_ms * MS_NS
            self._longest_ns = self._until_ns + timing.dead_ms * MS_NS // 2
        else:
            self._until_ns = min(self._until_ns + max(late_ns, 0), self._longest_ns)

    def _may_be_followed(self, silent_ns: int, now_ns: int) -> bool:
        """If nobody can follow, no silence is a reason to wait: the gate would stay closed."""
        pulse, timing = self._pulse, self._pulse.timing
        verdict_ns = timing.silent_ms * MS_NS + 2 * timing.probe_us * 1000
        lately = pulse.silent_ns(now_ns) < timing.one_way_ms * MS_NS
        able = pulse.beat is not None and Flag.ELIGIBLE in pulse.beat.flags
        return silent_ns > verdict_ns and lately and able

    def lasts(self, now_ns: int) -> bool:
        """Say whether the peer has neither echoed nor had the time to say that it followed."""
        if self._sequence is None:
            return False
        return now_ns < self._until_ns and self._pulse.echo_sequence < self._sequence

    def end(self) -> None:
        """The node goes on, or is not active any more."""
        self._sequence = None
