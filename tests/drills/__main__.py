# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-drills`: every drill N times, and N times disturbed in each way; hours on two cores.

An engineer enters. Each run leaves one line in build/drills/runs.jsonl as soon as it is over, so
that a campaign goes on where it was stopped; a run that was not sound is run again by the next one.
The lab is taken over as it stands, and is taken down at the end unless it is to be kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

from tests.drills import remains, ways
from tests.integration import deployment, steps
from tests.lab import Lab, shell
from tests.lab.plan import NODES, ROOT, own_prefix

LEDGER = ROOT / "build/drills/runs.jsonl"
KINDS = ("switchover", "crash", "hang", "power", "link", "isolate", "sync_cut")
DIFFERENCE_MS_MAX = 2.0
FAILED_MAX = 3
DIFFERENCES = ("difference_ms", "probe_difference_ms", "dual_difference_ms")


def read() -> list[dict[str, Any]]:
    """All runs so far."""
    if not LEDGER.exists():
        return []
    return [json.loads(line) for line in LEDGER.read_text().splitlines() if line.strip()]


def tree() -> str:
    """The commit that was run."""
    return shell.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).stdout.strip()


def once(lab: Lab, kind: str, way: str, number: int) -> dict[str, Any]:
    """One run and everything that is asked afterwards."""
    began = time.monotonic()
    holder = steps.ready(lab, ways.READY_S)
    before = {node: remains.addressing(lab, node) for node in NODES}
    found = ways.WAYS[way](lab, kind, number)
    problems = found["problems"]
    problems += remains.whole(lab, ways.UNDO_S + ways.READY_S)
    after = steps.active(lab)
    if way in ("whole", "twice") and after != holder:
        problems.append(f"{holder} was active, and {after} is")
    for node in NODES:
        was, now = set(before[node]), set(remains.addressing(lab, node))
        if was != now and holder == after:
            problems.append(f"{node}: addresses or routes differ: {sorted(was ^ now)}")
    for key in DIFFERENCES:
        if found.get(key, 0) > DIFFERENCE_MS_MAX:
            problems.append(f"{key} is {found[key]}")
    took = round(time.monotonic() - began, 1)
    return {"kind": kind, "way": way, "number": number, "sound": not problems, "seconds": took,
            "tree": tree(), "at": time.strftime("%H:%M:%S"), "load": os.getloadavg()[0],
            **found}  # fmt: skip


def due(runs: int, kinds: list[str], chosen: list[str]) -> list[tuple[str, str, int]]:
    """What is still to be run: every kind and way once before any is run again.

    What was not sound three times with this commit waits for another one.
    """
    sound: dict[tuple[str, str], int] = {}
    failed: dict[tuple[str, str], int] = {}
    here = tree()
    for line in read():
        key = line["kind"], line["way"]
        sound[key] = sound.get(key, 0) + line["sound"]
        failed[key] = failed.get(key, 0) + (not line["sound"] and line["tree"] == here)
    return [
        (kind, way, number)
        for number in range(1, runs + 1)
        for way in chosen
        for kind in kinds
        if kind not in ways.IMPOSSIBLE.get(way, ())
        and number > sound.get((kind, way), 0)
        and failed.get((kind, way), 0) < FAILED_MAX
    ]


def table() -> str:
    """All runs in a table: how many, how many sound, the figures, the usual time and the load.

    The silence is the longer one of a run's flows, by the report: the median and the longest.
    `stalled` is for how long a processor of this machine served nobody, at worst: as long may two
    flows differ, and none of the nodes has any part in it.
    """
    words = "kind way runs sound silence to-wire to-probe both-active stalled s load"
    rows = [tuple(words.split())]
    runs = read()
    for kind, way in ((kind, way) for kind in KINDS for way in ways.WAYS):
        those = [run for run in runs if (run["kind"], run["way"]) == (kind, way)]
        if those:
            figures = ["", "", "", "", ""]
            if told := [max(run["report_ms"].values()) for run in those if run.get("report_ms")]:
                figures = [f"{statistics.median(told):.1f} ({max(told):g})"]
                highest = (*DIFFERENCES, "stalled_ms")
                figures += [f"{max(run.get(key, 0.0) for run in those):g}" for key in highest]
            sound = sum(run["sound"] for run in those)
            took = statistics.median(run["seconds"] for run in those)
            loads = [run["load"] for run in those if "load" in run] or [0.0]
            load = f"{min(loads):.0f} to {max(loads):.0f}"
            rows.append((kind, way, str(len(those)), str(sound), *figures, f"{took:.0f}", load))
    return "\n".join("  ".join(f"{word:<12}" for word in row).rstrip() for row in rows)


def prepared(prefix: str) -> Lab:
    """The lab with a pair that is ready: the one that stands, or a new one."""
    lab = Lab(prefix)
    lab.up()
    # Also where one stands: what another commit deployed is drift, which no drill begins on.
    run = deployment.deploy(lab)
    if run.code != 0:
        sys.exit(run.end())
    steps.ready(lab, ways.READY_S)
    return lab


def main() -> int:
    """Run what is due; 1 if a run was not sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ways", nargs="+", choices=list(ways.WAYS), default=list(ways.WAYS))
    parser.add_argument("--for-s", type=float, default=1e9, help="begin no run after this time")
    parser.add_argument("--prefix", default=own_prefix("d"))
    parser.add_argument("--keep", action="store_true", help="leave the lab up")
    parser.add_argument("--table", action="store_true", help="only say what was found so far")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
        return 0
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    sound = True
    lab = prepared(arguments.prefix)
    end = time.monotonic() + arguments.for_s
    try:
        for kind, way, number in due(arguments.runs, arguments.kinds, arguments.ways):
            if time.monotonic() > end:
                break
            line = once(lab, kind, way, number)
            with LEDGER.open("a") as file:
                file.write(json.dumps(line) + "\n")
            sound = sound and line["sound"]
            word = "sound" if line["sound"] else "NOT SOUND: " + "; ".join(line["problems"])
            print(f"{kind} {way} {number}, {line['seconds']} s: {word}", flush=True)
    finally:
        if not arguments.keep:
            lab.down()
    print(table())
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
