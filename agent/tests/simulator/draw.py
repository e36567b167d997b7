# SPDX-License-Identifier: GPL-3.0-or-later
"""From a seed to a schedule: each seed draws its own mix of faults, then the faults themselves.

A campaign enters with numbers. A mix of few kinds finds what a mix of all would bury, so most seeds
use two to four words; a third of them adds faults that belong together (`duets`). Instants are
drawn close to the edges that the durations make (a beat, dead, lease, settle), because that is
where one turn more or less changes what happens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from amaranten_ha.core.timing import PROFILES, Timing
from simulator.duets import DUETS
from simulator.plan import Fault, Plan

_PROFILES = ("virtual",) * 6 + ("fast",) * 3 + ("metal", "relaxed")
_WINDOW_BEATS = 30
"""The faults begin within this many beats."""

Draw = Callable[[random.Random, Timing], dict[str, int]]


def _duration(draw: random.Random, timing: Timing) -> int:
    """Something around an edge, or short, or long."""
    edges = (
        timing.beat_ms, 2 * timing.beat_ms, timing.dead_ms, timing.lease_kernel_ms,
        timing.settle_ms, timing.grace_ms, timing.offer_ms, timing.one_way_ms,
    )  # fmt: skip
    edge = draw.choice(edges[:-1] if draw.random() < 0.85 else edges)
    return max(1, edge + draw.randint(-timing.beat_ms, timing.beat_ms))


def _plain(draw: random.Random, timing: Timing) -> dict[str, int]:
    return {"for_ms": _duration(draw, timing)}


def _amount(*amounts: int) -> Draw:
    def drawn(draw: random.Random, timing: Timing) -> dict[str, int]:
        return {"for_ms": 2 * _duration(draw, timing), "amount": draw.choice(amounts)}

    return drawn


def _kill(draw: random.Random, timing: Timing) -> dict[str, int]:
    return {"amount": draw.choice((30, 60, 150, 400, _duration(draw, timing)))}


def _again(draw: random.Random, timing: Timing) -> dict[str, int]:
    """How long an announced restart takes: now and then longer than the gate stays open for it."""
    return {"amount": draw.choice((60, 300, 300, _duration(draw, timing), 2900, 3100))}


def _still(draw: random.Random, timing: Timing) -> dict[str, int]:
    return {"for_ms": _duration(draw, timing), "amount": draw.randint(0, 1)}


def _force(draw: random.Random, _timing: Timing) -> dict[str, int]:
    return {"amount": int(draw.random() < 0.1)}


NODE_WORDS: dict[str, Draw] = {
    "one-way": _plain,
    "beats": _plain,
    "silent": _plain,
    "uplink": _plain,
    "carrier": _plain,
    "stall": _plain,
    "pause": _still,
    "starve": _still,
    "kill": _kill,
    "crash": _plain,
    "stop": _plain,
    "gate": _still,
    "sync": _plain,
    "hold": _still,
    "restart": _again,
    "forge": _plain,
    "replay": _plain,
}
WIRE_WORDS: dict[str, Draw] = {
    "partition": _plain,
    "gateways": _plain,
    "loss": _amount(5, 15, 30),
    "double": _amount(10, 50),
    "jitter": _amount(500, 3000, 9000),
    "switchover": _force,
    "lag": _amount(20, 200, 900, 3000),
}
DRAWS = NODE_WORDS | WIRE_WORDS
_BUSY_SHARE = 0.15
"""Drawn last, so that the other seeds stay as they were before there was such a fault."""
_PER_LINK = ("one-way", "beats", "silent", "carrier", "partition", "loss", "double", "jitter")


def draw_fault(draw: random.Random, what: str, timing: Timing, links: int) -> Fault:
    """Draw one fault of a kind."""
    chosen: tuple[int, ...] = ()
    if what in _PER_LINK and draw.random() < 0.35:
        count = draw.randint(1, links - 1)
        chosen = tuple(sorted(draw.sample(range(1, links + 1), count)))
    node = draw.randint(1, 2) if what in NODE_WORDS else 0
    if what == "gateways":
        node = draw.randint(0, 2)
    return Fault(_instant(draw, timing), what, node, chosen, **DRAWS[what](draw, timing))


def _busy(draw: random.Random, timing: Timing) -> list[Fault]:
    """The heart of one node waits for each of its turns, and the other node may be gone."""
    edges = (timing.beat_ms, timing.silent_ms, timing.dead_ms, timing.lease_kernel_ms)
    amount = draw.choice((*edges, 2 * timing.lease_kernel_ms)) + draw.randint(-1, 1)
    at_ms, for_ms = _instant(draw, timing), draw.choice((1, 4)) * _duration(draw, timing)
    busy = Fault(at_ms, "busy", draw.randint(1, 2), for_ms=for_ms, amount=amount)
    if draw.random() < 0.5:
        return [busy]
    busy = replace(busy, for_ms=3 * (timing.one_way_ms + timing.alone_ms))
    gone_ms = busy.at_ms + draw.randint(-timing.dead_ms, 2 * timing.dead_ms)
    return [busy, Fault(max(0, gone_ms), "crash", 3 - busy.node)]


def _instant(draw: random.Random, timing: Timing) -> int:
    return draw.randint(0, _WINDOW_BEATS * timing.beat_ms)


def _in_order(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at_ms))


def draw_plan(seed: int) -> Plan:
    """Return the schedule of a seed; the same for ever, as long as this module stays the same."""
    draw = random.Random(seed)
    profile = draw.choice(_PROFILES)
    timing, links = PROFILES[profile], draw.choice((2, 2, 2, 3))
    words = draw.sample(sorted(DRAWS), draw.randint(1, 4))
    if draw.random() < 0.5 and "switchover" not in words:
        words.append("switchover")
    count = draw.randint(1, 6)
    faults = [draw_fault(draw, draw.choice(words), timing, links) for _index in range(count)]
    if draw.random() < 0.35:
        start_ms = _instant(draw, timing)
        faults = faults[: draw.choice((0, 0, 1, 2))]
        for fault in draw.choice(DUETS)(draw, timing, draw.randint(1, 2)):
            faults.append(replace(fault, at_ms=start_ms + fault.at_ms))
    attacked = any(fault.what in ("forge", "replay") for fault in faults)
    plan = Plan(
        seed=seed,
        profile=profile,
        links=links,
        gateways=draw.random() < 0.5,
        latency_us=draw.choice((50, 250, 250, 1000)),
        late_us=draw.choice((0, 200, 200, 1000, 2000)) if profile != "metal" else 100,
        skew=draw.choice(("",) * 18 + ("fields", "major")),
        damping=draw.random() < 0.3,
        monitor=draw.random() < 0.2,
        cold=draw.random() < 0.15,
        wire_bytes=attacked or draw.random() < 0.05,
        clocks_ms=(draw.randint(1000, 10**7), draw.randint(1000, 10**7)),
        faults=_in_order(faults),
    )
    if draw.random() >= _BUSY_SHARE:
        return plan
    faults = faults[: draw.choice((0, 0, 1, 2, 6))] + _busy(draw, timing)
    return replace(plan, faults=_in_order(faults))
