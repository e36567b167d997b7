# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication bench as Markdown: one table a measurement, one row a contender, and the goals.

Pure: the merged file in, text out. What could not be seen, was impossible on this machine or never
came to its end is said in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .catalogue import SYNC
from .failover_table import failed_cells
from .figures import NOTHING, Figure, Record, failures, how_many, number, of, pick, results, table

Column = tuple[str, Callable[[Sequence[Record]], str]]
OURS = "virtual"
FTFW = ("ftfw-cached", "ftfw-states", "ftfw-direct")


def value(head: str, key: str, digits: int = 0) -> Column:
    """A column with the median and both extremes of a value."""

    def text(found: Sequence[Record]) -> str:
        figure = of(found, key)
        return figure.spread(digits) if figure else NOTHING

    return head, text


COST: tuple[Column, ...] = (
    value("active, us", "cpu_active_us", 1),
    value("passive, us", "cpu_passive_us", 1),
    value("bytes on the wire", "wire_bytes"),
    value("without compression", "wire_bytes_uncompressed"),
    value("connections/s", "rate"),
    value("events dropped", "dropped_events"),
)
BURST: tuple[Column, ...] = (
    value("connections/s", "rate"),
    value("entries", "entries"),
    value("missing", "missing"),
    value("stale", "stale"),
    value("stale after a deletion", "stale_after_deletion"),
    value("events dropped, active", "dropped_active"),
    value("passive", "dropped_passive"),
)
BULK: tuple[Column, ...] = (
    value("seconds", "seconds", 2),
    (
        "never whole",
        lambda found: how_many(found, lambda each: each.get("seconds") is None),
    ),
    value("active, CPU s", "cpu_active_s", 2),
    value("passive, CPU s", "cpu_passive_s", 2),
    value("active, MiB per 100 000", "memory_active_mib", 1),
    value("passive, MiB per 100 000", "memory_passive_mib", 1),
    value("heart late at worst before, ms", "role_late_before_ms", 1),
    value("and after, ms", "role_late_ms", 1),
    value("switch asked for meanwhile, s", "switch_s", 2),
    (
        "never switched",
        lambda found: how_many(found, lambda each: not each.get("switch_done", True)),
    ),
    value("its packets lost", "switch_lost"),
)
LAG: tuple[Column, ...] = (
    value("p50, ms", "lag_p50_ms", 1),
    value("p99, ms", "lag_p99_ms", 1),
    value("entries sampled", "sampled"),
    value("never arrived", "never"),
)
GROWTH: tuple[Column, ...] = (
    value("active, MiB after the first third", "active_after_first_mib", 1),
    value("grown since, MiB", "grown_active_mib", 1),
    value("passive, MiB after the first third", "passive_after_first_mib", 1),
    value("grown since, MiB", "grown_passive_mib", 1),
)
TABLES: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    ("cost-udp", "UDP, 5 000 connections a second, per life", COST),
    ("cost-tcp", "TCP, 5 000 connections a second, closed at once, per life", COST),
    ("cost-tcp-1s", "TCP, 5 000 connections a second, closed a second later, per life", COST),
    ("lag", "Lag of the passive kernel at 5 000 connections a second", LAG),
    ("burst-udp", "200 000 UDP connections as fast as the box makes them", BURST),
    ("burst-tcp", "200 000 TCP connections as fast as the box makes them", BURST),
    ("bulk-200k", "Bulk of 200 000 entries", BULK),
    ("bulk-500k", "Bulk of 500 000 entries", BULK),
    ("growth", "Memory over more than 10^6 events", GROWTH),
)


def one_table(cells: Sequence[Record], what: str, columns: Sequence[Column]) -> str:
    """One measurement, all contenders."""
    rows = []
    impossible = ""
    for contender in SYNC:
        mine = pick(cells, contender.name, what)
        found = results(mine)
        impossible = next((str(r["impossible"]) for r in found if "impossible" in r), impossible)
        found = [each for each in found if "impossible" not in each]
        if not mine or (impossible and not found):
            continue
        texts = [text(found) for _head, text in columns]
        rows.append((contender.label, str(len(found)), *texts, str(len(failures(mine)))))
    if impossible:
        return f"Not possible here: {impossible}."
    heads = ("contender", "n", *(head for head, _text in columns), "failed cells")
    return table(heads, rows) if rows else "Not measured yet."


def goals(cells: Sequence[Record]) -> str:
    """What was promised, what was measured, and whether the one is the other."""

    def get(contender: str, what: str, key: str) -> Figure | None:
        return of(results(pick(cells, contender, what)), key)

    def share(what: str, key: str, limit: float) -> tuple[str, str, str]:
        label = f"{what}, {key}: at most 1/{round(1 / limit)} of conntrackd's best FTFW"
        mine = get(OURS, what, key)
        theirs = [each.median for name in FTFW if (each := get(name, what, key))]
        if mine is None or not theirs or min(theirs) <= 0:
            return label, NOTHING, "not measured"
        found = mine.median / min(theirs)
        text = f"{number(mine.median, 1)} against {number(min(theirs), 1)}: {found:.2f}"
        return label, text, verdict(found <= limit)

    def none(what: str, key: str) -> tuple[str, str, str]:
        mine = get(OURS, what, key)
        if mine is None:
            return f"{what}: none {key}", NOTHING, "not measured"
        return f"{what}: none {key}", f"at most {number(mine.most)}", verdict(mine.most == 0)

    rows = []
    for what in ("cost-udp", "cost-tcp", "cost-tcp-1s"):
        rows.append(share(what, "cpu_active_us", 1 / 3))
        rows.append(share(what, "cpu_passive_us", 1 / 2))
        wire = get(OURS, what, "wire_bytes")
        text = number(wire.median) if wire else NOTHING
        word = verdict(wire.median <= 60) if wire else "not measured"
        rows.append((f"{what}: at most 60 bytes on the wire", text, word))
    for what in ("burst-udp", "burst-tcp"):
        rows += [none(what, key) for key in ("missing", "stale", "dropped_active")]
    return table(("goal", "measured", "verdict"), rows)


def verdict(holds: bool) -> str:
    """In words that are found at a glance."""
    return "met" if holds else "**not met**"


def text(merged: Record) -> str:
    """The whole section."""
    cells = merged["cells"]
    parts = ["### Goals of replication\n", goals(cells)]
    for what, title, columns in TABLES:
        parts += [f"\n### {title}\n", one_table(cells, what, columns)]
    parts += ["\n### Replication cells that failed\n", failed_cells(cells)]
    return "\n".join(parts)


def brief(result: Record) -> str:
    """A cell in one line, for whoever watches."""
    return ", ".join(f"{key} {value}" for key, value in result.items())
