# SPDX-License-Identifier: GPL-3.0-or-later
"""Running our own ``site.yml`` on the lab, and telling as it goes what it is at.

The whole output is kept in a file; people see the tasks as they begin, and all of it if it fails.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.lab.plan import ROOT

from .pair import DemoError


def deploy(inventory: Path, log: Path) -> float:
    """Deploy the pair; the seconds that it took."""
    playbook = ROOT / ".venv/bin/ansible-playbook"
    if not playbook.exists():
        raise DemoError(f"{playbook.relative_to(ROOT)} is missing; 'make venv' makes it")
    command = [str(playbook), "-i", str(inventory), "playbooks/site.yml"]
    environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    began_ns = time.monotonic_ns()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.startswith(("TASK [", "PLAY [", "RUNNING HANDLER [")):
                seconds = (time.monotonic_ns() - began_ns) / 1e9
                title = line.rstrip(" *\n")
                print(f"  {seconds:5.1f} s  {title}", flush=True)
    if process.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-40:])
        raise DemoError(f"site.yml exited with {process.returncode}; the end of {log}:\n{tail}")
    return (time.monotonic_ns() - began_ns) / 1e9
