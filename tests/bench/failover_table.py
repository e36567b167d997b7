# SPDX-License-Identifier: GPL-3.0-or-later
"""The failover bench as Markdown: one table a fault, one row a contender, and the goals.

Pure: the merged file in, text out. A row is written for every contender that was asked for, also
when all of its cells failed. What we promised stands beside what was measured, met or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from .catalogue import FAILOVER
from .faults import FAULTS, Fault
from .figures import (
    NOTHING,
    Figure,
    Record,
    failures,
    how_many,
    number,
    of,
    pick,
    results,
    said,
    survivors,
    table,
)

HEADS = (
    "contender",
    "n",
    "path, ms",
    "existing connection, ms",
    "packets lost",
    "TCP survived",
    "forwarded by both, packets",
    "address on both, ms",
    "switched for no reason",
    "machine stalled, ms",
    "failed cells",
)
BACK_HEADS = (
    "contender",
    "n",
    "role moved again",
    "path, ms",
    "existing, ms",
    "packets lost",
    "machine stalled, ms",
)
OURS = ("metal", "fast", "virtual")


def fault_table(cells: Sequence[Record], fault: Fault) -> str:
    """One fault, all contenders."""
    rows = []
    for contender in FAILOVER:
        mine = pick(cells, contender.name, fault.name)
        if not mine:
            continue
        found = results(mine)
        rows.append(
            (
                contender.label,
                str(len(found)),
                silence(found, "path_ms"),
                silence(found, "existing_ms"),
                said(of(found, "lost")),
                survivors(found),
                said(of(found, "both_packets")),
                said(of(found, "owned_by_two_ms")),
                how_many(found, lambda result: result["unprovoked"] > 0),
                said(of(found, "stall_ms")),
                str(len(failures(mine))),
            )
        )
    return table(HEADS, rows) if rows else "Not measured yet."


def silence(found: Sequence[Record], key: str) -> str:
    """A silence; one that did not end before the fault was undone is at least that long."""
    never = sum(not result["answered_again"] for result in found)
    text = said(of(found, key), 0)
    return f"{text}; {never} never" if never else text


def back_table(cells: Sequence[Record]) -> str:
    """What the return of the node cost after a power loss."""
    rows = []
    for contender in FAILOVER:
        found = results(pick(cells, contender.name, "power"))
        if found:
            rows.append(
                (
                    contender.label,
                    str(len(found)),
                    how_many(found, lambda result: result["switches_after"] > 0),
                    said(of(found, "return_path_ms")),
                    said(of(found, "return_existing_ms")),
                    said(of(found, "return_lost")),
                    said(of(found, "return_stall_ms")),
                )
            )
    return table(BACK_HEADS, rows) if rows else "Not measured yet."


def cost_table(cells: Sequence[Record]) -> str:
    """What each contender costs while nothing happens, over all cells."""
    rows = []
    for contender in FAILOVER:
        found = results(cell for cell in cells if cell["contender"] == contender.name)
        if not found:
            continue
        shares: dict[str, list[Record]] = {"agent": [], "replication": []}
        for result in found:
            for node in ("fw-a", "fw-b"):
                for what, list_of in shares.items():
                    list_of.append({"cpu": result["cpu_percent"][f"cpu_{what}_{node}"]})
        row = [said(of(each, "cpu"), 1) for each in shares.values()]
        rows.append((contender.label, str(len(found)), *row))
    heads = ("contender", "n", "agent, % of a core", "replication, % of a core")
    return table(heads, rows) if rows else "Not measured yet."


def goals(cells: Sequence[Record]) -> str:
    """What was promised, what was measured, and whether the one is the other."""

    def get(contender: str, fault: str, key: str) -> Figure | None:
        return of(results(pick(cells, contender, fault)), key)

    def against(mine: Figure | None, limit: float | None, what: str) -> tuple[str, str, str]:
        if mine is None or limit is None:
            return what, NOTHING, "not measured"
        text = f"{number(mine.median, 1)} against {number(limit, 1)}"
        return what, text, "met" if mine.median <= limit else "**not met**"

    def best(contenders: Sequence[str]) -> float | None:
        found = [get(name, "power", "path_ms") for name in contenders]
        medians = [each.median for each in found if each]
        return min(medians) if medians else None

    ka10, ka20 = best(("ka10-cached", "ka10-direct")), best(("ka20-cached", "ka20-direct"))
    rows = [
        against(
            get("metal", "power", "path_ms"),
            None if ka10 is None else ka10 / 2,
            "power loss, metal: at most half of keepalived at 10 ms (ms)",
        ),
        against(
            get("fast", "power", "path_ms"),
            ka20,
            "power loss, fast: below keepalived at 20 ms (ms)",
        ),
        against(get("virtual", "power", "path_ms"), 300, "power loss, virtual: at most 300 ms"),
    ]
    for name in OURS:
        path = get(name, "power", "path_ms")
        rows.append(
            against(
                get(name, "power", "existing_ms"),
                path.median + 2 if path else None,
                f"power loss, {name}: existing connections no later than the path (2 ms of grain)",
            )
        )
        rows.append(zero(cells, name, "power", "unprovoked", "no switch for no reason"))
        rows.append(zero(cells, name, "switchover", "lost", "0 packets lost"))
        for fault in ("sigstop", "sigkill"):
            rows.append(zero(cells, name, fault, "both_packets", "0 packets forwarded by both"))
    rows.append(zero(cells, "relaxed", "switchover", "lost", "0 packets lost"))
    return table(("goal", "measured", "verdict"), rows)


def zero(
    cells: Sequence[Record], name: str, fault: str, key: str, what: str
) -> tuple[str, str, str]:
    """A goal of nothing at all, in every run; a run that could not be finished has not met it."""
    mine = pick(cells, name, fault)
    label = f"{fault}, {name}: {what}"
    if not mine:
        return label, NOTHING, "not measured"
    clean = sum(result[key] == 0 for result in results(mine))
    verdict = "met" if clean == len(mine) else "**not met**"
    return label, f"{clean} of {len(mine)} runs", verdict


def failed_cells(cells: Sequence[Record]) -> str:
    """Every cell that could not be measured, with its reason."""
    lines = [
        f"- {cell['contender']}, {cell['what']}, repetition {cell['repetition']}: "
        + str(cell["failed"]).splitlines()[0][:200]
        for cell in cells
        if cell.get("failed")
    ]
    return "\n".join(lines) if lines else "None."


def text(merged: Record) -> str:
    """The whole section."""
    cells = merged["cells"]
    parts = ["### Goals\n", goals(cells)]
    for fault in FAULTS:
        parts += [f"\n### {fault.label.capitalize()}\n", fault_table(cells, fault)]
        if fault.name == "power":
            parts += ["\n### The node's return after a power loss\n", back_table(cells)]
    parts += ["\n### What it costs while nothing happens\n", cost_table(cells)]
    parts += ["\n### Cells that failed\n", failed_cells(cells)]
    return "\n".join(parts)


def brief(result: Record) -> str:
    """A cell in one line, for whoever watches."""
    return (
        f"path {result['path_ms']:g} ms, existing {result['existing_ms']:g} ms, "
        f"{result['lost']} lost, {result['survived']} of {result['connections']} survived, "
        f"{result['both_packets']} by both, {result['unprovoked']} unprovoked"
    )
