#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make pins`: resolves requirements/*.in into the exact, transitive pins of requirements/*.txt.

Each set is installed into an environment of its own below build/ and written down as it is there.
The dev set stands on the controller set, so that a contributor tests what a controller runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build/pins"


@dataclass(frozen=True, slots=True)
class PinSet:
    """One file of pins, the Python it is for, and the set that it stands on."""

    name: str
    python: str
    base: str = ""


SETS = (
    PinSet("controller", "3.11"),
    PinSet("dev", "3.11", base="controller"),
    PinSet("newest", "3.13"),
)


def output(*command: str | Path) -> str:
    """Run a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pins_path(name: str) -> Path:
    """Where the pins of a set are kept."""
    return ROOT / f"requirements/{name}.txt"


def resolve(wanted: PinSet) -> str:
    """Install a set anew and return the text of its pins."""
    venv = PLACE / wanted.name
    interpreter = output(ROOT / "tools/find-python", wanted.python).strip()
    output(interpreter, "-m", "venv", "--clear", venv)
    pip = (venv / "bin/python", "-m", "pip", "--disable-pip-version-check")
    base = ["-r", pins_path(wanted.base)] if wanted.base else []
    output(*pip, "install", *base, "-r", ROOT / f"requirements/{wanted.name}.in")
    kept = set(pins_path(wanted.base).read_text().splitlines()) if wanted.base else set()
    pins = [line for line in output(*pip, "freeze").splitlines() if line not in kept]
    head = (
        f"# Made by `make pins` from {wanted.name}.in;"
        f" exact, transitive, for Python {wanted.python}."
    )
    stands_on = [f"-r {wanted.base}.txt"] if wanted.base else []
    return "\n".join([head, *stands_on, *pins]) + "\n"


def main() -> int:
    for wanted in SETS:
        print(f"==> resolving {wanted.name} (a minute)", flush=True)
        try:
            text = resolve(wanted)
        except subprocess.CalledProcessError as error:
            print(f"make pins: {wanted.name}: {error}\n{error.stderr}", file=sys.stderr)
            return 2
        pins_path(wanted.name).write_text(text)
    shutil.rmtree(PLACE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
