# SPDX-License-Identifier: GPL-3.0-or-later
"""From many measurements to one figure: median, spread, and how many there were.

Pure. The tables enter here with cells as they are on disk. A cell that failed is counted and said,
never left out in silence; a figure of which there is none says so and is not a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Record = dict[str, Any]
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Figure:
    """Median, extremes and number of some measurements."""

    median: float
    least: float
    most: float
    count: int

    def text(self, digits: int = 0) -> str:
        """Median and, in brackets, the worst."""
        if self.count == 1:
            return number(self.median, digits)
        return f"{number(self.median, digits)} ({number(self.most, digits)})"

    def spread(self, digits: int = 0) -> str:
        """Median and both extremes."""
        if self.count == 1 or self.least == self.most:
            return number(self.median, digits)
        least, most = number(self.least, digits), number(self.most, digits)
        return f"{number(self.median, digits)} ({least} to {most})"


def number(value: float, digits: int = 0) -> str:
    """A number for people: thin groups of three, no needless digits."""
    return f"{value:,.{digits}f}".replace(",", " ")


def figure(values: Iterable[float | None]) -> Figure | None:
    """The figure of some measurements, or nothing if there are none."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Figure(median(found), min(found), max(found), len(found))


def pick(cells: Iterable[Record], contender: str, what: str) -> list[Record]:
    """The cells of one contender and one fault or measurement."""
    return [c for c in cells if c["contender"] == contender and c["what"] == what]


def results(cells: Iterable[Record]) -> list[Record]:
    """What the cells that did not fail have found."""
    return [cell["result"] for cell in cells if cell.get("result") is not None]


def failures(cells: Iterable[Record]) -> list[str]:
    """Why the others failed."""
    return [str(cell["failed"]) for cell in cells if cell.get("failed")]


def of(found: Sequence[Record], key: str) -> Figure | None:
    """The figure of one value of some results; ``a.b`` is b inside a."""
    return figure(_inside(result, key) for result in found)


def _inside(result: Record, key: str) -> float | None:
    value: Any = result
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else float(value)


def said(found: Figure | None, digits: int = 0) -> str:
    """A figure for a table, or that there is none."""
    return found.text(digits) if found else NOTHING


def how_many(found: Sequence[Record], holds: Callable[[Record], bool]) -> str:
    """In how many of all it was so."""
    return f"{sum(map(holds, found))} of {len(found)}" if found else NOTHING


def survivors(found: Sequence[Record]) -> str:
    """Connections that survived: all in every run, or the median and the worst."""
    if not found:
        return NOTHING
    opened = {result["connections"] for result in found}
    left = [result["survived"] for result in found]
    total = number(max(opened))
    if len(opened) == 1 and all(each == max(opened) for each in left):
        return f"{total} of {total}, every run"
    return f"{number(median(left))} (worst {number(min(left))}) of {total}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a cell can neither break its row nor its column."""
    lines = [heads, ["---"] * len(heads), *rows]
    for line in lines:
        if len(line) != len(heads):
            raise ValueError(f"{len(line)} cells in a row of {len(heads)}: {line}")
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
