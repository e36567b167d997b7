#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make packages`: the .deb files that a bare node needs and cannot fetch itself.

What tools/node-packages.txt wants, minus what a bare node has. A directory that already holds what
the list asks for, unharmed, is left alone; what is fetched comes
with a list of digests. This machine's own packages stay as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.aptroot import AptRoot, HostError  # noqa: E402 - the path must be set first

RELEASE = "bookworm"
LIST = ROOT / "tools/node-packages.txt"
DIRECTORY = ROOT / "build/packages"
INDEX = "SHA256SUMS"
STAMP = ".stamp"


def read_list() -> dict[str, tuple[str, ...]]:
    """The two lines of the list: what is wanted, what a bare node has."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return {key: tuple(words.split()) for key, words in (line.split(": ") for line in lines)}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_complete(question: str) -> bool:
    """Does the directory hold what the list asks for, each file as it was fetched?"""
    stamp, index = DIRECTORY / STAMP, DIRECTORY / INDEX
    if not (stamp.is_file() and index.is_file() and stamp.read_text() == question):
        return False
    for line in index.read_text().splitlines():
        expected, name = line.split("  ")
        file = DIRECTORY / name
        if not file.is_file() or digest(file) != expected:
            return False
    return True


def fetch(question: str) -> int:
    """Fetch everything into a new directory, then put it in place; the number of packages."""
    wanted = read_list()
    print(f"==> fetching {' '.join(wanted['wanted'])} and what they need, for Debian {RELEASE}")
    apt = AptRoot(ROOT / "build/apt" / RELEASE, RELEASE)
    apt.prepare()
    bare = apt.standard() + wanted["present"]
    carried = sorted(set(apt.closure(bare + wanted["wanted"])) - set(apt.closure(bare)))
    fresh = DIRECTORY.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for number, package in enumerate(carried, 1):
        print(f"    {number}/{len(carried)} {package}", flush=True)
        apt.download([package], fresh)
    lines = [f"{digest(path)}  {path.name}\n" for path in sorted(fresh.glob("*.deb"))]
    (fresh / INDEX).write_text("".join(lines))
    (fresh / STAMP).write_text(question)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    fresh.rename(DIRECTORY)
    return len(carried)


def main() -> int:
    question = f"{RELEASE} {digest(LIST)}\n"
    DIRECTORY.parent.mkdir(exist_ok=True)
    with (DIRECTORY.parent / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(question):
            return 0
        try:
            count = fetch(question)
        except HostError as error:
            print(f"make packages: {error}", file=sys.stderr)
            return 2
    print(f"==> {DIRECTORY.relative_to(ROOT)}: {count} packages, listed in {INDEX}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
