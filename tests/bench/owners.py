# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owned lan's shared address when: every change, as the nodes' kernels announced it.

A failover cell enters; from the changes it reads the switches that nobody asked for and the time
for which two nodes owned the address. A poll would miss what lasts a few milliseconds.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab import Lab
from tests.lab.plan import NODES, shared_addresses

from .contenders import owners

ADDRESS = shared_addresses("lan")[0].partition("/")[0]


@dataclass(frozen=True, slots=True)
class Change:
    """A node got the shared address, or lost it."""

    at_ns: int
    node: str
    got: bool


class Owners:
    """A record that is being kept; leave the ``with`` block, then read ``changes``."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.changes: list[Change] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Owners:
        for node in NODES:
            self.follow(node)
        time.sleep(0.1)
        now_ns = time.monotonic_ns()
        self.changes += [Change(now_ns, node, True) for node in owners(self.lab)]
        return self

    def __exit__(self, *_details: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for reader in self._readers:
            reader.join()
        self.changes.sort(key=lambda change: change.at_ns)

    def follow(self, node: str) -> None:
        """Listen to a node's kernel; again after each boot, for it is a new one."""
        process = subprocess.Popen(
            ["ip", "-n", self.lab.plan.namespace(node), "-o", "monitor", "address"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        reader = threading.Thread(target=self._read, args=(process, node), daemon=True)
        reader.start()
        self._processes.append(process)
        self._readers.append(reader)

    def lost_power(self, node: str, at_ns: int) -> None:
        """A node whose ports are silent owns nothing, whatever its kernel would say."""
        self.changes.append(Change(at_ns, node, False))

    def _read(self, process: subprocess.Popen[str], node: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if f" {ADDRESS}/" in line:
                got = not line.startswith("Deleted")
                self.changes.append(Change(time.monotonic_ns(), node, got))


def taken(changes: Iterable[Change], from_ns: int, to_ns: int) -> int:
    """How often a node got the address in a period, having had it not."""
    holding: set[str] = set()
    count = 0
    for change in sorted(changes, key=lambda each: each.at_ns):
        if change.got and change.node not in holding and from_ns <= change.at_ns < to_ns:
            count += 1
        (holding.add if change.got else holding.discard)(change.node)
    return count


def owned_by_two_ms(changes: Iterable[Change], from_ns: int, to_ns: int) -> float:
    """For how long more than one node owned the address in a period."""
    holding: set[str] = set()
    total_ns, since_ns = 0, from_ns
    for change in sorted(changes, key=lambda each: each.at_ns):
        at_ns = min(max(change.at_ns, from_ns), to_ns)
        if len(holding) > 1:
            total_ns += at_ns - since_ns
        since_ns = at_ns
        (holding.add if change.got else holding.discard)(change.node)
    if len(holding) > 1:
        total_ns += to_ns - since_ns
    return round(total_ns / 1e6, 1)
