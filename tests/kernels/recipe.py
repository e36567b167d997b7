# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest is made of: kernels, packages, modules, and where the result is kept.

Everything in this file that changes the image is part of the recipe hash, so that an edit here
makes a new image and a stale one is never booted. No code enters this file but the hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CACHE = Path("/var/cache/amaranten-ha-lab/kernels")

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True, slots=True)
class Guest:
    """One Debian release: its kernel, its nft and its Python are tested together."""

    name: str
    suite: str
    kernel: str
    python: str


GUESTS = (
    Guest(name="debian12", suite="bookworm", kernel="6.1", python="3.11"),
    Guest(name="debian13", suite="trixie", kernel="6.12", python="3.13"),
)

KERNEL_PACKAGE = "linux-image-amd64"

PACKAGES = ("python3", "python3-cryptography", "nftables", "iproute2", "conntrack")

# Never unpacked, although a dependency: nothing of them runs in the guest.
LEFT_OUT = frozenset(
    {
        "debconf",
        "dpkg",
        "libdb5.3",
        "libdb5.3t64",
        "libsqlite3-0",
        "media-types",
        "readline-common",
        "tar",
        "tzdata",
    }
)

# Loaded by init in this order, after what each depends on; names without a file are built in.
MODULES = (
    "crc32c_generic",  # what libcrc32c asks the crypto layer for, by a name modinfo does not tell
    "nfnetlink",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_conntrack_ftp",
    "nf_nat",
    "nf_nat_ftp",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_numgen",
    "nft_limit",
    "nft_hash",
    "nft_log",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nf_dup_netdev",
    "nft_dup_netdev",
    "nft_fwd_netdev",
    "veth",
    "dummy",
    "bridge",
    "8021q",
    "bonding",
    "macvlan",
    "sch_netem",
)

# Directories of the unpacked packages that no check needs; the smaller, the sooner it boots.
PRUNED = (
    "usr/share",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/python{python}/test",
    "usr/lib/python{python}/idlelib",
    "usr/lib/python{python}/lib2to3",
    "usr/lib/python{python}/pydoc_data",
    "usr/lib/python{python}/ensurepip",
    "usr/lib/python{python}/turtledemo",
    "usr/lib/python{python}/tkinter",
    "usr/lib/python{python}/distutils",
    "usr/lib/python{python}/unittest",
    "usr/lib/python{python}/asyncio",
    "usr/lib/python{python}/xml",
)


def digest(guest: Guest) -> str:
    """Name the image of one guest: whatever is able to change it changes this."""
    recipe = hashlib.sha256(repr(guest).encode())
    parts = [HERE / part for part in ("recipe.py", "archive.py", "image.py")]
    for part in (*parts, ROOT / "tools" / "aptroot.py"):
        recipe.update(part.read_bytes())
    return recipe.hexdigest()[:16]
