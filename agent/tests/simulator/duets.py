# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that belong together: what a draw of independent ones would hit once in ten thousand.

`draw` enters with its random numbers. Each duet is two or three faults close to each other, such as
a giver that stops between its offer and the answer; when and how long is still drawn. A duet is
added when a mutant lives for too long, never to step around a failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from amaranten_ha.core.timing import Timing
from simulator.plan import Fault

Duet = Callable[[random.Random, Timing, int], list[Fault]]


def _deaf_then_starved(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """Nothing was heard for a while, and then the machine did not run: was it me?"""
    outage_ms = draw.randint(timing.dead_ms // 2, timing.dead_ms)
    starts_ms = outage_ms - draw.randint(1, timing.beat_ms // 2 + 1)
    away_ms = draw.randint(timing.dead_ms // 2, timing.dead_ms + timing.beat_ms)
    return [
        Fault(0, "partition", for_ms=outage_ms),
        Fault(starts_ms, "starve", node, for_ms=away_ms),
    ]


def _starved_for_a_lease(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """Away for longer than the lease, and nothing waits at the port."""
    lease_ms = timing.lease_kernel_ms
    away_ms = draw.randint(lease_ms, 2 * lease_ms)
    return [Fault(0, "starve", node, for_ms=away_ms), Fault(0, "gateways", node, for_ms=away_ms)]


def _giver_stalls(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """Between its offer and the answer."""
    at_ms = draw.randint(timing.beat_ms // 2, 3 * timing.beat_ms)
    lease_ms = timing.lease_kernel_ms
    away_ms = lease_ms + draw.randint(-timing.beat_ms, 2 * timing.beat_ms)
    return [Fault(0, "switchover"), Fault(at_ms, "stall", node, for_ms=away_ms)]


def _spare_has_no_service(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """A gate that hears nothing any more, while the other could not take over, and then can."""
    back_ms = draw.randint(2, timing.lease_kernel_ms)
    return [
        Fault(0, "carrier", 3 - node, (1, 3), for_ms=timing.beat_ms + back_ms),
        Fault(timing.beat_ms, "gate", node, for_ms=2 * timing.settle_ms, amount=1),
    ]


def _cut_restart(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """An announced restart, and a partition meanwhile."""
    back_ms = draw.choice((2 * timing.dead_ms, 2900, 3100, 3300))
    cut_ms = draw.randint(timing.dead_ms, back_ms)
    return [
        Fault(0, "restart", node, amount=back_ms),
        Fault(draw.randint(0, timing.beat_ms), "partition", for_ms=cut_ms),
    ]


def _cut_off(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """The switch of a node loses its uplink, for longer than a node without third parties waits."""
    return [Fault(0, "uplink", node, for_ms=timing.dead_ms + draw.randint(900, 1500))]


def _one_way_for_long(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """A partition, of which one direction heals much later."""
    cut_ms = timing.dead_ms + draw.randint(0, 4 * timing.beat_ms)
    return [
        Fault(0, "partition", for_ms=cut_ms),
        Fault(0, "one-way", node, for_ms=cut_ms + timing.one_way_ms + 6 * timing.dead_ms),
    ]


def _partition_for_long(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """Neither hears the other for longer than a deaf peer is borne, and their beats are apart."""
    starts_ms = 2 * timing.dead_ms + draw.randint(0, 4 * timing.beat_ms)
    lasts_ms = timing.one_way_ms + draw.randint(-timing.beat_ms, 3 * timing.beat_ms)
    return [
        Fault(0, "restart", node, amount=timing.beat_ms + draw.randint(0, timing.beat_ms)),
        Fault(starts_ms, "partition", for_ms=lasts_ms),
    ]


def _offer_dies(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """The taker stalls until the offer is void."""
    away_ms = timing.offer_ms + draw.randint(-timing.beat_ms, 3 * timing.beat_ms)
    return [
        Fault(0, "switchover"),
        Fault(draw.randint(0, 2 * timing.beat_ms), "stall", node, for_ms=away_ms),
    ]


def _slow_replica(draw: random.Random, timing: Timing, _node: int) -> list[Fault]:
    """A hand-over whose barrier comes late, or never, because the stream breaks before it."""
    lag_ms = draw.randint(2 * timing.beat_ms, timing.offer_ms + timing.beat_ms)
    breaks_ms = timing.beat_ms + lag_ms - draw.randint(1, timing.beat_ms)
    faults = [
        Fault(0, "lag", for_ms=4 * timing.offer_ms, amount=lag_ms),
        Fault(timing.beat_ms, "switchover"),
    ]
    if draw.random() < 0.6:
        faults.append(Fault(breaks_ms, "sync", 1, for_ms=2 * timing.beat_ms))
    return faults


def _unfit_when_needed(draw: random.Random, timing: Timing, node: int) -> list[Fault]:
    """The active dies while the other is held, or has no service link."""
    lasts_ms = 4 * timing.settle_ms
    unfit = draw.choice(
        (
            Fault(0, "hold", 3 - node, for_ms=lasts_ms),
            Fault(0, "carrier", 3 - node, (1, 3), for_ms=lasts_ms),
        )
    )
    return [unfit, Fault(draw.randint(0, timing.beat_ms), "crash", node, for_ms=lasts_ms)]


DUETS: tuple[Duet, ...] = (
    _deaf_then_starved,
    _starved_for_a_lease,
    _giver_stalls,
    _spare_has_no_service,
    _cut_restart,
    _cut_off,
    _one_way_for_long,
    _partition_for_long,
    _offer_dies,
    _slow_replica,
    _unfit_when_needed,
)
