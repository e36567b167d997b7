# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two nodes say of themselves: their status, polled, and the changes noticed in it.

Nothing is decided here; what the pair is worth is measured by the probes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.lab import Lab, LabError
from tests.lab.plan import NODES


class DemoError(Exception):
    """The demonstration cannot go on; the sentence says what was waited for in vain."""


class Pair:
    """The two nodes, and every change of the active one that was seen."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.reigns: list[tuple[str, int]] = []

    def status(self, node: str) -> dict[str, Any]:
        """A node's own view, or nothing while it cannot tell."""
        try:
            done = self.lab.node(node).run(["amaranten-ha", "status", "--json"], timeout_s=10)
            found = json.loads(done.stdout) if done.returncode == 0 else {}
        except (LabError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def look(self) -> dict[str, dict[str, Any]]:
        """Both views; a new reign (another active node, or another epoch) is noted."""
        views = {node: self.status(node) for node in NODES}
        for node, view in views.items():
            if view.get("role") == "active":
                reign = (node, int(view.get("epoch", 0)))
                if not self.reigns or self.reigns[-1] != reign:
                    self.reigns.append(reign)
        return views

    def wait(
        self,
        what: str,
        test: Callable[[dict[str, dict[str, Any]]], bool],
        timeout_s: float,
    ) -> dict[str, dict[str, Any]]:
        """Look until a test holds for both views."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        while True:
            views = self.look()
            if test(views):
                return views
            if time.monotonic_ns() > deadline_ns:
                raise DemoError(f"{what}: not within {timeout_s:g} s; {summary(views)}")
            time.sleep(0.2)


def active_of(views: dict[str, dict[str, Any]]) -> str:
    """The one active node, or an empty string if there is none or more than one."""
    active = [node for node, view in views.items() if view.get("role") == "active"]
    return active[0] if len(active) == 1 else ""


def settled(views: dict[str, dict[str, Any]]) -> bool:
    """One active, one passive, and the spare would take over now."""
    roles = sorted(str(view.get("role")) for view in views.values())
    return roles == ["active", "passive"] and all(view.get("ready") for view in views.values())


def entries_of(view: dict[str, Any]) -> int:
    """How many connections a node holds a copy of."""
    return int(view.get("replica", {}).get("entries", 0))


def summary(views: dict[str, dict[str, Any]]) -> str:
    """Both views in one line, with the reasons why one is not ready."""
    parts = []
    for node, view in views.items():
        if not view:
            parts.append(f"{node} does not answer")
            continue
        reasons = "; ".join(view.get("reasons", []))
        parts.append(f"{node} is {view.get('role')}" + (f" ({reasons})" if reasons else ""))
    return ", ".join(parts)
