# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes cost: their time on a processor, and their memory, from /proc.

Everybody who bills a contender enters here. Time is in nanoseconds where the kernel keeps them
(schedstat, over all threads), else in ticks of /proc/PID/stat. A process that has ended costs what
it cost when it was last seen, so that a contender whose agent dies is not made cheaper by that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def on_cpu_ns(process: int) -> int:
    """User and system time of a process and all its threads so far; 0 if it is gone."""
    try:
        total = 0
        for thread in Path(f"/proc/{process}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
        return total
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(fields[11]) + int(fields[12])) * TICK_NS


def resident_kib(processes: Iterable[int]) -> int:
    """Memory of some processes that is theirs alone or their share of it (PSS), in KiB."""
    total = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


class Bill:
    """The processor time of some processes, from now on or from their birth."""

    def __init__(self, processes: Iterable[int], from_birth: bool = False) -> None:
        self._begun = {process: 0 if from_birth else on_cpu_ns(process) for process in processes}
        self._seen = dict(self._begun)

    def total_ns(self) -> int:
        """What they have used since the bill was opened."""
        for process in self._seen:
            self._seen[process] = max(self._seen[process], on_cpu_ns(process))
        return sum(self._seen[each] - self._begun[each] for each in self._seen)
