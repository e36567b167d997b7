# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's command line: ``failover``, ``sync`` and ``tables``, which writes the document.

Exit codes: 0 every cell asked for was measured; 1 some failed, and each is said; 2 something
impossible was asked for. What is measured goes to build/bench; the lab is taken down at the end
unless it is to be kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from typing import Any

from tests.lab import LabError
from tests.lab.plan import BadRequest, own_prefix

from . import catalogue, cell, document, failover_table, faults, replication, sync_table
from .cells import BUILD, Cell, Cells, commit, interleaved
from .contenders import Contender
from .ground import Ground
from .runner import go_through, say

QUICK = 2


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, contenders, whats in (
        ("failover", catalogue.FAILOVER, [fault.name for fault in faults.FAULTS]),
        ("sync", catalogue.SYNC, [each.name for each in replication.MEASUREMENTS]),
    ):
        command = commands.add_parser(name)
        names = [each.name for each in contenders]
        command.add_argument("--prefix", default=own_prefix("b"), help="the lab's name")
        command.add_argument("--contender", action="append", choices=names, default=[])
        word = "--fault" if name == "failover" else "--measurement"
        command.add_argument(word, action="append", choices=whats, default=[], dest="what")
        command.add_argument("-n", type=int, default=0, help="repetitions of each cell")
        command.add_argument("--quick", action="store_true", help=f"n = {QUICK}, to try it out")
        command.add_argument("--again", action="store_true", help="also what has failed before")
        command.add_argument("--keep", action="store_true", help="leave the lab up")
        command.add_argument("--list", action="store_true", help="say what would be measured")
    commands.add_parser("tables", help="write the tables into docs/benchmarks.md")
    return top


def chosen(all_of: Sequence[Contender], names: Sequence[str]) -> list[Contender]:
    """The contenders that take part."""
    return [each for each in all_of if not names or each.name in names]


def run(options: argparse.Namespace, cells: Cells, wanted: list[Cell], bench: Any) -> int:
    """Measure, merge, and say what failed."""
    todo = cells.missing(wanted, options.again)
    say(f"bench: {len(wanted)} cells at {cells.commit}, {len(wanted) - len(todo)} known already")
    if options.list:
        for each in todo:
            print(f"{each.contender} {each.what} {each.repetition}")
        return 0
    ground = Ground(options.prefix)
    failed = 0
    with cells.alone():
        try:
            if todo:
                measure, brief = bench(ground)
                failed = go_through(ground, cells, todo, measure, brief)
        finally:
            cells.merge(" ".join(["python -m tests.bench", *sys.argv[1:]]))
            say(f"bench: {cells.merged}")
            if not options.keep:
                ground.down()
    return 1 if failed else 0


def failover_cells(options: argparse.Namespace) -> list[Cell]:
    """What `failover` is to measure; a variant takes part where it differs."""
    contenders = chosen(catalogue.FAILOVER, options.contender)
    picked = [each for each in faults.FAULTS if not options.what or each.name in options.what]
    fixed = options.n or (QUICK if options.quick else 0)
    drawn = interleaved(
        [each.name for each in contenders],
        [(each.name, fixed or each.repetitions) for each in picked],
    )
    return [each for each in drawn if each.what in catalogue.ONLY.get(each.contender, (each.what,))]


def failover(options: argparse.Namespace) -> int:
    """``make bench-failover``."""

    def bench(ground: Ground) -> tuple[Any, Any]:
        def measure(each: Cell) -> dict[str, Any]:
            contender = catalogue.BY_NAME[each.contender]
            folder = BUILD / f"packets-{options.prefix}"
            try:
                return cell.measure(ground.lab, contender, faults.BY_NAME[each.what], folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        return measure, failover_table.brief

    return run(options, Cells("failover", commit()), failover_cells(options), bench)


def sync(options: argparse.Namespace) -> int:
    """``make bench-sync``."""
    contenders = chosen(catalogue.SYNC, options.contender)
    fixed = options.n or (QUICK if options.quick else 0)
    wanted = interleaved(
        [each.name for each in contenders],
        [
            (each.name, fixed or each.repetitions)
            for each in replication.MEASUREMENTS
            if not options.what or each.name in options.what
        ],
    )

    def bench(ground: Ground) -> tuple[Any, Any]:
        def measure(each: Cell) -> dict[str, Any]:
            found = {"load_before": round(os.getloadavg()[0], 2)}
            measurement = replication.BY_NAME[each.what]
            return found | measurement.measure(ground.lab, catalogue.BY_NAME[each.contender])

        return measure, sync_table.brief

    return run(options, Cells("sync", commit()), wanted, bench)


def main() -> int:
    """Parse, perform, and turn what went wrong into one sentence and an exit code."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_details: sys.exit(143))
    try:
        if options.command == "tables":
            return document.write()
        if options.n < 0:
            raise BadRequest(f"-n {options.n}: at least 1 is expected")
        return failover(options) if options.command == "failover" else sync(options)
    except (LabError, document.DocumentError) as problem:
        say(f"bench: {problem}")
        return 2 if isinstance(problem, BadRequest) else 1
    except KeyboardInterrupt:
        say("bench: interrupted; the same command goes on where it was")
        return 130


if __name__ == "__main__":
    sys.exit(main())
