# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a pair is whole after a drill, and whether the drill left anything anywhere.

The campaign enters after each run. Nothing is repaired here: what is left is said, in sentences.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from tests.integration import steps
from tests.lab import Lab, LabError
from tests.lab.plan import HOSTS, NODES

LOCK = "/run/amaranten-ha-drill.lock"
PROBES = re.compile(r"echo\.py|udp_probe\.py|tcp_\w+\.py|wire_tap\.py|clock\.py")
LEFT = (
    ("the table of a fault", "nft list tables | grep amaranten_ha_drill"),
    ("a timer or unit", "systemctl list-units --all --no-legend 'amaranten-ha-drill*' | grep ."),
    ("a file of routes", "ls /run/amaranten-ha-drill* | grep -v lock"),
    ("the lock", f"[ -e {LOCK} ] && ! flock -n {LOCK} true && echo held"),
    # The brackets keep the pattern from finding its own shell.
    ("a program", "pgrep -af '[n]ode_watch.py|[c]lock.py' | cut -c 1-80 | grep ."),
    ("a stopped heart", "ps -e -o stat=,args= | grep '^T.*hear[t]'"),
)  # fmt: skip


def left_on(lab: Lab, node: str) -> list[str]:
    """What of a drill is on a node."""
    found = []
    for what, command in LEFT:
        try:
            done = lab.node(node).run(["sh", "-c", f"{{ {command}; }} 2>/dev/null"])
        except LabError as problem:
            return [f"{node}: {problem}"]
        if done.returncode == 0:
            found.append(f"{node}: {what}: {' '.join(done.stdout.split())}")
    return found


def left_here(lab: Lab) -> list[str]:
    """The probes and the guards of a drill that still run on this machine."""
    found = []
    for host in HOSTS:
        listed = lab.host(host).run(["ip", "netns", "pids", lab.plan.namespace(host)])
        for pid in listed.stdout.split():
            words = command_line(int(pid))
            if PROBES.search(words):
                found.append(f"{host}: {words[:120]}")
    guard = f"--prefix {lab.plan.prefix}"
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            words = command_line(int(path.name))
            if words.startswith("/bin/sh -c said=$(timeout") and guard in words:
                found.append(f"controller: the guard of the power: {path.name}")
    return found


def command_line(pid: int) -> str:
    """The words of a process; nothing if it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.decode("utf-8", "replace").replace("\0", " ")


def addressing(lab: Lab, node: str) -> list[str]:
    """The addresses and routes of a node; one that is being tried out is there."""
    return [line.replace(" tentative", "") for line in steps.addressing(lab, node)]


def whole(lab: Lab, seconds: float) -> list[str]:
    """Wait until the pair is ready and nothing is left; what is not so after that time."""
    deadline = time.monotonic() + seconds
    while True:
        problems = []
        try:
            steps.ready(lab, 1)
        except AssertionError as problem:
            problems.append(f"the pair is not ready: {roles_of(lab)}: {str(problem)[:300]}")
        for node in NODES:
            problems += left_on(lab, node)
        problems += left_here(lab)
        if not problems or time.monotonic() > deadline:
            return problems
        time.sleep(0.5)


def roles_of(lab: Lab) -> str:
    """Both roles, for a sentence."""
    return ", ".join(f"{node} {role}" for node, role in steps.roles(lab).items())
