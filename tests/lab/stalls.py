# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices when a processor serves nobody: hypervisor, interrupts, a long call inside the kernel.

Soak and drills enter with `watching`: one process for each processor, with a higher real-time
priority than heart's. When it is late, no process could have been in time; its log says so beside
what was measured.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIORITY = 60
_LOCK_ALL = 3
_END_S = 5
LOG = "stalls.jsonl"


@contextmanager
def watching(path: Path, beat_ms: int, stall_ms: int) -> Iterator[None]:
    """Add a line to the log for each time that a processor was away for so long."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-I", __file__]
    words = [str(path), str(beat_ms), str(stall_ms)]
    watchers = [subprocess.Popen([*command, str(each), *words]) for each in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for watcher in watchers:
            watcher.terminate()
        for watcher in watchers:
            watcher.wait(_END_S)


def all_ms(path: Path) -> list[float]:
    """The times in a log, in milliseconds."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [float(json.loads(line)["ms"]) for line in lines]


def watch(processor: int, path: Path, beat_s: float, stall_s: float) -> None:
    """Watch one processor until the end."""
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    ctypes.CDLL(None).mlockall(_LOCK_ALL)
    while True:
        due = time.monotonic() + beat_s
        time.sleep(beat_s)
        late = time.monotonic() - due
        if late >= stall_s:
            line = {"time": round(time.time(), 3), "cpu": processor, "ms": round(late * 1000, 1)}
            with path.open("a") as log:
                log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) / 1000, int(sys.argv[4]) / 1000)
