# SPDX-License-Identifier: GPL-3.0-or-later
"""`make soak`: real hearts of many pairs beat, the machine is busy, and every beat is counted.

An engineer enters, with a profile, a number of pairs and a time. Results add up with those of
earlier runs of the same agent; the raw logs stay in build/soak. A run may be stopped at any moment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "agent/src"), str(ROOT / "agent/tests")]

from heart_pair import LINKS, Pair, remove_leftovers  # noqa: E402

from amaranten_ha.core.timing import PROFILES  # noqa: E402
from tests.lab import stalls  # noqa: E402
from tests.soak.counter import Counter  # noqa: E402
from tests.soak.results import add_up, in_words  # noqa: E402

LOOK_S = 10.0
FOLDER = ROOT / "build/soak"
SUMMARY = ROOT / "build/bench/soak.json"


def git(*words: str) -> str:
    """Ask git about this clone."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tree() -> str:
    """Name the agent's sources by their content."""
    changed = git("status", "--porcelain", "--", "agent/src")
    return git("rev-parse", "HEAD:agent/src/amaranten_ha") + ("-changed" if changed else "")


def burn(count: int) -> list[subprocess.Popen[bytes]]:
    """Keep processors busy, behind everything else that wants to run."""
    command = ["setpriv", "--pdeathsig", "KILL", "nice", "-n", "19", sys.executable, "-c"]
    return [subprocess.Popen([*command, "while True: pass"]) for _number in range(count)]


class Soak:
    """The pairs of one run, their counters and the raw log."""

    def __init__(self, profile: str, pairs: int, folder: Path) -> None:
        self.folder = folder
        self.pairs = {str(n): Pair(folder / f"pair{n}", profile, n) for n in range(pairs)}
        self.counters: dict[str, dict[str, Counter]] = {}

    def start(self, run: dict[str, Any]) -> None:
        """Bring all pairs up, and note how many changes of role that took."""
        for pair in self.pairs.values():
            pair.up()
        run["settled"] = {
            number: {"ab"[node.number - 1]: len(node.changes()) for node in pair.nodes}
            for number, pair in self.pairs.items()
        }
        (self.folder / "run.json").write_text(json.dumps(run, indent=1) + "\n")
        for number, pair in self.pairs.items():
            self.counters[number] = {
                f"{name} to {node.name}": Counter(node.namespace, f"{name}0")
                for node in pair.nodes
                for name in LINKS
            }

    def look(self, seconds: float) -> None:
        """Add one line to the raw log: beats on the wire, what the hearts say, the load."""
        beats = {
            number: {name: counter.taken() for name, counter in counters.items()}
            for number, counters in self.counters.items()
        }
        margins = {number: self.margins(pair) for number, pair in self.pairs.items()}
        line = {
            "time": round(time.time(), 3), "seconds": round(seconds, 3),
            "load": os.getloadavg()[0], "beats": beats, "margins": margins,
        }  # fmt: skip
        with (self.folder / "beats.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def margins(self, pair: Pair) -> dict[str, dict[str, Any]]:
        """Return what each heart has measured, all links together."""
        found = {}
        for node in pair.nodes:
            if status := node.status():
                own = status["margin"]["nodes"][node.name]
                ways = [link["in"] for link in status["links"].values()]
                found["ab"[node.number - 1]] = {
                    "role": status["role"], "near_misses": status["margin"]["near_misses"],
                    "outages": sum(way["outages"] for way in ways),
                    "late_ms": own["late_ms"], "silence_ms": own["silence_ms"],
                    "rejected": status["rejected"],
                }  # fmt: skip
        return found

    def stop(self) -> None:
        """Remove everything but the logs."""
        for pair in self.pairs.values():
            pair.down()
        for counters in self.counters.values():
            for counter in counters.values():
                counter.close()


def measure(options: argparse.Namespace) -> None:
    """Run the pairs for the time that was asked for."""
    remove_leftovers()
    folder = FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{options.profile}"
    folder.mkdir(parents=True)
    run = {
        "tree": tree(), "commit": git("rev-parse", "--short", "HEAD"), "profile": options.profile,
        "pairs": options.pairs, "hogs": options.hogs, "seconds": options.seconds,
    }  # fmt: skip
    soak = Soak(options.profile, options.pairs, folder)
    hogs = burn(options.hogs)
    try:
        with stalls.watching(folder / stalls.LOG, beat_ms=10, stall_ms=50):
            soak.start(run)
            for counters in soak.counters.values():
                for counter in counters.values():
                    counter.taken()
            looked = time.monotonic()
            deadline = looked + options.seconds
            while looked < deadline:
                time.sleep(max(0.0, min(LOOK_S, deadline - time.monotonic())))
                now = time.monotonic()
                soak.look(now - looked)
                looked = now
    finally:
        soak.stop()
        for hog in hogs:
            hog.kill()
            hog.wait()


def main() -> int:
    """Soak, then add up; the exit code is 1 if a role moved without need at the default profile."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="virtual")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--hogs", type=int, default=os.cpu_count(), help="processes that burn time")
    parser.add_argument("--sum", action="store_true", help="only add up what was measured")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(143))
    if not options.sum:
        with contextlib.suppress(KeyboardInterrupt):
            measure(options)
    found = add_up(FOLDER, tree())
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps({"tree": tree(), "profiles": found}, indent=1) + "\n")
    print(in_words(found))
    return int(bool(found.get("virtual", {}).get("switches")))


if __name__ == "__main__":
    sys.exit(main())
