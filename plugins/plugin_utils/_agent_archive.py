# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The packing room: the agent's sources and pyroute2 become one archive that the role carries.

`make agent` and the role's action plugin enter here, on the controller. The same sources give the
same bytes, whoever builds them, wherever and whenever: the archive's digest names the agent on
the nodes. Whether an archive is stale is decided by a digest of the sources that it was built
from, kept in its first member, never by a file's time. Nothing here knows Ansible, so that a plain
Python runs it.

Note: this is a private plugin_util; it may change without notice.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ARCHIVE = Path("roles/agent/files/amaranten-ha-agent.tar.gz")
SOURCES = Path("agent/src/amaranten_ha")
MANIFEST = "manifest.json"
DIGEST_LENGTH = 12


class ArchiveError(Exception):
    """The archive cannot be built or read; the message says what, where and what to do."""


@dataclass(frozen=True)
class Archive:
    """A finished archive: where it is, the SHA-256 of its bytes, and which agent is in it.

    `protocol` is the major version of heartbeats and that of replication, as in 1/1.
    """

    path: Path
    sha256: str
    version: str
    protocol: str

    @property
    def name(self) -> str:
        """The directory's name on a node: the version, and which one of that version."""
        return "%s-%s" % (self.version, self.sha256[:DIGEST_LENGTH])


def build(root: str | os.PathLike[str], destination: str | os.PathLike[str]) -> str:
    """Build the archive from the sources below root, put it at destination, return its SHA-256.

    The file appears whole or not at all, so that two builds at once do no harm.
    """
    data = _pack(_members(Path(root)))
    _write_whole(Path(destination), data)
    return hashlib.sha256(data).hexdigest()


def ensure(root: str | os.PathLike[str]) -> Archive:
    """Return the archive of this collection, built first when it is absent or not of its sources.

    A released collection may come without sources: then the archive that it carries is the truth.
    """
    root = Path(root)
    path = root / ARCHIVE
    if (root / SOURCES).is_dir():
        if not path.is_file() or read_manifest(path).get("sources") != sources_digest(root):
            build(root, path)
    elif not path.is_file():
        raise ArchiveError(
            "%s is missing, and there is no %s to build it from: install the collection from a "
            "release or from its repository" % (path, root / SOURCES)
        )
    return _archive(path, hashlib.sha256(path.read_bytes()).hexdigest())


def installed(root: str | os.PathLike[str], scratch: str) -> Archive:
    """The same, also for a user who may not write to the collection: then built below `scratch`."""
    try:
        return ensure(root)
    except OSError:
        path = Path(scratch) / ARCHIVE.name
        sha256 = build(root, path)
        return _archive(path, sha256)


def _archive(path: Path, sha256: str) -> Archive:
    manifest = read_manifest(path)
    return Archive(path, sha256, manifest.get("version", ""), manifest.get("protocol", ""))


def sources_digest(root: str | os.PathLike[str]) -> str:
    """Digest of every name and byte that goes into the archive."""
    return _digest(_contents(Path(root)))


def read_manifest(archive: str | os.PathLike[str]) -> dict[str, str]:
    """What an archive says of itself: version, pyroute2, sources; empty if it is none of ours."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            first = tar.next()
            if first is None or first.name != MANIFEST:
                return {}
            member = tar.extractfile(first)
            return {} if member is None else json.loads(member.read())
    except (OSError, EOFError, tarfile.TarError, ValueError):
        return {}


def _members(root: Path) -> dict[str, bytes]:
    """Name and content of every member in the order of packing: the manifest first."""
    contents = _contents(root)
    manifest = {
        "protocol": _protocol(root),
        "pyroute2": importlib.metadata.version("pyroute2"),
        "sources": _digest(contents),
        "version": _version(root),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    return {MANIFEST: text.encode()} | contents


def _contents(root: Path) -> dict[str, bytes]:
    contents = _agent_files(root) | _pyroute2_files()
    return {name: contents[name] for name in sorted(contents)}


def _agent_files(root: Path) -> dict[str, bytes]:
    sources = root / SOURCES
    if not (sources / "__init__.py").is_file():
        raise ArchiveError("no agent to pack: %s does not exist" % (sources / "__init__.py"))
    return {
        "amaranten_ha/%s" % path.relative_to(sources).as_posix(): path.read_bytes()
        for path in sources.rglob("*")
        if path.is_file() and _is_wanted(path.relative_to(sources).as_posix())
    }


def _pyroute2_files() -> dict[str, bytes]:
    """The library as its wheel brought it, and its licences; found, not imported."""
    try:
        wheel = importlib.metadata.distribution("pyroute2")
    except importlib.metadata.PackageNotFoundError:
        raise ArchiveError(
            "the controller's Python has no pyroute2, which the agent's archive carries: "
            "install it with pip (its tested version is in requirements/controller.txt)"
        ) from None
    contents = {}
    for entry in wheel.files or ():
        name = entry.as_posix()
        library = name.startswith("pyroute2/") and _is_wanted(name)
        licence = re.match(r"pyroute2-[^/]+\.dist-info/.*(LICEN[CS]E|COPYING)[^/]*$", name)
        if library or licence:
            contents[name] = Path(str(entry.locate())).read_bytes()
    if "pyroute2/__init__.py" not in contents:
        raise ArchiveError(
            "pyroute2 is installed in a way that cannot be packed: install its wheel with pip"
        )
    return contents


def _is_wanted(name: str) -> bool:
    """Not what a build, an editor or a test run leaves behind."""
    parts = name.split("/")
    left_behind = name.endswith((".pyc", ".pyo", "~")) or parts[-1].startswith(".")
    return not left_behind and "__pycache__" not in parts and "tests" not in parts


def _version(root: Path) -> str:
    path = root / SOURCES / "__init__.py"
    text = path.read_text(encoding="utf-8")
    found = re.search(r"""^__version__(?::[^=]+)? = ["']([^"']+)["']$""", text, re.MULTILINE)
    if found is None:
        raise ArchiveError('%s has no line such as: __version__ = "1.2.3"' % path)
    return found.group(1)


def _protocol(root: Path) -> str:
    majors = []
    for name in ("core/beat.py", "core/greeting.py"):
        text = (root / SOURCES / name).read_text(encoding="utf-8")
        found = re.search(r"^MAJOR(?:, MINOR)? = ([0-9]+)", text, re.MULTILINE)
        if found is None:
            raise ArchiveError("%s has no line such as: MAJOR = 1" % (root / SOURCES / name))
        majors.append(found.group(1))
    return "/".join(majors)


def _digest(contents: dict[str, bytes]) -> str:
    summary = hashlib.sha256()
    for name, data in contents.items():
        summary.update(b"%d %d " % (len(name), len(data)))
        summary.update(name.encode() + data)
    return summary.hexdigest()


def _pack(members: dict[str, bytes]) -> bytes:
    """Nothing of the builder gets in: no time, owner, mode or order of a file system."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _write_whole(destination: Path, data: bytes) -> None:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        prefix = ".%s." % destination.name
        handle, temporary = tempfile.mkstemp(dir=destination.parent, prefix=prefix)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, destination)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ArchiveError("cannot write %s: %s" % (destination, error.strerror)) from error
