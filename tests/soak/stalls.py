# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices when a processor serves nobody: hypervisor, interrupts, a long call inside the kernel.

The soak starts one for each processor, with a higher real-time priority than heart's. When this
process is late, no process could have been in time; its log says so beside what the hearts did.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path

PRIORITY = 60
BEAT_S = 0.01
STALL_S = 0.05
_LOCK_ALL = 3


def watch(processor: int, path: Path) -> None:
    """Add a line to the log for each time that this processor was away for 50 ms or more."""
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    ctypes.CDLL(None).mlockall(_LOCK_ALL)
    while True:
        due = time.monotonic() + BEAT_S
        time.sleep(BEAT_S)
        late = time.monotonic() - due
        if late >= STALL_S:
            line = {"time": round(time.time(), 3), "cpu": processor, "ms": round(late * 1000)}
            with path.open("a") as log:
                log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
