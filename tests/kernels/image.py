# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the two files that a guest boots from: a kernel and a first root with a Python in it.

Enter with ``image_of``; the first call takes a minute, later ones find the cache. What changes
from run to run (our own source, the checks) is not in here: ``boot`` appends it. The machine's
own apt is asked for one thing only, the emulator.
"""

from __future__ import annotations

import fcntl
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.aptroot import AptRoot, HostError, run

from . import archive, recipe
from .recipe import Guest

QEMU = "qemu-system-x86_64"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """What qemu is given, and which versions are in it."""

    kernel: Path
    root: Path
    versions: dict[str, str]


def need_emulator(say: Say) -> None:
    """Have what boots a guest; it is installed if it is missing."""
    if not shutil.which(QEMU):
        say("installing qemu with apt (about 15 MB)")
    run([str(recipe.ROOT / "tools" / "apt-need"), "kernels"])
    if not shutil.which(QEMU):
        raise HostError(f"{QEMU} is not in the path; install the package qemu-system-x86")


def image_of(guest: Guest, say: Say) -> Image:
    """The image of one guest, from the cache or built now."""
    place = recipe.CACHE / f"{guest.name}-{recipe.digest(guest)}"
    with _locked(guest):
        if not (place / "versions.json").exists():
            _sweep(guest)
            _build(guest, place, say)
    versions = json.loads((place / "versions.json").read_text())
    return Image(place / "vmlinux", place / "root.cpio", versions)


@contextmanager
def _locked(guest: Guest) -> Iterator[None]:
    """Two runs at once build once."""
    recipe.CACHE.mkdir(parents=True, exist_ok=True)
    with open(recipe.CACHE / f"{guest.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(guest: Guest) -> None:
    """Images of older recipes, and what a killed build left, are of no use to anybody."""
    for old in recipe.CACHE.glob(f"{guest.name}-*"):
        shutil.rmtree(old)


def _build(guest: Guest, place: Path, say: Say) -> None:
    if os.geteuid() != 0:
        raise HostError("building a guest needs root (its Python compiles itself in a chroot)")
    with tempfile.TemporaryDirectory(prefix=f"{guest.name}-new-", dir=recipe.CACHE) as folder:
        work = Path(folder)
        apt = AptRoot(work / "apt", guest.suite)
        say(f"{guest.name}: package lists of {guest.suite}")
        apt.prepare()
        kernel_package = apt.depends(recipe.KERNEL_PACKAGE)
        if f"-{guest.kernel}." not in kernel_package:
            raise HostError(f"{guest.suite} has {kernel_package}, not a kernel {guest.kernel}")
        versions = {name: apt.version(name) for name in (recipe.KERNEL_PACKAGE, "nftables")}

        say(f"{guest.name}: {kernel_package} ({versions[recipe.KERNEL_PACKAGE]})")
        apt.unpack([kernel_package], work / "kernel")
        done = work / "done"
        done.mkdir()
        packed = next((work / "kernel/boot").glob("vmlinuz-*")).read_bytes()
        _unpack_kernel(packed, done / "vmlinux")

        say(f"{guest.name}: userland with Python {guest.python}")
        root = work / "root"
        _userland(guest, apt, root)

        say(f"{guest.name}: first root")
        entries = [*_skeleton(), *archive.tree(root), *_modules(work / "kernel")]
        with open(done / "root.cpio", "wb") as target:
            archive.write(target, entries)
        (done / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
        done.chmod(0o755)
        done.rename(place)
        size_mb = (place / "root.cpio").stat().st_size // 1_000_000
        say(f"{guest.name}: image of {size_mb} MB in {place}")


def _unpack_kernel(packed: bytes, target: Path) -> None:
    """The kernel proper, for qemu to start directly: an emulated one unpacks itself for long.

    Where it lies is said in the header that boot loaders read (Documentation/arch/x86/boot.rst).
    """
    sectors = packed[0x1F1] or 4
    offset, length = struct.unpack_from("<II", packed, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = packed[start : start + length - 4]  # the last four bytes are its unpacked size
    if payload.startswith(b"\xfd7zXZ\0"):
        target.write_bytes(lzma.decompress(payload))
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        source = target.with_suffix(".zst")
        source.write_bytes(payload)
        run(["zstd", "--decompress", "--rm", "--quiet", str(source), "-o", str(target)])
    else:
        raise HostError(f"the kernel is packed in a way that is unknown here: {payload[:6].hex()}")


def _userland(guest: Guest, apt: AptRoot, root: Path) -> None:
    """Unpack Python, nft, ip and conntrack without running any maintainer script."""
    root.mkdir()
    chosen = sorted(set(apt.closure(recipe.PACKAGES)) - recipe.LEFT_OUT)
    apt.unpack(chosen, root)
    for folder in ("bin", "sbin", "lib", "lib64"):  # the merged /usr that packages rely on
        if (root / folder).is_dir():
            merged = root / "usr" / folder
            shutil.copytree(root / folder, merged, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / folder)
        (root / folder).symlink_to(f"usr/{folder}")
    for pattern in recipe.PRUNED:
        shutil.rmtree(root / pattern.format(python=guest.python), ignore_errors=True)
    python = f"/usr/bin/python{guest.python}"
    folders = [f"/usr/lib/python{guest.python}", "/usr/lib/python3"]
    compiling = [python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    done = subprocess.run(
        ["chroot", str(root), *compiling, *folders], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise HostError(f"{guest.name}'s Python could not compile its library: {tail}")


def _skeleton() -> list[archive.Entry]:
    folders = ("dev", "proc", "sys", "run", "tmp", "modules")
    return [
        *(archive.directory(name) for name in folders),
        archive.character_device("dev/console", 5, 1),
    ]


def _modules(unpacked: Path) -> list[archive.Entry]:
    """The wanted modules and all they depend on, numbered in the order of loading."""
    top = next(path for path in unpacked.glob("**/lib/modules/*") if path.is_dir())
    files = {}
    for path in top.glob("kernel/**/*.ko*"):
        files[path.name.split(".ko")[0].replace("-", "_")] = path
    builtin = {
        Path(line).stem.replace("-", "_")
        for line in (top / "modules.builtin").read_text().splitlines()
    }
    ordered: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in ordered or name in builtin:
            return
        if name not in files:
            raise HostError(f"kernel {top.name} has no module {name}")
        code = files[name].read_bytes()
        if files[name].suffix == ".xz":
            code = lzma.decompress(code)
        needs = re.search(rb"\0depends=([^\0]*)\0", code)
        for other in filter(None, (needs.group(1).decode() if needs else "").split(",")):
            visit(other.replace("-", "_"))
        ordered[name] = code

    for wanted in recipe.MODULES:
        visit(wanted)
    return [
        archive.text(f"modules/{number:03}-{name}.ko", code)
        for number, (name, code) in enumerate(ordered.items())
    ]
