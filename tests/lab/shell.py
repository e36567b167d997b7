# SPDX-License-Identifier: GPL-3.0-or-later
"""Running other programs: the one way in which this package does it, and says so.

A command that must succeed goes through ``run``; what takes long is announced by ``say``. No
command is ever given to a shell, and none waits for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .plan import LabError

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
}


def say(text: str) -> None:
    """Tell the operator what is going on."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce something that takes a while, and say how long it took."""
    say(f"lab: {text} ...")
    began_ns = time.monotonic_ns()
    yield
    say(f"lab: {text}: done in {(time.monotonic_ns() - began_ns) / 1e9:.1f} s")


def run(
    command: list[str],
    *,
    given: str | None = None,
    check: bool = True,
    timeout_s: float = 60,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it said; its failure is a ``LabError``."""
    variables = {**os.environ, "LC_ALL": "C.UTF-8"} if environment is None else environment
    try:
        done = subprocess.run(
            command,
            input="" if given is None else given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env=variables,
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} took longer than {timeout_s} s") from None
    if check and done.returncode != 0:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise LabError(f"{' '.join(command)} exited with {done.returncode}: {tail}")
    return done


def poll(what: str, test: Callable[[], bool], timeout_s: float, every_s: float = 0.05) -> None:
    """Wait until a test holds, or fail with what was waited for."""
    deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
    while not test():
        if time.monotonic_ns() > deadline_ns:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)
