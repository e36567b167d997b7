# SPDX-License-Identifier: GPL-3.0-or-later
"""An announced restart: the same process begins anew with what is on the disk now.

Heart enters twice: at the end of one life, with what the next one needs to go on as the active
node, and at the start of each life, to find that. It is left in the environment of this very
process, so it cannot outlive the boot or reach another one. SIGTERM waits until somebody listens.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from amaranten_ha.core.orders import Resume

_VARIABLE = "AMARANTEN_HA_RESUME"
_NOTIFY = "NOTIFY_SOCKET"


def take() -> Resume | None:
    """Return what the life before left, once; None if it left nothing."""
    left = os.environ.pop(_VARIABLE, "")
    if not left:
        return None
    found = json.loads(left)
    return Resume(int(found["epoch"]), int(found["standing"]), int(found["until_ns"]))


def listen() -> None:
    """Let SIGTERM through again, now that it is handled."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


def begin(resume: Resume | None, notify_path: str) -> None:
    """Begin anew; returns only if the kernel refused it, with OSError."""
    environment = dict(os.environ)
    if notify_path:
        environment[_NOTIFY] = notify_path
    if resume is not None:
        environment[_VARIABLE] = json.dumps(
            {"epoch": resume.epoch, "standing": resume.standing, "until_ns": resume.until_ns}
        )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    except OSError:
        listen()
        raise
