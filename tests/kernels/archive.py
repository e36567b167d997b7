# SPDX-License-Identifier: GPL-3.0-or-later
"""Write cpio archives (the "newc" form), the format that a kernel unpacks as its first root.

Enter with a list of entries, leave with bytes. No compression: under emulation unpacking costs
more than reading. Nothing here knows what the entries are for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the archive; ``device`` is (major, minor) for a character device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> Entry:
    return Entry(name, stat.S_IFDIR | 0o755)


def text(name: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(name, stat.S_IFREG | mode, data)


def link(name: str, target: str) -> Entry:
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int) -> Entry:
    return Entry(name, stat.S_IFCHR | 0o600, device=(major, minor))


def tree(top: Path, prefix: str = "") -> Iterator[Entry]:
    """Everything below ``top``, parents first, in an order that does not depend on the disk."""
    for parent, folders, files in os.walk(top):
        folders.sort()
        below = Path(parent)
        inside = str(below.relative_to(top))
        base = prefix if inside == "." else f"{prefix}{inside}/"
        if base:
            yield directory(base.rstrip("/"))
        for name in sorted(files + [each for each in folders if (below / each).is_symlink()]):
            path = below / name
            if path.is_symlink():
                yield link(f"{base}{name}", os.readlink(path))
            elif path.is_file():
                yield text(f"{base}{name}", path.read_bytes(), path.stat().st_mode & 0o777)


def write(target: BinaryIO, entries: Iterable[Entry]) -> None:
    """Append one complete archive; its end is aligned so that another one may follow."""
    written = 0
    for number, entry in enumerate(entries, start=1):
        written += _write_entry(target, entry, number)
    written += _write_entry(target, Entry("TRAILER!!!", 0), 0)
    target.write(b"\0" * (-written % 512))


def _write_entry(target: BinaryIO, entry: Entry, number: int) -> int:
    name = entry.name.encode() + b"\0"
    fields = (
        number,
        entry.mode,
        0,  # user
        0,  # group
        1,  # links
        0,  # time of change: always the same, so that equal input makes equal archives
        len(entry.data),
        0,
        0,
        *entry.device,
        len(name),
        0,
    )
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    head += b"\0" * (-len(head) % 4)
    body = entry.data + b"\0" * (-len(entry.data) % 4)
    target.write(head)
    target.write(body)
    return len(head) + len(body)
