# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot one guest with the project's present source and collect what its checks report.

Enter with ``boot``; it returns when the guest has switched itself off or was ended because its
time was up, and always has an answer for every check. The emulator is the only process that is
ever ended here, by its own id.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import archive, recipe
from .guest import init
from .image import QEMU, Image


@dataclass(frozen=True, slots=True)
class Ground:
    """Which folder's functions a guest runs, on what, and when it is ended as hung."""

    folder: str
    memory_mb: int
    processors: int
    guest_timeout_s: int
    check_timeout_s: int


CHECKS = Ground("checks", memory_mb=640, processors=1, guest_timeout_s=900, check_timeout_s=300)
"""Function is tested, not timing."""
FIGURES = Ground(
    "figures", memory_mb=6144, processors=2, guest_timeout_s=3600, check_timeout_s=3000
)
"""What the lab's kernel cannot hold; measured against itself, since an emulation is slow."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one check did in one guest."""

    passed: bool
    text: str
    spent_ms: int = 0


@dataclass(slots=True)
class Session:
    """Everything that one guest said."""

    results: dict[str, Result] = field(default_factory=dict)
    limit_s: int = CHECKS.guest_timeout_s
    running: str = ""
    kernel: str = ""
    python: str = ""
    finished: bool = False
    timed_out: bool = False
    console: Path = Path()

    def hear(self, line: bytes) -> None:
        """Take one line of the guest's report."""
        message = json.loads(line)
        if "kernel" in message:
            self.kernel, self.python = message["kernel"], message["python"]
        elif "started" in message:
            self.running = message["started"]
        elif "check" in message:
            passed = message["outcome"] == "passed"
            self.results[message["check"]] = Result(passed, message["text"], message["ms"])
            self.running = ""
        elif "finished" in message:
            self.finished = True

    def result(self, check: str) -> Result:
        """The check's own result, or why there is none."""
        if check in self.results:
            return self.results[check]
        if self.timed_out:
            why = f"the guest was ended after {self.limit_s} s"
        else:
            why = "the guest went down"
        if self.running:
            why += f" while {self.running} was running"
        tail = "\n".join(self.console.read_text(errors="replace").splitlines()[-25:])
        return Result(False, f"{why}, before {check} reported; its console ended with:\n{tail}")


def functions(folder: str) -> list[str]:
    """``room.name`` of each ``check_name`` in ``folder/room.py``, without importing it."""
    found = []
    for path in sorted((recipe.HERE / folder).glob("[!_]*.py")):
        found += [
            f"{path.stem}.{node.name.removeprefix('check_')}"
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
        ]
    return found


def boot(image: Image, checks: Sequence[str], work: Path, ground: Ground = CHECKS) -> Session:
    """Run ``checks`` in one guest; ``work`` is a directory of its own for this run."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    session = Session(console=work / "console.txt", limit_s=ground.guest_timeout_s)
    session.console.touch()
    root = work / "root.cpio"
    _assemble(image, checks, root, ground)
    with open(work / "qemu.txt", "wb") as complaints:
        guest = subprocess.Popen(
            _command(image, root, session.console, ground),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
    alarm = threading.Timer(ground.guest_timeout_s, _end, (guest, session))
    alarm.start()
    try:
        assert guest.stdout is not None
        for line in guest.stdout:
            if line.startswith(b"{"):
                session.hear(line)
        guest.wait()
    finally:
        alarm.cancel()
        (work / "results.json").write_text(json.dumps(asdict(session), indent=1, default=str))
        if guest.poll() is None:
            guest.kill()
            guest.wait()
        root.unlink()
    if guest.returncode not in (0, -9):
        complaint = (work / "qemu.txt").read_text(errors="replace")
        with open(session.console, "a") as console:
            console.write(f"\n{QEMU} exited with {guest.returncode}: {complaint}\n")
    return session


def _end(guest: subprocess.Popen[bytes], session: Session) -> None:
    session.timed_out = True
    guest.kill()


def _command(image: Image, root: Path, console: Path, ground: Ground) -> list[str]:
    words = [init.WORD, "console=ttyS0", "quiet", "panic=-1", "nokaslr", "mitigations=off"]
    machine = ["-machine", "pc,accel=tcg", "-cpu", "max"]
    machine += ["-smp", str(ground.processors), "-m", str(ground.memory_mb)]
    lines = ["-serial", f"file:{console}", "-serial", "stdio"]
    return [
        *["setpriv", "--pdeathsig", "KILL"],  # a killed test run leaves no guest behind
        *[QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
        *machine,
        *lines,
        *["-kernel", str(image.kernel), "-initrd", str(root), "-append", " ".join(words)],
    ]


def _assemble(image: Image, checks: Sequence[str], target: Path, ground: Ground) -> None:
    """The cached root, followed by a second archive with what changes from run to run."""
    with open(target, "wb") as out:
        with open(image.root, "rb") as base:
            shutil.copyfileobj(base, out)
        archive.write(out, _project(checks, ground))


def _project(checks: Sequence[str], ground: Ground) -> Iterator[archive.Entry]:
    plan = {
        "folder": ground.folder,
        "checks": list(checks),
        "check_timeout_s": ground.check_timeout_s,
    }
    # The first line is put on here: ansible-test accepts no such interpreter in a file of ours.
    init = b"#!/usr/bin/python3 -I\n" + (recipe.HERE / "guest" / "init.py").read_bytes()
    yield archive.text("init", init, 0o755)
    for folder in ("project", "project/tests", "project/agent"):
        yield archive.directory(folder)
    yield archive.text("project/plan.json", json.dumps(plan).encode())
    for source, prefix in (
        (recipe.HERE, "project/tests/kernels"),
        (recipe.ROOT / "agent" / "src", "project/agent/src"),
    ):
        yield archive.directory(prefix)
        yield from (
            entry
            for entry in archive.tree(source, f"{prefix}/")
            if "__pycache__" not in entry.name and ".egg-info" not in entry.name
        )
