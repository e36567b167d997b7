# SPDX-License-Identifier: GPL-3.0-or-later
"""Every combination of up to three faults of a small alphabet at a grid of instants.

The test of the search and `make sim-exhaustive` enter. Nothing is drawn: the alphabet, the grid and
the pair are fixed, so what was searched can be said in one sentence. One fault alone must also be
over in time: for each word there is a limit to how long nobody may forward.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

from amaranten_ha.core.timing import MS_NS, PROFILES
from simulator.plan import Fault, Plan
from simulator.run import play, run

PROFILE = "fast"
_TIMING = PROFILES[PROFILE]
_BEAT, _DEAD, _LEASE = _TIMING.beat_ms, _TIMING.dead_ms, _TIMING.lease_kernel_ms

ALPHABET: tuple[Fault, ...] = (
    Fault(0, "switchover"),
    *(Fault(0, "stall", node, for_ms=_LEASE + _BEAT) for node in (1, 2)),
    *(Fault(0, "starve", node, for_ms=_DEAD + _BEAT) for node in (1, 2)),
    *(Fault(0, "pause", node, for_ms=_LEASE, amount=1) for node in (1, 2)),
    *(Fault(0, "kill", node, amount=60) for node in (1, 2)),
    *(Fault(0, "crash", node, for_ms=_LEASE) for node in (1, 2)),
    *(Fault(0, "restart", node, amount=100) for node in (1, 2)),
    *(Fault(0, "beats", node, for_ms=_LEASE) for node in (1, 2)),
    *(Fault(0, "gate", node, for_ms=_LEASE, amount=1) for node in (1, 2)),
    Fault(0, "partition", for_ms=_DEAD + 2 * _BEAT),
    Fault(0, "one-way", 1, for_ms=_DEAD + 2 * _BEAT),
)
WORST = tuple(
    fault
    for fault in ALPHABET
    if fault.what in ("switchover", "partition")
    or (fault.node == 1 and fault.what in ("stall", "kill", "crash"))
)
"""The few of which even three together are few enough to be searched at every run."""
GRID_MS = (0, _BEAT // 2, _BEAT + 3, 2 * _BEAT + 7, _DEAD + 5, _DEAD + 3 * _BEAT, _LEASE + 9)
COARSE_MS = (0, _BEAT + 3, _DEAD + 5)

AFTER_MS = 1000
"""For so long the pair is watched after a fault that came alone."""

SILENCE_MS: dict[str, int] = {
    "switchover": 0,
    "stall": _BEAT,
    "starve": _DEAD + 1,
    "pause": _DEAD + 1,
    "kill": _BEAT,
    "crash": _DEAD + 1,
    "restart": 0,
    "beats": 0,
    "gate": 0,
    "partition": 0,
    "one-way": 0,
}
"""For how long at most nobody forwards when this befalls a healthy pair, and nothing else does."""


def schedules(
    faults: int, grid_ms: tuple[int, ...], alphabet: tuple[Fault, ...] = ALPHABET
) -> Iterator[Plan]:
    """Return every plan of exactly so many faults; the first of them is at the first instant."""
    base = Plan(profile=PROFILE)
    for words in itertools.product(alphabet, repeat=faults):
        for later in itertools.combinations_with_replacement(grid_ms, faults - 1):
            instants = (0, *later)
            placed = (
                replace(fault, at_ms=at_ms) for fault, at_ms in zip(words, instants, strict=True)
            )
            yield replace(base, faults=tuple(placed))


def violates(plan: Plan) -> tuple[Plan, str]:
    """Run a schedule; the text is empty if nothing was violated."""
    return plan, run(plan)[0].text


def search(plans: Iterable[Plan], processes: int) -> tuple[int, list[tuple[Plan, str]]]:
    """Run them all; return how many there were, and those that violate something."""
    count, failures = 0, []
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for plan, text in pool.imap_unordered(violates, plans, chunksize=32):
            count += 1
            if text:
                failures.append((plan, text))
    return count, failures


def silence_ms(fault: Fault, at_ms: int) -> float:
    """Say for how long nobody forwards when one fault befalls a healthy pair."""
    plan = Plan(profile=PROFILE, faults=(replace(fault, at_ms=at_ms),))
    world = play(plan)
    world.run_until(world.now_ns + AFTER_MS * MS_NS)
    return world.nobody_forwards_ns / MS_NS


def main() -> int:
    """Search all pairs at the fine grid, and triples: of the worst few, or of all."""
    parser = argparse.ArgumentParser(prog="make sim-exhaustive")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all", action="store_true", help="triples of the whole alphabet")
    options = parser.parse_args()
    triples = schedules(3, COARSE_MS) if options.all else schedules(3, GRID_MS, WORST)
    plans = itertools.chain(schedules(2, GRID_MS), triples)
    count, failures = search(plans, options.processes)
    for plan, text in failures:
        print(f"{text}\n  {plan!r}")
    print(f"{count} schedules, {len(failures)} failed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
