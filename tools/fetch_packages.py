#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make packages`: the .deb files that a bare node needs and cannot fetch itself.

What tools/node-packages.txt wants, minus what a bare node has; with the argument `test` or `bench`,
the same for the list of that name, into a directory of its own. A directory that already holds what
the list asks for, unharmed, is left alone; what is fetched comes with a list of digests. This
machine's own packages stay as they are.
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
LISTS = {
    "node": (ROOT / "tools/node-packages.txt", ROOT / "build/packages"),
    "test": (ROOT / "tools/test-packages.txt", ROOT / "build/packages-test"),
    "bench": (ROOT / "tools/bench-packages.txt", ROOT / "build/packages-bench"),
}
INDEX = "SHA256SUMS"
STAMP = ".stamp"


def read_list(path: Path) -> dict[str, tuple[str, ...]]:
    """The lines of the list: what is wanted, what a bare node has, what it lacks all the same."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {key: tuple(words.split()) for key, words in (line.split(": ") for line in lines)}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_complete(directory: Path, question: str) -> bool:
    """Does the directory hold what the list asks for, each file as it was fetched?"""
    stamp, index = directory / STAMP, directory / INDEX
    if not (stamp.is_file() and index.is_file() and stamp.read_text() == question):
        return False
    for line in index.read_text().splitlines():
        expected, name = line.split("  ")
        file = directory / name
        if not file.is_file() or digest(file) != expected:
            return False
    return True


def fetch(path: Path, directory: Path, question: str) -> int:
    """Fetch everything into a new directory, then put it in place; the number of packages."""
    wanted = read_list(path)
    print(f"==> fetching {' '.join(wanted['wanted'])} and what they need, for Debian {RELEASE}")
    apt = AptRoot(ROOT / "build/apt" / RELEASE, RELEASE)
    apt.prepare()
    bare = apt.standard() + wanted["present"]
    brought = set(apt.closure(bare + wanted["wanted"])) - set(apt.closure(bare))
    carried = sorted(brought | set(wanted.get("absent", ())))
    fresh = directory.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for number, package in enumerate(carried, 1):
        print(f"    {number}/{len(carried)} {package}", flush=True)
        apt.download([package], fresh)
    lines = [f"{digest(path)}  {path.name}\n" for path in sorted(fresh.glob("*.deb"))]
    (fresh / INDEX).write_text("".join(lines))
    (fresh / STAMP).write_text(question)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    return len(carried)


def main(name: str = "node") -> int:
    if name not in LISTS:
        print(f"fetch_packages: {name!r}: expected one of {', '.join(LISTS)}", file=sys.stderr)
        return 2
    path, directory = LISTS[name]
    question = f"{RELEASE} {digest(path)}\n"
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(directory, question):
            return 0
        try:
            count = fetch(path, directory, question)
        except HostError as error:
            print(f"make packages: {error}", file=sys.stderr)
            return 2
    print(f"==> {directory.relative_to(ROOT)}: {count} packages, listed in {INDEX}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
