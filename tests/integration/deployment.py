# SPDX-License-Identifier: GPL-3.0-or-later
"""Running ``playbooks/site.yml`` on a lab the way an operator does, and reading what it said.

Tests enter with a lab; a deployment is a process of its own, and what it left on the nodes is read
from the nodes. Nothing here knows how the roles do it.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

PLAYBOOK = ROOT / ".venv/bin/ansible-playbook"
SITE_S_MAX = 600
# Where a controller may die: a task begins, or a host has changed in one.
BOUNDARY = re.compile(r"(TASK|RUNNING HANDLER) \[|changed: \[")
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)", re.MULTILINE)

# What a node is, as far as a deployment could change it: files, packages, units, addresses, rules.
SNAPSHOT = r"""
find /etc /usr/lib/amaranten-ha /var/lib/amaranten-ha /usr/sbin /lib/modules-load.d \
    -xdev \( -type f -o -type l \) -printf '%p %s %T@ %l\n' 2>/dev/null | sort
dpkg-query -W
systemctl list-unit-files --no-legend --no-pager
ip -o address show | sed 's/ tentative//; s/valid_lft.*//' | grep -v 'inet6 fe80'
ip route show; ip -6 route show
nft -s list ruleset 2>/dev/null
sysctl net.ipv4.conf net.ipv6.conf net.netfilter 2>/dev/null | grep -v -e _count -e _secret
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one ansible-playbook said and left as its exit code."""

    code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks by node, from the recap; what looks at the inventory alone is no node."""
        found = {host: int(changed) for host, _ok, changed in RECAP.findall(self.output)}
        return {host: changed for host, changed in found.items() if host in NODES}

    @property
    def changed_on_nodes(self) -> int:
        """Changed tasks on both nodes together."""
        return sum(self.changed.values())

    @property
    def boundaries(self) -> list[str]:
        """The lines at which the controller can be made to die."""
        return [line for line in self.output.splitlines() if BOUNDARY.match(line)]

    def end(self) -> str:
        """The end of the output, for an assertion's message."""
        return "\n".join(self.output.splitlines()[-40:])


def chosen(said: str, count: int) -> list[int]:
    """The boundaries from 1 to count that somebody named, as in "12,30-33"; all if nobody did.

    Raises ValueError, in a sentence, if it names anything else.
    """
    if not said:
        return list(range(1, count + 1))
    found: set[int] = set()
    for part in said.split(","):
        first, _dash, last = part.strip().partition("-")
        numbers = (first, last or first)
        if not all(each.isdecimal() for each in numbers):
            raise ValueError(f"BOUNDARIES has {part!r}, expected numbers as in 12,30-33")
        low, high = map(int, numbers)
        if not 1 <= low <= high <= count:
            raise ValueError(f"BOUNDARIES has {part!r}, expected numbers from 1 to {count}")
        found.update(range(low, high + 1))
    return sorted(found)


def deploy(
    lab: Lab,
    *arguments: str,
    inventory: Path | None = None,
    at: tuple[str, Callable[[], None]] | None = None,
) -> Run:
    """Run site.yml on a lab; `at` is a word of its output at which something happens."""
    return play(lab, "site", *arguments, inventory=inventory, at=at)


def play(
    lab: Lab,
    name: str,
    *arguments: str,
    inventory: Path | None = None,
    at: tuple[str, Callable[[], None]] | None = None,
    die_at: str | int = "",
    root: Path = ROOT,
) -> Run:
    """Run a playbook of the collection on a lab, as `deploy` does.

    At the line of its output that holds `die_at`, or at the boundary of this number, from 1, the
    controller is killed with all its processes.
    `root` is another copy of the collection.
    """
    command = [str(PLAYBOOK), "-i", str(inventory or lab.inventory), f"playbooks/{name}.yml"]
    with subprocess.Popen(
        [*command, *arguments],
        cwd=root,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        timer = threading.Timer(SITE_S_MAX, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            lines: list[str] = []
            passed = 0
            for line in process.stdout:
                lines.append(line)
                passed += BOUNDARY.match(line) is not None
                if at and at[0] in line:
                    at[1]()
                    at = None
                if die_at and (die_at in line if isinstance(die_at, str) else passed == die_at):
                    os.killpg(process.pid, signal.SIGKILL)
                    die_at = ""
        finally:
            timer.cancel()
    assert at is None and not die_at, f"never said: {die_at or at}: {''.join(lines[-40:])}"
    return Run(process.returncode, "".join(lines))


def snapshot(lab: Lab) -> dict[str, list[str]]:
    """Both nodes as a deployment finds them."""
    return {node: lab.node(node).run(["sh", "-c", SNAPSHOT]).stdout.splitlines() for node in NODES}


def varied(lab: Lab, name: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The lab's inventory with something else in it: change(hosts, ha_cluster)."""
    tree = copy.deepcopy(yaml.safe_load(lab.inventory.read_text()))
    group = tree["all"]["children"]["firewalls"]
    change(group["hosts"], group["vars"]["ha_cluster"])
    # Beside the original: it refers to files in its own directory.
    path = lab.inventory.with_name(f"inventory-{name}.yml")
    path.write_text(yaml.safe_dump(tree))
    return path
