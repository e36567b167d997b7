# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk that both nodes begin with: a bare Debian 12, built once and kept outside the tree.

Enter with ``image_root``. The cache is keyed by the recipe, so that an edit of what is below makes
a new image and a stale one is never booted. A build happens in a directory of its own and is
renamed when it is complete; what a crash left is thrown away by the next build. The image is never
written after that: a node's changes go to an overlay of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import aptroot

from .plan import CACHE, ROOT, LabError
from .shell import run, say, step

SUITE = "bookworm"

# Raise it when the code below begins to make something else of the same words.
REVISION = 1

# What a bare node has. What the firewall needs (nftables, conntrack, python3-cryptography) is
# missing on purpose: bringing it is the deployment's work.
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "python3",
    "python3-apt",
    "iproute2",
    "iputils-ping",
    "procps",
    "netbase",
)

# A source list as on any Debian 12, of a mirror that nobody reaches (RFC 2606).
SOURCES = f"deb http://mirror.invalid/debian {SUITE} main\n"

# Nothing is gained by asking again for what cannot be reached, or by writing through to the disk
# what a crash of the machine may as well take.
CONFIGURATION = {
    "etc/apt/apt.conf.d/90lab": 'Acquire::Retries "0";\n',
    "etc/dpkg/dpkg.cfg.d/90lab": "force-unsafe-io\n",
}

# Useless in a container, and each of them costs boot time.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
)
ENABLED = {
    "multi-user.target.wants/systemd-networkd.service": "systemd-networkd.service",
    "sockets.target.wants/systemd-networkd.socket": "systemd-networkd.socket",
}
LEFT_OUT_FILES = ("etc/machine-id", "etc/hostname", "etc/resolv.conf")
LEFT_OUT_TREES = ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man")

KEYRING = aptroot.KEYRING
MODULES = ("nf_conntrack", "nf_conntrack_netlink", "nf_tables", "overlay", "veth", "bridge")


def recipe_hash() -> str:
    """What identifies an image: everything above that shapes it."""
    shape = (REVISION, PACKAGES, SOURCES, CONFIGURATION, MASKED, ENABLED)
    return hashlib.sha256(repr((shape, LEFT_OUT_FILES, LEFT_OUT_TREES)).encode()).hexdigest()[:16]


def need_tools() -> None:
    """Install what the lab runs and this machine lacks, saying so first."""
    if subprocess.run([ROOT / "tools/apt-need", "lab"], check=False).returncode != 0:
        raise LabError("the lab cannot run without what apt could not install")


def need_modules() -> None:
    """Load what nodes need of the kernel; a container cannot do that for itself."""
    if shutil.which("modprobe"):
        run(["modprobe", "--all", "--quiet", *MODULES], check=False)


def mirror() -> str:
    """The Debian archive from which this machine's own apt is fed."""
    try:
        return aptroot.mirror(SUITE)
    except aptroot.HostError as problem:
        raise LabError(f"no archive to build the node image from: {problem}") from problem


def proxy_environment() -> dict[str, str]:
    """The proxy that apt uses, in the words that debootstrap's downloader understands."""
    settings = run(["apt-config", "shell", "P", "Acquire::http::Proxy"]).stdout.strip()
    proxy = settings.partition("=")[2].strip("'")
    return {"http_proxy": proxy} if proxy and proxy != "DIRECT" else {}


@contextmanager
def _only_one() -> Iterator[None]:
    """One builder at a time, whatever lab it builds for."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lab: waiting for another lab that builds the node image ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def image_root() -> Path:
    """The root directory of the image; built now if the cache does not have it."""
    place = CACHE / f"{SUITE}-{recipe_hash()}"
    root = place / "root"
    if root.is_dir():
        return root
    with _only_one():
        if root.is_dir():
            return root
        for leftover in CACHE.glob("*.partial"):
            shutil.rmtree(leftover)
        partial = CACHE / f"{place.name}.partial"
        partial.mkdir()
        address = mirror()
        with step(f"building the node image from {address} (once, about 90 s)"):
            _bootstrap(address, partial)
            _finish(partial / "root")
            partial.rename(place)
    return root


def _bootstrap(address: str, partial: Path) -> None:
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={KEYRING}",
        SUITE,
        str(partial / "root"),
        address,
    ]
    environment = {**os.environ, **proxy_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    done = run(command, check=False, timeout_s=1200, environment=environment)
    if done.returncode != 0:
        tail = " / ".join((done.stdout + done.stderr).strip().splitlines()[-4:])
        raise LabError(f"debootstrap could not build the node image from {address}: {tail}")


def _finish(root: Path) -> None:
    """What debootstrap leaves undone: no identity, no lists, nothing that runs for nothing."""
    (root / "etc/apt/sources.list").write_text(SOURCES)
    for name, text in CONFIGURATION.items():
        (root / name).write_text(text)
    for name in LEFT_OUT_FILES:
        (root / name).unlink(missing_ok=True)
    for tree in LEFT_OUT_TREES:
        shutil.rmtree(root / tree, ignore_errors=True)
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    (root / "etc/resolv.conf").write_text("")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for link, unit in ENABLED.items():
        (units / link).parent.mkdir(exist_ok=True)
        (units / link).unlink(missing_ok=True)
        (units / link).symlink_to(f"/lib/systemd/system/{unit}")
    packages = run(["chroot", str(root), "dpkg-query", "-W"]).stdout
    (root.parent / "packages.txt").write_text(packages)
