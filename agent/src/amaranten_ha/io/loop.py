# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that is never late: real-time scheduling, locked memory, one timer to the nanosecond.

Heart enters at its start. What the kernel refuses is returned in words, for the status: an agent
without real time still works, and its lateness is measured all the same.
"""

from __future__ import annotations

import ctypes
import gc
import os
import struct
import time

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.io.urgent import take_precedence

_MCL_CURRENT_AND_FUTURE = 3
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_TFD_ABSTIME = 1
_ITIMERSPEC = struct.Struct("qqqq")

_libc = ctypes.CDLL(None, use_errno=True)


def become_real_time() -> list[str]:
    """Take SCHED_FIFO, lock the memory and freeze the heap; return what was refused, in words.

    The garbage collector is switched off for good: the program makes no cycles, and its memory is
    measured by a test.
    """
    refusals = [refusal] if (refusal := take_precedence()) else []
    if _libc.mlockall(_MCL_CURRENT_AND_FUTURE):
        refusals.append(f"memory not locked: {os.strerror(ctypes.get_errno())}")
    gc.collect()
    gc.freeze()
    gc.disable()
    return refusals


class Timer:
    """A timerfd on the monotonic clock; the loop waits for it beside the sockets."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise KernelRefused(f"timerfd: {os.strerror(ctypes.get_errno())}")
        self.at_ns = time.monotonic_ns()

    def fileno(self) -> int:
        """Return the descriptor, for the loop."""
        return self._descriptor

    def arm(self, at_ns: int) -> None:
        """Fire once at this time, or at once if it has passed."""
        self.at_ns = at_ns
        at_ns = max(at_ns, 1)
        value = _ITIMERSPEC.pack(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
        _libc.timerfd_settime(self._descriptor, _TFD_ABSTIME, value, None)
