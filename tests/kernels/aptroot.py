# SPDX-License-Identifier: GPL-3.0-or-later
"""A private apt: packages of another Debian release, from the mirror this machine already uses.

Its lists, cache and status live in a directory of its own, so the machine's apt is neither
locked nor changed; only the address of its Debian mirror is taken over. Nothing is installed
here, only downloaded and unpacked.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class ImageError(Exception):
    """A guest cannot be made; the sentence says why and what to do."""


def run(command: list[str], folder: Path | None = None) -> str:
    """Run a command that must succeed and return what it printed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is missing: a Debian machine is needed") from None
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise ImageError(f"{command[0]} exited with {done.returncode}: {tail}")
    return done.stdout


def mirror() -> str:
    """The address of the Debian archive that this machine's apt is configured with."""
    wanted = "$(REPO_URI)|$(ORIGIN)|$(RELEASE)|$(COMPONENT)"
    listed = run(["apt-get", "indextargets", "--format", wanted, "Created-By: Packages"])
    for line in listed.splitlines():
        address, origin, release, component = line.split("|")
        plain = "-" not in release and "/" not in release
        if component == "main" and plain and origin in ("Debian", "$(ORIGIN)", ""):
            return address
    raise ImageError(
        "this machine's apt has no Debian archive (component main) to take kernels from; "
        "add one to /etc/apt/sources.list.d and run 'apt-get update'"
    )


@dataclass(frozen=True, slots=True)
class AptRoot:
    """One release's private apt below ``place``."""

    place: Path
    suite: str

    def prepare(self) -> None:
        """Fetch the release's package lists."""
        for folder in ("state/lists/partial", "cache/archives/partial", "parts", "packages"):
            (self.place / folder).mkdir(parents=True, exist_ok=True)
        (self.place / "status").touch()
        source = f"deb [signed-by={KEYRING}] {mirror()} {self.suite} main\n"
        (self.place / "sources.list").write_text(source)
        self._apt("update", "--error-on=any")

    def depends(self, package: str) -> str:
        """The one package that a metapackage stands for."""
        shown = self._apt_cache("depends", "--important", package)
        names = [line.split()[-1] for line in shown.splitlines() if "Depends:" in line]
        if len(names) != 1:
            raise ImageError(f"{package} in {self.suite} should depend on one package, not {names}")
        return names[0]

    def closure(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Name and version of each package that installing ``packages`` on nothing would need."""
        planned = self._apt("install", "--simulate", *packages)
        chosen = {}
        for line in planned.splitlines():
            if line.startswith("Inst "):
                name, version = line.split()[1:3]
                chosen[name] = version.lstrip("(")
        return chosen

    def version(self, package: str) -> str:
        shown = self._apt_cache("show", "--no-all-versions", package)
        return next(line.split()[1] for line in shown.splitlines() if line.startswith("Version:"))

    def unpack(self, packages: list[str], target: Path) -> None:
        """Download packages, verified by apt, and lay their files out below ``target``."""
        folder = self.place / "packages"
        self._apt("download", *packages, folder=folder)
        for archive in sorted(folder.glob("*.deb")):
            run(["dpkg-deb", "--extract", str(archive), str(target)])
            archive.unlink()

    def _options(self) -> list[str]:
        settings = {
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::State": str(self.place / "state"),
            "Dir::State::status": str(self.place / "status"),
            "Dir::Cache": str(self.place / "cache"),
            "Dir::Etc::sourcelist": str(self.place / "sources.list"),
            "Dir::Etc::sourceparts": str(self.place / "parts"),
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def _apt(self, *words: str, folder: Path | None = None) -> str:
        return run(["apt-get", "--quiet", "--yes", *self._options(), *words], folder)

    def _apt_cache(self, *words: str) -> str:
        return run(["apt-cache", *self._options(), *words])
