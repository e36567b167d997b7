# SPDX-License-Identifier: GPL-3.0-or-later
"""A place without a system of its own: the client, the server, the dmz host, the switch.

Programs run on this machine's file system and in the place's network namespace, nothing else.
"""

from __future__ import annotations

import subprocess
from typing import Any

from .plan import Plan
from .shell import run


class Host:
    """One network namespace of the lab in which programs can be run."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name

    def command(self, words: list[str]) -> list[str]:
        """What to start on this machine so that ``words`` runs in the host's network."""
        return ["nsenter", f"--net={self.plan.namespace_path(self.name)}", "--", *words]

    def run(
        self, words: list[str], *, given: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its failure is the caller's to judge."""
        return run(self.command(words), given=given, check=False, timeout_s=timeout_s)

    def popen(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program; its process is the program itself and can be signalled."""
        return subprocess.Popen(self.command(words), text=True, **options)

    def pin_neighbour(self, address: str, mac: str, device: str = "eth0") -> None:
        """Make a neighbour entry permanent: this host will follow no announcement."""
        words = ["ip", "neighbour", "replace", address, "lladdr", mac, "dev", device]
        run(self.command([*words, "nud", "permanent"]))

    def unpin_neighbour(self, address: str, device: str = "eth0") -> None:
        """Let the host learn again who has an address."""
        run(self.command(["ip", "neighbour", "delete", address, "dev", device]))

    def neighbour(self, address: str, device: str = "eth0") -> str:
        """The hardware address the host would send to for an address, or an empty string."""
        words = ["ip", "-o", "neighbour", "show", "to", address, "dev", device]
        found = run(self.command(words)).stdout.split()
        return found[found.index("lladdr") + 1] if "lladdr" in found else ""
