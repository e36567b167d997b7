# SPDX-License-Identifier: GPL-3.0-or-later
"""One node: starting it, killing it at once and entirely, and running programs inside it.

A node is a container whose every process is in one control group; that group is what is asked
whether the node runs, and what is killed. Programs are started through the node's namespaces,
not over SSH, so that they work while the node's networks are broken.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from .plan import ROOT, LabError, Plan, address, wire_of
from .shell import CLEAN_ENVIRONMENT, poll, run

MANAGEMENT = """[Match]
Name={device}

[Network]
Address={ipv4}
Address={ipv6}
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
"""


def cgroup_tree() -> Path:
    """Where this machine mounts the control groups of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, place, kind = line.split()[:3]
        if kind == "cgroup2":
            return Path(place)
    raise LabError("this machine mounts no cgroup2 file system; the lab needs one")


class Machine:
    """A node of the lab, running or not."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan = plan
        self.name = name

    # Disk ----------------------------------------------------------------------------------

    @property
    def disk(self) -> Path:
        """What the node wrote, below ``upper``."""
        return self.plan.disk(self.name)

    def make_disk(self, host_key: Path, login_key: str) -> None:
        """A new disk: the image, an identity, one login key, one managed interface."""
        upper = self.disk / "upper"
        for folder in (upper, self.disk / "work", self.disk / "root"):
            folder.mkdir(parents=True, exist_ok=True)
        upper.chmod(0o755)
        _write(upper, "etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444)
        _write(upper, "etc/hostname", f"{self.name}\n")
        _write(upper, "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n")
        _write(upper, "etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
        _write(upper, "root/.ssh/authorized_keys", f"{login_key}\n", 0o600)
        (upper / "root").chmod(0o700)
        (upper / "root/.ssh").chmod(0o700)
        text = MANAGEMENT.format(
            device=wire_of(self.name, "mgmt").device,
            ipv4=address(self.name, "mgmt"),
            ipv6=address(self.name, "mgmt", 6),
        )
        _write(upper, "etc/systemd/network/10-management.network", text)

    def remove_disk(self) -> None:
        """Forget everything that the node ever wrote."""
        if self.disk.exists():
            shutil.rmtree(self.disk)

    # Power ---------------------------------------------------------------------------------

    @property
    def cgroup(self) -> Path:
        """The control group of everything that belongs to the node."""
        return cgroup_tree() / self.plan.cgroup(self.name)

    def start(self, image: Path) -> None:
        """Begin to boot; the node's namespace must exist."""
        self._remove_cgroup()
        group = self.cgroup / "keeper"
        group.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.lab.keeper", self.plan.prefix, self.name]
        log = (self.disk / "keeper.log").open("ab")
        with log:
            keeper = subprocess.Popen(
                [*command, str(image)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # What kills the node ends its keeper too.
        (group / "cgroup.procs").write_text(str(keeper.pid))
        poll(f"{self.name}: the container's first process", lambda: self.leader() != 0, 20)

    def running(self) -> bool:
        """Whether any process of the node lives."""
        try:
            return "populated 1" in (self.cgroup / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def kill_everything(self) -> None:
        """SIGKILL to every process of the node at once, and wait until they are gone."""
        if self.running():
            (self.cgroup / "cgroup.kill").write_text("1")
        poll(f"{self.name}: the end of its processes", lambda: not self.running(), 20)
        self._remove_cgroup()

    def _remove_cgroup(self) -> None:
        if not self.cgroup.exists():
            return
        folders = [Path(place) for place, _folders, _files in os.walk(self.cgroup)]
        for folder in sorted(folders, key=lambda path: -len(path.parts)):
            folder.rmdir()

    def leader(self) -> int:
        """The process that is number 1 in the node, or 0."""
        try:
            for group in (self.cgroup / "payload/init.scope", self.cgroup / "payload"):
                for process, inner in _processes(group):
                    if inner == 1:
                        return process
        except FileNotFoundError:
            pass
        return 0

    def log(self, lines: int = 15) -> str:
        """The end of what the container and its keeper had to say."""
        text = ""
        for name in ("console.log", "keeper.log"):
            path = self.disk / name
            if path.exists():
                text += "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
        return text

    # Programs ------------------------------------------------------------------------------

    def command(self, words: list[str]) -> list[str]:
        """What to start on this machine so that ``words`` runs inside the node."""
        leader = self.leader()
        if not leader:
            raise LabError(f"{self.name} is powered off")
        return ["nsenter", "--target", str(leader), "--all", "--", *words]

    def run(
        self, words: list[str], *, given: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside the node to its end; its failure is the caller's to judge."""
        command = self.command(words)
        environment = CLEAN_ENVIRONMENT
        return run(command, given=given, check=False, timeout_s=timeout_s, environment=environment)

    def popen(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program inside the node."""
        options.setdefault("env", CLEAN_ENVIRONMENT)
        return subprocess.Popen(self.command(words), text=True, **options)

    def deliver(self, folder: Path, place: str) -> None:
        """Copy the files of a folder of this machine into a folder of the node."""
        leader = self.leader()
        if not leader:
            raise LabError(f"{self.name} is powered off")
        target = Path(f"/proc/{leader}/root") / place.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if file.is_file():
                (target / file.name).write_bytes(file.read_bytes())

    def pid_of_unit(self, unit: str) -> int:
        """The main process of a unit, by the number that this machine knows it by, or 0."""
        shown = self.run(["systemctl", "show", "--property=MainPID,ControlGroup", unit]).stdout
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        main = int(values.get("MainPID") or 0)
        if not main:
            return 0
        group = self.cgroup / "payload" / values["ControlGroup"].lstrip("/")
        return next((pid for pid, inner in _processes(group) if inner == main), 0)

    def kill(self, unit: str, number: int | signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the main process of a unit; the process it went to."""
        process = self.pid_of_unit(unit)
        if not process:
            raise LabError(f"{self.name}: {unit} has no main process")
        os.kill(process, number)
        return process

    def wait_for(self, words: list[str], timeout_s: float = 30, every_s: float = 0.1) -> None:
        """Repeat a program inside the node until it succeeds."""
        what = f"{self.name}: {' '.join(words)}"
        poll(what, lambda: self.run(words).returncode == 0, timeout_s, every_s)


def _processes(group: Path) -> list[tuple[int, int]]:
    """The processes of a control group: outer and innermost number of each."""
    found = []
    for process in (group / "cgroup.procs").read_text().split():
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
        found.append((int(process), int(inner)))
    return found


def _write(root: Path, name: str, text: str, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
