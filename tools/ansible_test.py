#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make sanity` and `make units`: ansible-test on both ends of the supported range of ansible-core.

ansible-test wants the collection at a path of its own kind, so it gets a copy of what git would
take, below build/. It wants a home for its environments: that is below build/ too, and it carries
the pip settings of the user. It fetches a pip installer from a site that need not be reachable:
a stand-in made of the interpreter's own ensurepip lies where it looks first.

usage: tools/ansible_test.py oldest|newest sanity|units [arguments of ansible-test]
Exit code 77: this machine has no Python for that end (and the message says so).
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCHES = ROOT / "build/ansible-test"
HOME = BENCHES / "home"
SKIPPED = 77

GET_PIP = '''\
"""Stands in for the installer of pip that ansible-test would fetch."""
import os
import subprocess
import sys

pip = [sys.executable, "-m", "pip", "install", "--quiet"]
subprocess.run([sys.executable, "-m", "ensurepip", "--upgrade", "--default-pip"],
               check=True, stdout=subprocess.DEVNULL)
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.run(pip + wanted).returncode)
'''


class BenchError(Exception):
    """ansible-test cannot be run here; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One ansible-core with one Python."""

    name: str
    python: str
    pins: str

    @property
    def venv(self) -> Path:
        """Its environment: the one of `make venv` for the oldest end, its own for the newest."""
        return ROOT / ".venv" if self.name == "oldest" else BENCHES / f"venv-{self.name}"

    @property
    def collection(self) -> Path:
        """Where ansible-test wants to see the collection."""
        return BENCHES / self.name / "ansible_collections/amaranten/ha"


ENDS = {
    "oldest": Bench("oldest", "3.11", "requirements/dev.txt"),
    "newest": Bench("newest", "3.13", "requirements/newest.txt"),
}


def interpreter(bench: Bench) -> Path | None:
    """The interpreter that the bench's environment is made of, if this machine has it."""
    if bench.name == "oldest":
        return bench.venv / "bin/python"
    done = subprocess.run(
        [ROOT / "tools/find-python", bench.python], capture_output=True, text=True, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


def prepare_venv(bench: Bench, python: Path) -> None:
    """Make the bench's environment from its pins, unless it is made of them already."""
    if bench.name == "oldest":
        return
    pins = hashlib.sha256((ROOT / bench.pins).read_bytes()).hexdigest()
    stamp = bench.venv / "pins.sha256"
    if stamp.is_file() and stamp.read_text() == pins:
        return
    print(f"==> making {bench.venv.relative_to(ROOT)} from {bench.pins}", flush=True)
    pip = ["-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", "--clear", bench.venv],
        [bench.venv / "bin/python", *pip, "install", "-r", ROOT / bench.pins],
    ):
        subprocess.run(command, check=True)
    stamp.write_text(pins)


def prepare_home(bench: Bench) -> None:
    """A home with the stand-in for the pip installer, and the user's way to the package index."""
    cache = HOME / ".ansible/test/cache"
    cache.mkdir(parents=True, exist_ok=True)
    library = bench.venv / f"lib/python{python_version(bench)}/site-packages"
    source = library / "ansible_test/_internal/python_requirements.py"
    found = re.search(r"\bpip='([0-9.]+)'", source.read_text())
    if found is None:
        raise BenchError(f"{source} does not say which pip it wants: how does it get pip now?")
    (cache / f"get_pip_{found.group(1).replace('.', '_')}.py").write_text(GET_PIP)

    settings = configparser.RawConfigParser()
    settings.read(Path.home() / ".config/pip/pip.conf")
    if not settings.has_section("global"):
        settings.add_section("global")
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name not in ("PIP_CONFIG_FILE", "PIP_REQUIRE_VIRTUALENV"):
            settings.set("global", name[4:].lower().replace("_", "-"), value)
    settings.set("global", "quiet", "1")
    pip = HOME / ".config/pip/pip.conf"
    pip.parent.mkdir(parents=True, exist_ok=True)
    pip.touch(mode=0o600)
    with pip.open("w") as file:
        settings.write(file)


def python_version(bench: Bench) -> str:
    """The version of the bench's environment, such as 3.11."""
    home = (bench.venv / "pyvenv.cfg").read_text()
    found = re.search(r"^version(?:_info)? = (\d+\.\d+)", home, re.MULTILINE)
    if found is None:
        raise BenchError(f"{bench.venv}/pyvenv.cfg names no version")
    return found.group(1)


def copy_tree(bench: Bench) -> None:
    """Bring the copy up to what git has or would take; unchanged files keep their times."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    bench.collection.mkdir(parents=True, exist_ok=True)
    # A repository of its own: else ansible-test would ask ours, which ignores build/.
    subprocess.run(["git", "init", "--quiet", bench.collection], check=True)
    for path in bench.collection.rglob("*"):
        relative = path.relative_to(bench.collection)
        kept = relative.parts[0] == ".git" or relative.parts[:2] == ("tests", "output")
        if path.is_file() and not kept and str(relative) not in wanted:
            path.unlink()
    for name in wanted:
        target = bench.collection / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)


def run(bench: Bench, arguments: list[str]) -> int:
    """Run ansible-test on the copy and hand its exit code on."""
    environment = {
        "HOME": str(HOME),
        "PATH": f"{bench.venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
    }
    command = [bench.venv / "bin/ansible-test", arguments[0], "--color", "no"]
    command += ["--python", python_version(bench), *arguments[1:]]
    return subprocess.run(command, cwd=bench.collection, env=environment, check=False).returncode


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1] not in ENDS or sys.argv[2] not in ("sanity", "units"):
        usage = "usage: tools/ansible_test.py oldest|newest sanity|units [arguments]"
        print(usage, file=sys.stderr)
        return 2
    bench = ENDS[sys.argv[1]]
    python = interpreter(bench)
    if python is None:
        print(
            f"SKIPPED: no Python {bench.python} on this machine, so nothing was tested on the "
            f"ansible-core of {bench.pins}",
            flush=True,
        )
        return SKIPPED
    BENCHES.mkdir(parents=True, exist_ok=True)
    with (BENCHES / f"{bench.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            prepare_venv(bench, python)
            prepare_home(bench)
        except BenchError as error:
            print(f"ansible_test: {error}", file=sys.stderr)
            return 2
        copy_tree(bench)
        return run(bench, sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
