# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-gate`: what gate, heart and walks cost, into build/bench/*.json and on the screen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "agent/src"), str(ROOT / "agent/tests")]

from tests.costs import forwarding, hearts, walks  # noqa: E402

CELLS = {
    "gate": lambda: forwarding.measure(15),
    "heart": lambda: hearts.profiles(3),
    "flood": hearts.flood,
    "start": lambda: hearts.starts(100),
    "walk": lambda: walks.pieces(20),
}


def main() -> int:
    """Measure the cells that were asked for, all of them by default."""
    parser = argparse.ArgumentParser(prog="make bench-gate", description=__doc__)
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(CELLS))
    options = parser.parse_args()
    unknown = [each for each in options.cells if each not in CELLS]
    if unknown:
        print(f"{unknown[0]} is no cell: expected {', '.join(CELLS)}", file=sys.stderr)
        return 2
    folder = ROOT / "build/bench"
    folder.mkdir(parents=True, exist_ok=True)
    for name in options.cells or CELLS:
        before = os.getloadavg()[0]
        found = {"load": [before], **CELLS[name]()}
        found["load"] = [before, os.getloadavg()[0]]
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
