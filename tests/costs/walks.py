# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the kernel takes for one piece of a walk through the connection table.

A kernel without preemption lets nobody else have that processor meanwhile, heart included. All
namespaces of a machine share one hash: a lab's node walks through the entries of all of them.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from sync_netns import Namespace
from sync_samples import direction, entry

from amaranten_ha.core import flow
from amaranten_ha.core.command import Command, Verb
from amaranten_ha.io.netlink import Dump, Table

ENTRIES = 200_000
_AT_ONCE = 1_280
_TRACKS = "table inet fw { chain in { type filter hook input priority 0; ct state invalid; }; }"


def _creation(number: int) -> Command:
    inside = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    there = direction(inside, "198.51.100.7", 17, 1024, 53)
    back = direction("198.51.100.7", inside, 17, 53, 1024)
    wanted = flow.parse(entry(there, back, status=0x188, timeout=600))
    return Command(Verb.CREATE, wanted.key, wanted)


def _longest_ms(box: Namespace, walks: int) -> list[float]:
    """Return the longest call of each walk; its beginning is a call as well."""
    found = []
    for _walk in range(walks):
        before_ns = time.monotonic_ns()
        with box.inside():
            walk = Dump()
        calls = [time.monotonic_ns() - before_ns]
        while not walk.done:
            before_ns = time.monotonic_ns()
            walk.read()
            calls.append(time.monotonic_ns() - before_ns)
        found.append(max(calls) / 1e6)
    return [round(statistics.median(found), 1), round(max(found), 1)]


def pieces(walks: int) -> dict[str, Any]:
    """Longest call in ms, median and worst of the walks, by what is in the tables."""
    full, empty = Namespace("amwalkf"), Namespace("amwalke")
    try:
        for box in (full, empty):
            box.run("nft", "-f", "-", stdin=_TRACKS)
        found = {"empty, all others too": _longest_ms(empty, walks)}
        with full.inside():
            table = Table()
        for start in range(0, ENTRIES, _AT_ONCE):
            table.apply([_creation(n) for n in range(start, min(start + _AT_ONCE, ENTRIES))])
        found["full"] = _longest_ms(full, walks)
        found["empty beside a full one"] = _longest_ms(empty, walks)
        return {"entries": ENTRIES, "longest_ms": found}
    finally:
        full.remove()
        empty.remove()
