# SPDX-License-Identifier: GPL-3.0-or-later
"""Small things around sync: conntrack's switches, and a file that is never half.

`sync` enters every second or so. A kernel file that is not there is an answer too, never an error.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from amaranten_ha.core.health import DISK_UNKNOWN

_SYSCTL = Path("/proc/sys/net/netfilter")
_TRIAL_ENDS = ("confirmed", "reverted")


def conntrack_trouble() -> str:
    """Return why this kernel cannot tell about its connections, an empty text if it can."""
    events = _SYSCTL / "nf_conntrack_events"
    if not _SYSCTL.exists() or not (_SYSCTL / "nf_conntrack_count").exists():
        return "this kernel tracks no connections: is nf_conntrack loaded?"
    if not events.exists():
        return "this kernel cannot tell about connections: CONFIG_NF_CONNTRACK_EVENTS is missing"
    if events.read_text().strip() == "0":
        return "net.netfilter.nf_conntrack_events is 0: expected 1"
    return ""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a complete one: who reads it, also after a power cut, reads old or new."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def disk_permille(path: Path) -> int:
    """Return how much of a file system is free for us, in thousandths, rounded down."""
    with contextlib.suppress(OSError):
        found = os.statvfs(path)
        if found.f_blocks:
            return found.f_bavail * 1000 // found.f_blocks
    return DISK_UNKNOWN


class Surroundings:
    """What sync tells heart of this node beside the replica: heart itself touches no disk."""

    def __init__(self, state: Path, trial: Path) -> None:
        self._state, self._trial = state, trial
        self._seen: tuple[int, int] | None = None
        self._phase = ""

    def learn(self) -> dict[str, Any]:
        """Look; the values go into sync's next report."""
        return {"disk_permille": disk_permille(self._state), "trial": self._trial_phase()}

    def _trial_phase(self) -> str:
        """Return the phase of a ruleset's trial while it is one, else an empty text.

        The file holds two whole rulesets, so it is read only when it was replaced.
        """
        try:
            found = self._trial.stat()
            seen = found.st_ino, found.st_mtime_ns
            if seen != self._seen:
                phase = str(json.loads(self._trial.read_text(encoding="utf-8"))["phase"])
                self._seen, self._phase = seen, "" if phase in _TRIAL_ENDS else phase
        except (OSError, ValueError, KeyError, TypeError):
            self._seen, self._phase = None, ""
        return self._phase


class EpochFile:
    """The epochs across a reboot; heart itself never touches a disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, int] = {}

    def remember(self, said: dict[str, Any]) -> None:
        """Write what heart says, if it is news."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            epoch = {"epoch": int(said["epoch"]), "last_active": int(said["last_active"])}
            if epoch != self._kept:
                write_atomically(self._path, json.dumps(epoch) + "\n")
                self._kept = epoch


def memory_kib() -> int:
    """Return how much memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
