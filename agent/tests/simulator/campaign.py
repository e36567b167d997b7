# SPDX-License-Identifier: GPL-3.0-or-later
"""Many schedules: a range of seeds in a pool of processes, resumable, with results per commit.

The test of the campaign and `make sim` enter. Seed range and commit are printed first, so that a
run that dies can be repeated. Each finished block of seeds is written to build/sim, and skipped the
next time; a failing seed is shrunk and printed as a plan that a test can keep.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simulator.draw import draw_plan
from simulator.run import run
from simulator.shrink import shrink

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "build" / "sim"
BLOCK_SEEDS = 250
FAILURES_TOLD_MAX = 5


@dataclass
class Block:
    """What came of the seeds from `first` up to, not including, `end`."""

    first: int
    end: int
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    """Seed to what was violated."""
    rules: dict[str, int] = field(default_factory=dict)
    """How often each rule of the role table fired."""


def play_block(span: tuple[int, int]) -> Block:
    """Run every seed of a block."""
    block, rules = Block(*span), Counter[str]()
    start_s = time.process_time()
    for seed in range(*span):
        outcome, _world = run(draw_plan(seed))
        block.virtual_s += outcome.virtual_ms / 1000
        rules.update(dict(outcome.rules))
        if outcome.violation:
            block.failures[str(seed)] = outcome.text
    block.cpu_s, block.rules = time.process_time() - start_s, dict(rules)
    return block


def spans(first: int, end: int, size: int = BLOCK_SEEDS) -> Iterator[tuple[int, int]]:
    """Cut a range of seeds into blocks that begin at multiples of their size."""
    while first < end:
        until = min(end, (first // size + 1) * size)
        yield first, until
        first = until


def play(wanted: Iterable[tuple[int, int]], processes: int) -> Iterator[Block]:
    """Run blocks in a pool, or here if it would be a pool of one."""
    if processes == 1:
        yield from map(play_block, wanted)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(play_block, wanted)


def commit() -> str:
    """Return the commit of the tree, with a plus if it was changed since."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


@dataclass
class Total:
    """Blocks, added up."""

    seeds: int = 0
    cpu_s: float = 0.0
    virtual_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    rules: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        fired = ", ".join(f"{count} {reason}" for reason, count in self.rules.most_common())
        return (
            f"{self.seeds} schedules, {self.virtual_s / 3600:.1f} virtual hours,"
            f" {self.cpu_s:.0f} CPU seconds ({1000 * self.cpu_s / max(self.seeds, 1):.1f} ms each),"
            f" {len(self.failures)} failed; rules: {fired}"
        )


def total(blocks: Iterable[Block]) -> Total:
    """Add up blocks."""
    found = Total()
    for block in blocks:
        found.seeds += block.end - block.first
        found.cpu_s += block.cpu_s
        found.virtual_s += block.virtual_s
        found.failures.update(block.failures)
        found.rules.update(block.rules)
    return found


def explain(failures: dict[str, str]) -> str:
    """Return the first failures, each shrunk to a plan that a test can keep."""
    lines = []
    for seed, text in list(failures.items())[:FAILURES_TOLD_MAX]:
        plan = draw_plan(int(seed))
        small = shrink(plan, text.split(":", 1)[0])
        lines += [f"seed {seed}: {text}", f"  minimal: {small!r}", f"  {run(small)[0].text}"]
    return "\n".join(lines)


def campaign(first: int, end: int, processes: int) -> int:
    """Run what was not run yet of a range at this commit; 0 if nothing was violated."""
    at = commit()
    path = RESULTS / f"{at}.json"
    print(f"seeds {first}-{end} at {at}; results in {path.relative_to(ROOT)}", flush=True)
    known = [Block(**each) for each in json.loads(path.read_text())] if path.exists() else []
    done = {(each.first, each.end) for each in known}
    for block in play((each for each in spans(first, end) if each not in done), processes):
        known.append(block)
        RESULTS.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps([asdict(each) for each in known]))
        beside.replace(path)
        for seed, text in block.failures.items():
            print(f"seed {seed}: {text}", flush=True)
    found = total(known)
    print(found)
    print(explain(found.failures) or "nothing was violated")
    return 1 if found.failures else 0


def replay(seed: int) -> int:
    """Show one schedule as it happens, and its minimal plan if it fails."""
    plan = draw_plan(seed)
    outcome, world = run(plan, trace=True)
    print(f"seed {seed} at {commit()}\n{plan!r}")
    for at_ns, who, text in world.trace or ():
        print(f"{(at_ns - world.start_ns) / 1e6:10.2f} ms  {who:5} {text}")
    print(outcome.text or "nothing was violated")
    if outcome.violation:
        print(explain({str(seed): outcome.text}))
    return bool(outcome.violation)


def main() -> int:
    """Run a range of seeds, or show one."""
    parser = argparse.ArgumentParser(prog="make sim")
    parser.add_argument("seeds", help="a range, such as 0-20000, or one seed to see its trace")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    first, dash, end = options.seeds.partition("-")
    return campaign(int(first), int(end), options.processes) if dash else replay(int(first))


if __name__ == "__main__":
    sys.exit(main())
