# SPDX-License-Identifier: GPL-3.0-or-later
"""Running ``playbooks/preflight.yml`` on a lab, and what it says: findings and checks.

Tests of the wiring enter here with a lab that they have cabled wrong, and compare with a list of
all that is expected: a finding too many is as wrong as one that is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.deployment import PLAYBOOK
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT, node_wires

PREFLIGHT_S_MAX = 120
Found = tuple[str, str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Preflight:
    """What one run of preflight said."""

    code: int
    output: str
    report: dict[str, Any]

    @property
    def findings(self) -> list[Found]:
        """(status, verdict, interfaces, nodes) of each finding, sorted."""
        return sorted(
            (f["status"], f["verdict"], tuple(f["interfaces"]), tuple(f["nodes"]))
            for f in self.report["findings"]
        )

    @property
    def checks(self) -> dict[str, str]:
        """Check to how it ended."""
        return {row["check"]: row["status"] for row in self.report["checks"]}

    def verdicts(self) -> dict[str, str]:
        """Interface to the verdict on it."""
        return {name: each["verdict"] for name, each in self.report["interfaces"].items()}


def command(lab: Lab, *arguments: str, inventory: Path | None = None) -> list[str]:
    """The command line of a run."""
    place = inventory or lab.inventory
    return [str(PLAYBOOK), "-i", str(place), "playbooks/preflight.yml", *arguments]


def preflight(lab: Lab, *arguments: str, inventory: Path | None = None) -> Preflight:
    """Run preflight to its end and read its report."""
    place = lab.plan.build / "preflight"
    for name in ("preflight.json", "preflight.xml"):
        (place / name).unlink(missing_ok=True)
    done = subprocess.run(
        command(lab, "-e", f"preflight_report={place}", *arguments, inventory=inventory),
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PREFLIGHT_S_MAX,
        check=False,
    )
    path = place / "preflight.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    return Preflight(done.returncode, done.stdout + done.stderr, report)


@contextmanager
def miscabled(lab: Lab) -> Iterator[Any]:
    """The lab's patch panel; everything is right again at the end, also if the test fails."""
    try:
        yield lab.patch
    finally:
        lab.patch.mend()
        for node in NODES:
            lab.wires.restore(*node_wires(node))
