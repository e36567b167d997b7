# SPDX-License-Identifier: GPL-3.0-or-later
"""What all runs of the same agent have seen, added up from their raw logs.

A run leaves a folder with `run.json` (what it was), `beats.jsonl` (a line for each look) and the
logs of every heart. A run that was killed counts as far as its log goes.
"""

from __future__ import annotations

import json
from collections import Counter as Tally
from pathlib import Path
from typing import Any

from heart_pair import changes_in

from tests.lab import stalls

AIM = 2_160_000
"""Beats per link and direction: 24 hours of one pair at the default profile."""


def add_up(folder: Path, tree: str) -> dict[str, dict[str, Any]]:
    """Return the sums of all runs of one source tree, by profile."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/run.json")):
        run = json.loads(path.read_text())
        if run["tree"] == tree:
            _add(found.setdefault(run["profile"], _nothing()), path.parent, run)
    for row in found.values():
        row["beats"] = dict(row["beats"])
        row["beats_per_link"] = min(row["beats"].values(), default=0)
        row["aim"] = AIM
    return found


def _nothing() -> dict[str, Any]:
    return {
        "runs": 0, "pair_hours": 0.0, "beats": Tally(), "switches": 0, "near_misses": 0,
        "outages": 0, "stalls": 0, "stall_ms": 0, "late_ms": 0.0, "silence_ms": 0.0,
        "load": [], "reasons": [], "commits": [],
    }  # fmt: skip


def _add(row: dict[str, Any], folder: Path, run: dict[str, Any]) -> None:
    row["runs"] += 1
    if run["commit"] not in row["commits"]:
        row["commits"].append(run["commit"])
    stood_still_ms = stalls.all_ms(folder / stalls.LOG)
    row["stalls"] += len(stood_still_ms)
    row["stall_ms"] = max([row["stall_ms"], *stood_still_ms])
    newest: dict[str, dict[str, Any]] = {}
    for line in (folder / "beats.jsonl").read_text().splitlines():
        look = json.loads(line)
        row["pair_hours"] += look["seconds"] * len(look["beats"]) / 3600
        row["load"].append(look["load"])
        for pair, counts in look["beats"].items():
            row["beats"].update(counts)
            newest[pair] = look["margins"].get(pair) or newest.get(pair, {})
    for pair, margins in newest.items():
        for node, margin in margins.items():
            row["near_misses"] += margin["near_misses"]
            row["outages"] += margin["outages"]
            row["late_ms"] = max(row["late_ms"], margin["late_ms"])
            row["silence_ms"] = max(row["silence_ms"], margin["silence_ms"])
            log = (folder / f"pair{pair}" / node / "heart.log").read_text()
            more = changes_in(log)[run["settled"][pair][node] :]
            row["switches"] += len(more)
            row["reasons"] += [f"{folder.name} pair{pair}{node}: {each}" for each in more]


def in_words(found: dict[str, dict[str, Any]]) -> str:
    """Return the sums as an operator reads them."""
    lines = []
    for profile, row in found.items():
        loads = row["load"] or [0.0]
        lines.append(
            f"{profile}: {row['beats_per_link']} beats per link and direction (aim {row['aim']}),"
            f" {row['pair_hours']:.2f} pair-hours in {row['runs']} runs;"
            f" {row['switches']} needless role changes, {row['near_misses']} near misses,"
            f" {row['outages']} longer silences; heart late by {row['late_ms']:.1f} ms at"
            f" worst, longest silence on all links {row['silence_ms']:.1f} ms;"
            f" a processor served nobody for 50 ms or more {row['stalls']} times, at worst"
            f" {row['stall_ms']} ms; load {min(loads):.1f} to {max(loads):.1f}"
        )
        lines += [f"  {reason}" for reason in row["reasons"]]
    return "\n".join(lines) or "nothing was measured for this version of the agent yet"
