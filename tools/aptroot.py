# SPDX-License-Identifier: GPL-3.0-or-later
"""A private apt: packages of any Debian release, from the mirrors that this machine already uses.

Its lists, cache and status live in a directory of its own, so that the machine's apt is neither
locked nor changed. Who needs packages for another machine (a bare node, a guest kernel) enters
here; nothing is installed, only planned, downloaded and unpacked.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCE = re.compile(r"'(\S+)/dists/([^/']+)/InRelease'")


class HostError(Exception):
    """This machine cannot do what is asked; the sentence says why and what to do."""


def run(command: list[str], folder: Path | None = None) -> str:
    """Run a command that must succeed and return what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not here; a Debian machine is needed") from None
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise HostError(f"{command[0]} exited with {done.returncode}: {tail}")
    return done.stdout


def sources(release: str) -> list[tuple[str, str]]:
    """Address and suite of each archive of ``release`` on the mirrors of this machine.

    Asked of apt in a way that needs no package lists: a fresh machine has none.
    """
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    found = _SOURCE.findall(run(["apt-get", "update", "--print-uris"]))
    return [
        (address, suite.replace(codename, release, 1))
        for address, suite in found
        if codename and suite.startswith(codename)
    ]


def mirror(release: str) -> str:
    """The address of the Debian archive of ``release``: the mirror that has its updates, too."""
    found = sources(release)
    updated = {address for address, suite in found if suite == f"{release}-updates"}
    plain = [address for address, suite in found if suite == release]
    if not plain:
        raise HostError(
            f"this machine's apt knows no archive of Debian {release}; "
            "add a Debian mirror to /etc/apt/sources.list.d"
        )
    return min(plain, key=lambda address: address not in updated)


@dataclass(frozen=True, slots=True)
class AptRoot:
    """One release's private apt below ``place``."""

    place: Path
    release: str

    def prepare(self) -> None:
        """Fetch the release's package lists from each mirror that Debian's keys vouch for."""
        for folder in ("state/lists/partial", "cache/archives/partial", "parts", "packages"):
            (self.place / folder).mkdir(parents=True, exist_ok=True)
        (self.place / "status").touch()
        accepted: list[str] = []
        refusal = "no Debian archive is configured"
        for address, suite in sources(self.release):
            line = f"deb [signed-by={KEYRING}] {address} {suite} main\n"
            try:
                self._write_sources([line])
                self._apt("update", "--error-on=any")
            except HostError as error:
                refusal = str(error)
                continue
            accepted.append(line)
        if not any(f" {self.release} main" in line for line in accepted):
            raise HostError(
                f"this machine's apt leads to no Debian {self.release} (main): {refusal}; add a "
                "Debian mirror to /etc/apt/sources.list.d"
            )
        self._write_sources(accepted)
        self._apt("update", "--error-on=any")

    def standard(self) -> tuple[str, ...]:
        """What every system of this release has: its essential and required packages."""
        names = set()
        for paragraph in self._apt_cache("dumpavail").split("\n\n"):
            if re.search(r"^(Essential: yes|Priority: required)$", paragraph, re.MULTILINE):
                names.add(re.findall(r"^Package: (.*)$", paragraph, re.MULTILINE)[0])
        return tuple(sorted(names))

    def depends(self, package: str) -> str:
        """The one package that a metapackage stands for."""
        shown = self._apt_cache("depends", "--important", package)
        names = [line.split()[-1] for line in shown.splitlines() if "Depends:" in line]
        if len(names) != 1:
            raise HostError(f"{package} of {self.release} depends on {names}, not on one package")
        return names[0]

    def closure(self, packages: tuple[str, ...]) -> dict[str, str]:
        """Name and version of each package that installing ``packages`` on nothing would need."""
        chosen = {}
        for line in self._apt("install", "--simulate", *packages).splitlines():
            if line.startswith("Inst "):
                name, version = line.split()[1:3]
                chosen[name] = version.lstrip("(")
        return chosen

    def version(self, package: str) -> str:
        """The version of a package that would be installed."""
        shown = self._apt_cache("show", "--no-all-versions", package)
        return next(line.split()[1] for line in shown.splitlines() if line.startswith("Version:"))

    def download(self, packages: list[str], folder: Path) -> None:
        """Download packages, verified by apt, into ``folder``."""
        self._apt("download", *packages, folder=folder)

    def unpack(self, packages: list[str], target: Path) -> None:
        """Download packages and lay their files out below ``target``."""
        folder = self.place / "packages"
        self.download(packages, folder)
        for archive in sorted(folder.glob("*.deb")):
            run(["dpkg-deb", "--extract", str(archive), str(target)])
            archive.unlink()

    def _write_sources(self, lines: list[str]) -> None:
        (self.place / "sources.list").write_text("".join(lines))

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
            "Dir::Etc::preferences": "none",
            "Dir::Etc::preferencesparts": str(self.place / "parts"),
        }
        return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def _apt(self, *words: str, folder: Path | None = None) -> str:
        return run(["apt-get", "--quiet", "--yes", *self._options(), *words], folder)

    def _apt_cache(self, *words: str) -> str:
        return run(["apt-cache", *self._options(), *words])
