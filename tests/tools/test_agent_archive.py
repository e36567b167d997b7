# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of the agent: the same bytes from any builder, built anew when its sources change.

The archives are built for real, from this tree and from small trees made here; nothing is mocked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from plugins.plugin_utils import _agent_archive as builder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small collection: an agent of two modules, one of them in a package."""
    root = tmp_path / "collection"
    sources = root / builder.SOURCES
    (sources / "core").mkdir(parents=True)
    (sources / "__init__.py").write_text('"""A small agent."""\n\n__version__ = "1.2.3"\n')
    (sources / "core/__init__.py").write_text("")
    (sources / "core/beat.py").write_text("MAJOR = 1\n")
    (sources / "core/greeting.py").write_text("MAJOR, MINOR = 2, 1\n")
    return root


def build_elsewhere(root: Path, destination: Path, mask: int, folder: Path) -> str:
    """Build in another process, with another umask and working directory."""
    program = (
        "import os, sys; os.umask(int(sys.argv[4])); sys.path.insert(0, sys.argv[1]);"
        "from plugins.plugin_utils import _agent_archive as builder;"
        "print(builder.build(sys.argv[2], sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT, root, destination, str(mask)],
        cwd=folder, env=os.environ | {"TZ": "Asia/Tokyo"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_two_builders_give_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "agent/src", copy / "agent/src", copy_function=shutil.copyfile)
    for path in copy.rglob("*.py"):
        os.chmod(path, 0o755)
        os.utime(path, (1, 1))
    here, there = tmp_path / "here.tar.gz", tmp_path / "there.tar.gz"
    first = build_elsewhere(copy, here, 0o022, ROOT)
    second = build_elsewhere(copy, there, 0o077, tmp_path)
    assert here.read_bytes() == there.read_bytes()
    assert here.read_bytes()[4:8] == bytes(4), "the time of packing is in gzip's header"
    assert first == second == hashlib.sha256(here.read_bytes()).hexdigest()


def test_nothing_of_the_builder_gets_in(tree: Path, tmp_path: Path) -> None:
    builder.build(tree, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        members = tar.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mode, m.mtime) for m in members} == {
        (0, 0, "", "", 0o644, 0)
    }
    names = [member.name for member in members]
    assert names[0] == builder.MANIFEST
    assert names[1:] == sorted(names[1:])


def test_it_carries_the_agent_and_the_whole_library_and_its_licence(
    tree: Path, tmp_path: Path
) -> None:
    builder.build(tree, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        names = set(tar.getnames())
    library = {"pyroute2/__init__.py", "pyroute2/netlink/core.py"}
    assert library | {"amaranten_ha/core/beat.py"} <= names
    assert any(name.startswith("pyroute2-") and "LICENSE" in name for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        builder.MANIFEST, "amaranten_ha", "pyroute2",
    }  # fmt: skip


def test_unpacked_it_imports_without_the_controllers_packages(tmp_path: Path) -> None:
    builder.build(ROOT, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        tar.extractall(tmp_path / "node", filter="data")
    program = (
        "import sys; sys.path[:0] = [sys.argv[1]];"
        "import pyroute2, amaranten_ha; print(pyroute2.__file__, amaranten_ha.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program, tmp_path / "node"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[0].startswith(str(tmp_path / "node"))


def test_what_builds_and_editors_leave_behind_stays_out(tree: Path, tmp_path: Path) -> None:
    before = builder.build(tree, tmp_path / "a.tar.gz")
    sources = tree / builder.SOURCES
    (sources / "__pycache__").mkdir()
    (sources / "__pycache__/beat.cpython-311.pyc").write_bytes(b"x")
    (sources / "core/.beat.py.swp").write_bytes(b"x")
    (sources / "core/beat.py~").write_text("x")
    assert builder.build(tree, tmp_path / "b.tar.gz") == before
    (sources / "core/extra.py").write_text("")
    assert builder.build(tree, tmp_path / "c.tar.gz") != before


def test_ensure_builds_what_is_absent_and_leaves_what_is_right(tree: Path) -> None:
    archive = builder.ensure(tree)
    assert (archive.version, archive.protocol) == ("1.2.3", "1/2")
    assert archive.path == tree / builder.ARCHIVE
    assert archive.sha256 == hashlib.sha256(archive.path.read_bytes()).hexdigest()
    written = archive.path.stat()
    assert builder.ensure(tree) == archive
    assert archive.path.stat().st_ino == written.st_ino


@pytest.mark.parametrize("damage", ["source", "new file", "gone file", "cut archive", "stranger"])
def test_ensure_builds_anew_what_is_not_of_its_sources(tree: Path, damage: str) -> None:
    archive = builder.ensure(tree)
    beat = tree / builder.SOURCES / "core/beat.py"
    times = beat.stat().st_atime_ns, beat.stat().st_mtime_ns
    good = archive.path.read_bytes()
    if damage == "source":
        beat.write_text("MAJOR = 2\n")
        os.utime(beat, ns=times)
    elif damage == "new file":
        (beat.parent / "seal.py").write_text("")
    elif damage == "gone file":
        (beat.parent / "__init__.py").unlink()
    elif damage == "cut archive":
        archive.path.write_bytes(good[:100])
    else:
        with tarfile.open(archive.path, "w:gz") as tar:
            tar.add(beat, "beat.py")
    again = builder.ensure(tree)
    assert builder.read_manifest(again.path)["sources"] == builder.sources_digest(tree)
    assert (again.sha256 == archive.sha256) == (damage in ("cut archive", "stranger"))


def test_a_release_without_sources_uses_what_it_carries(tree: Path) -> None:
    archive = builder.ensure(tree)
    shutil.rmtree(tree / "agent")
    assert builder.ensure(tree) == archive
    archive.path.unlink()
    with pytest.raises(builder.ArchiveError, match=r"is missing, and there is no .*/agent/src"):
        builder.ensure(tree)


def test_an_agent_without_a_version_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / builder.SOURCES / "__init__.py").write_text('"""A small agent."""\n')
    with pytest.raises(builder.ArchiveError, match="has no line such as: __version__"):
        builder.build(tree, tmp_path / "a.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz*"))
