# SPDX-License-Identifier: GPL-3.0-or-later
"""Run each asked-for check in a process and a network namespace of its own; report JSON lines.

Enter with the descriptor of the line to the outside. A check passes by returning, fails by
raising, and may return a sentence (a measured fact) that is reported with it. Whatever a check
leaves running is ended before the next one begins.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from . import net

Check = Callable[[], str | None]

PLAN = Path("/project/plan.json")


def run(line: int) -> None:
    """The whole plan, one line when ready and one for each check."""
    plan = json.loads(PLAN.read_text())
    _tell(line, {"kernel": platform.release(), "python": platform.python_version()})
    # Imported before the fork: the emulated machine compiles each module once, not once a check.
    checks = {name: _find(plan["folder"], name) for name in plan["checks"]}
    prepared: set[str] = set()
    for name, check in checks.items():
        started_ns = time.monotonic_ns()
        _tell(line, {"started": name})
        room = name.split(".")[0]
        if room not in prepared:
            prepared.add(room)
            _prepare(plan["folder"], room)
        outcome, text = run_one(check, plan["check_timeout_s"])
        spent_ms = (time.monotonic_ns() - started_ns) // 1_000_000
        _tell(line, {"check": name, "outcome": outcome, "ms": spent_ms, "text": text})
    _tell(line, {"finished": True})


def _tell(line: int, message: dict[str, object]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(line, data) :]


def _find(folder: str, name: str) -> Check:
    """The check's function; a module that cannot be imported fails each of its checks."""
    room, function = name.split(".")
    try:
        module = importlib.import_module(f"..{folder}.{room}", package=__package__)
        found: Check = getattr(module, f"check_{function}")
    except Exception:  # noqa: BLE001  told by the check itself, the others must still run
        told = traceback.format_exc()

        def broken() -> str | None:
            raise ImportError(told)

        return broken
    return found


def _prepare(folder: str, room: str) -> None:
    """What the checks of one room share, if it wants to; they find it after their fork.

    A room that cannot be prepared is told by its checks, which miss what they need.
    """
    module = sys.modules.get(f"{__package__.rpartition('.')[0]}.{folder}.{room}")
    prepare = getattr(module, "prepare", None)
    if prepare is not None:
        try:
            prepare()
        except Exception:  # noqa: BLE001  see above
            traceback.print_exc()


def run_one(check: Check, timeout_s: int) -> tuple[str, str]:
    """Run one check in a process of its own; whether it passed, and what it said."""
    report = os.memfd_create("report", os.MFD_CLOEXEC)
    child = os.fork()
    if child == 0:
        _be_the_check(check, report)
    handle = os.pidfd_open(child)
    ended, _writable, _broken = select.select([handle], [], [], timeout_s)
    os.close(handle)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the check left behind, or the check itself
    _child, status = os.waitpid(child, 0)
    text = os.pread(report, os.fstat(report).st_size, 0).decode(errors="replace")
    os.close(report)
    if not ended:
        return "failed", f"no end after {timeout_s} s\n{text}"
    if os.waitstatus_to_exitcode(status) == 0:
        return "passed", text
    return "failed", text or f"the check's process ended with status {status}"


def _be_the_check(check: Check, report: int) -> None:
    """Never returns: the check's own process."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.dup2(report, 1)
        os.dup2(report, 2)
        sys.stdout.reconfigure(line_buffering=True)
        net.enter_new()
        said = check()
        if said:
            print(said)
        code = 0
    except BaseException:  # noqa: BLE001  the report must be written, whatever was raised
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
