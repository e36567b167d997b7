# SPDX-License-Identifier: GPL-3.0-or-later
"""Going through a list of cells: what is happening now, how long it will take, what went wrong.

Both benches enter here with their own way of measuring a cell. A ground that a cell has broken is
made anew; a cell that failed is tried once more on a good ground, and then kept as failed with its
reason. Ctrl-C or a kill loses the cell that was being measured and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.lab import LabError
from tests.lab.plan import BadRequest
from tests.probes.driver import ProbeError

from .cell import healed
from .cells import Cell, Cells
from .contenders import BenchError, clean
from .ground import Ground

FIRST_GUESS_S = 20.0
TRIES = 2
EXPECTED = (BenchError, LabError, ProbeError, OSError, ValueError, AssertionError)
Measure = Callable[[Cell], dict[str, Any]]


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def left(seconds: float) -> str:
    """A duration for people."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def attempt(ground: Ground, measure: Measure, cell: Cell) -> tuple[dict[str, Any] | None, str]:
    """Measure a cell, twice if need be; its result, or why there is none."""
    reasons = []
    for _number in range(TRIES):
        try:
            ground.make()
            with healed(ground.lab):
                result = measure(cell)
            clean(ground.lab)
            return result, ""
        except BadRequest:
            raise
        except EXPECTED as problem:
            reasons.append(f"{type(problem).__name__}: {problem}")
            say(f"    failed: {reasons[-1][:300]}")
            mend(ground)
    return None, " / ".join(reasons)


def mend(ground: Ground) -> None:
    """Have a ground that works, or none, so that the next cell makes one."""
    try:
        ground.lab.up()
        clean(ground.lab)
    except EXPECTED as problem:
        say(f"    the ground is lost ({str(problem)[:200]}); the next cell gets a new one")
        ground.spoil()


def go_through(
    ground: Ground,
    cells: Cells,
    todo: Sequence[Cell],
    measure: Measure,
    brief: Callable[[dict[str, Any]], str],
) -> int:
    """Measure what is to be measured; how many failed."""
    failed, spent = 0, 0.0
    for number, cell in enumerate(todo, 1):
        each = spent / (number - 1) if number > 1 else FIRST_GUESS_S
        estimate = left(each * (len(todo) - number + 1))
        name = f"{cell.contender}, {cell.what}, repetition {cell.repetition}"
        say(f"[{number}/{len(todo)}] {name} (about {estimate} left)")
        began = time.monotonic()
        result, reason = attempt(ground, measure, cell)
        seconds = time.monotonic() - began
        spent += seconds
        cells.keep(cell, result, reason, seconds)
        failed += result is None
        if result is not None:
            say(f"    {brief(result)}; {seconds:.0f} s")
    return failed
