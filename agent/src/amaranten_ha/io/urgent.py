# SPDX-License-Identifier: GPL-3.0-or-later
"""The right to run before everybody else, taken as the first thing that heart does.

The door of the archive enters before it imports heart, so that a start is as quick on a busy
machine as on an idle one: a node without a heartbeat is a node without a spare. It imports nothing
of ours.
"""

from __future__ import annotations

import os

_FIFO_PRIORITY = 50
_RESET_ON_FORK = 0x40000000


def take_precedence() -> str:
    """Take SCHED_FIFO, for this process and not for its children; return a refusal in words."""
    try:
        scheduler = os.SCHED_FIFO | _RESET_ON_FORK
        os.sched_setscheduler(0, scheduler, os.sched_param(_FIFO_PRIORITY))
    except OSError as error:
        return f"no real-time scheduling: {error.strerror}"
    return ""
