# SPDX-License-Identifier: GPL-3.0-or-later
"""Every duration of the product, in one frozen table, and the inequalities between them.

The figures are those of the profile table in the design: beat, dead and lease are chosen together
so that a stalled agent's own kernel fences it before the peer starts, while a lost machine is
noticed faster than its lease would end. No other module may hold a duration of its own that
concerns liveness, roles or the lease.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from amaranten_ha.core.errors import ConfigurationError

MS_NS = 1_000_000
SILENT_BEATS = 2
PROBES_PER_LINK_MIN = 4
PROBES_MIN = 8
FENCED_PROBES = 3
FENCED_ROUNDS, FENCED_ROUNDS_DOUBTED = 2, 4
"""More where the network has been seen to lose answers in this silence."""
DAMPING_FACTOR = 4
DAMPING_CHANGES = 3
DAMPING_MS = 600_000
"""The third unplanned change within this time makes dead and lease longer for as long."""
HEALTH_HANDOVERS_MAX = 3
HEALTH_WINDOW_MS = 600_000
HELD_S_MAX = 30 * 86_400
"""Maintenance ends by itself within a month: a flag that nobody remembers is a spare less."""
PROBING_MS = 4
"""What nine probes and their answers need between silence noticed and dead."""
JIFFY_MS = 4
"""One tick of the slowest common kernel (HZ=250); Debian's kernels are built with it."""
OFFER_MIN_MS = 300
"""An offer waits for its barrier, and a busy stream gathers for 100 ms on its way to each end."""
FLOOR_FACTOR = 3
"""`dead` is at least so many times the worst answer to a probe, the lease the worst lateness."""
CLOCKS_MS_MAX = 1_000
"""Events of two nodes whose clocks differ by more cannot be put into one order."""
ALARM_LASTS_MS = 1_000
"""Two active nodes that meet are sorted out within a beat, or when one proves to be deaf."""
ALARM_OVER_MS = 10_000
"""An alarm is over when its cause was not seen for so long."""
ALARM_AGAIN_MS = 600_000
"""The same alarm is said once within this time: a cable that flaps fills no journal."""
MARGIN_HOUR_MS, MARGIN_HOURS = 3_600_000, 24
"""Worst values are kept for a day, in hours."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of one profile, in milliseconds."""

    beat_ms: int
    dead_ms: int
    lease_ms: int
    settle_ms: int = 0
    isolated_ms: int = 15_000
    isolated_alone_ms: int = 60_000
    """Isolated start when no third party answers either."""
    alone_ms: int = 1_000
    """How much longer a take-over waits when no third party answers."""
    linger_ms: int = 100
    restarting_ms: int = 3_000
    lag_in_sync_ms: int = 1_000
    stop_ms: int = 5_000
    """How long the stop of the service waits for its hand-over."""
    defend_ms: int = 1_000
    gate_check_ms: int = 100
    forwarding_check_ms: int = 1_000
    nat_ms: int = 5_000
    """For how long a nat chain must be missing: a ruleset may be flushed, then loaded."""
    ask_ms: int = 500
    """Pause between two questions to a third party in quiet times."""
    raise_ms: int = 1_000
    """For how long third parties must have answered before a claim that met nobody has standing."""
    conflict_ask_ms: int = 1_000
    """Pause between two questions whether a stranger answers for a shared address."""
    conflict_ms: int = 3_000
    """How long an active node defends its addresses before a conflict is a reason to hand over."""
    conflict_over_ms: int = 10_000
    monitor_ms: int = 1_000
    """For how long carrier must be lost here and present there."""
    damped: bool = False

    def __post_init__(self) -> None:
        if not self.settle_ms:
            object.__setattr__(self, "settle_ms", self.lease_kernel_ms + self.beat_ms)
        rules = (
            (self.beat_ms > 0, "beat > 0"),
            (self.dead_ms >= self.silent_ms + PROBING_MS, "dead >= 2 beats + 4 ms"),
            (self.lease_ms > 2 * self.beat_ms, "lease > 2 beats"),
            (self.settle_ms >= self.lease_kernel_ms, "settle >= lease"),
            (self.lease_ms >= self.dead_ms, "lease >= dead"),
            (self.damped or self.restarting_ms >= self.lease_ms, "restarting >= lease"),
            (self.ask_ms < 2 * self.alone_ms, "ask < 2 alone, or an answer is old too soon"),
            (self.raise_ms >= 2 * self.ask_ms, "raise >= 2 ask"),
            (self.conflict_ms >= 2 * self.conflict_ask_ms, "conflict >= 2 conflict asks"),
            (self.conflict_over_ms > self.conflict_ms, "conflict over > conflict"),
        )
        for holds, text in rules:
            if not holds:
                given = f"beat {self.beat_ms}, dead {self.dead_ms}, lease {self.lease_ms} ms"
                raise ConfigurationError(f"timers are {given}: expected {text}")

    def lengthened(self) -> Timing:
        """Return the durations of flap damping: the same beats, `dead` and lease four times."""
        return replace(
            self,
            dead_ms=self.dead_ms * DAMPING_FACTOR,
            lease_ms=self.lease_ms * DAMPING_FACTOR,
            settle_ms=0,
            damped=True,
        )

    @property
    def lease_kernel_ms(self) -> int:
        """The lease as the kernel keeps it: a multiple of 20 ms, plus one jiffy."""
        return lease_kernel_ms(self.lease_ms)

    @property
    def silent_ms(self) -> int:
        """After so long a silence is noticed, and the peer is probed."""
        return SILENT_BEATS * self.beat_ms

    @property
    def probing_ms(self) -> int:
        """From silence noticed to dead: so long everybody is asked before a peer is lost."""
        return self.dead_ms - self.silent_ms

    @property
    def fresh_ms(self) -> int:
        """How old an answer may be that says whom we reach: asked for since, and taken in late."""
        return max(self.probing_ms, self.dead_ms // 2)

    @property
    def probe_us(self) -> int:
        """Interval of probes in microseconds: nine fit between silence noticed and dead."""
        return self.probing_ms * 1000 // (PROBES_MIN + 1)

    @property
    def offer_ms(self) -> int:
        """An offer that was not taken for ten beats, nor for the minimum, is withdrawn."""
        return max(10 * self.beat_ms, OFFER_MIN_MS)

    @property
    def grace_ms(self) -> int:
        """After a late wake-up nobody is accused for three beats."""
        return 3 * self.beat_ms

    @property
    def near_miss_us(self) -> int:
        """A silence beyond half the way from one beat to `dead` was a near miss."""
        return (self.beat_ms + self.dead_ms) * 500

    @property
    def one_way_ms(self) -> int:
        """A peer that does not hear us for ten dead times is deaf."""
        return 10 * self.dead_ms


def lease_kernel_ms(duration_ms: int) -> int:
    """Round up to a multiple of 20 ms, plus one jiffy: expiry is compared in jiffies."""
    return -(-duration_ms // 20) * 20 + JIFFY_MS


OWN_TIMERS = "timers"
"""Said in the place of a profile's name where the operator gives the durations."""

PROFILES = {
    "metal": Timing(beat_ms=5, dead_ms=14, lease_ms=60),
    "fast": Timing(beat_ms=20, dead_ms=50, lease_ms=120),
    "virtual": Timing(beat_ms=40, dead_ms=250, lease_ms=320),
    "relaxed": Timing(beat_ms=200, dead_ms=1000, lease_ms=1400),
}
