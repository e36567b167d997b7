# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells on disk: one file each, so that an interrupted run goes on and nothing is measured twice.

A cell is a contender, a fault (or a measurement) and a repetition, of one commit. A cell that
failed has a file too, with the reason; it is tried again only when asked for. ``merge`` makes the
one file of a bench that the tables are written from.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.plan import ROOT, BadRequest

BUILD = ROOT / "build/bench"
# What a figure depends on: a commit that touches none of it leaves the cells valid.
SHAPING = ("agent/src", "roles", "plugins", "playbooks", "tests/bench", "tests/lab", "tests/probes")
Record = dict[str, Any]


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def commit() -> str:
    """The last commit that touched what a figure depends on, and whether more has changed."""
    changed = _git("status", "--porcelain", "--", *SHAPING)
    return _git("log", "-1", "--format=%h", "--", *SHAPING) + ("-dirty" if changed else "")


def machine() -> Record:
    """What the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text()
    names = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.machine(),
        "kernel": platform.release(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement, done or to be done."""

    contender: str
    what: str
    repetition: int


class Cells:
    """The cells of one bench at one commit."""

    def __init__(self, bench: str, of_commit: str, build: Path = BUILD) -> None:
        self.bench = bench
        self.commit = of_commit
        self.folder = build / bench
        self.merged = build / f"{bench}.json"

    def path(self, cell: Cell) -> Path:
        """The file of a cell."""
        name = f"{self.commit}_{cell.contender}_{cell.what}_{cell.repetition:02d}.json"
        return self.folder / name

    def find(self, cell: Cell) -> Record | None:
        """What is known of a cell; a file that was cut off in the middle counts as nothing."""
        try:
            found = json.loads(self.path(cell).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def missing(self, wanted: Iterable[Cell], again: bool = False) -> list[Cell]:
        """Which of these are still to be measured; with ``again`` also those that failed."""
        todo = []
        for cell in wanted:
            found = self.find(cell)
            if found is None or (again and found.get("failed")):
                todo.append(cell)
        return todo

    def keep(self, cell: Cell, result: Record | None, failed: str, seconds: float) -> None:
        """Write a cell down, whole or not at all."""
        record = {
            "contender": cell.contender,
            "what": cell.what,
            "repetition": cell.repetition,
            "commit": self.commit,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "seconds": round(seconds, 1),
            "failed": failed,
            "result": result,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.path(cell).with_suffix(".new")
        fresh.write_text(json.dumps(record, indent=1) + "\n")
        fresh.rename(self.path(cell))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse a second bench in this clone: each would disturb what the other measures."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadRequest(
                    "another bench is at work in this clone: wait for its end"
                ) from None
            yield

    def all(self) -> list[Record]:
        """Every cell of this commit that has a file, in a fixed order."""
        found = []
        for path in sorted(self.folder.glob(f"{self.commit}_*.json")):
            try:
                found.append(json.loads(path.read_text()))
            except ValueError:
                continue
        return found

    def _commands(self) -> list[str]:
        """What was called before for the cells of this commit, in that order."""
        try:
            earlier = json.loads(self.merged.read_text())
        except (FileNotFoundError, ValueError):
            return []
        return list(earlier["commands"]) if earlier["commit"] == self.commit else []

    def merge(self, command: str) -> Record:
        """The one file of this bench: all cells, and what they were measured with and on."""
        content = {
            "bench": self.bench,
            "commit": self.commit,
            "commands": list(dict.fromkeys([*self._commands(), command])),
            "machine": machine(),
            "cells": self.all(),
        }
        self.merged.parent.mkdir(parents=True, exist_ok=True)
        self.merged.write_text(json.dumps(content, indent=1) + "\n")
        return content


def interleaved(contenders: Iterable[str], whats: Iterable[tuple[str, int]]) -> list[Cell]:
    """All cells in the order in which they are measured: contenders alternate.

    Repetitions are the outer loop, so that a run that is ended early has something of everything,
    and what the machine does meanwhile hits everybody.
    """
    names, counts = list(contenders), list(whats)
    return [
        Cell(contender, what, repetition)
        for repetition in range(max((count for _what, count in counts), default=0))
        for what, count in counts
        if repetition < count
        for contender in names
    ]
