# SPDX-License-Identifier: GPL-3.0-or-later
"""Small things around sync: this node's addresses, conntrack's switches, a file that is never half.

`sync` enters every second or so. A kernel file that is not there is an answer too, never an error.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from pathlib import Path

_SIOCGIFCONF = 0x8912
_IFREQ_BYTES = 40
_IF_INET6 = Path("/proc/net/if_inet6")
_SYSCTL = Path("/proc/sys/net/netfilter")


def addresses() -> frozenset[bytes]:
    """Return all addresses of this node in this network namespace, packed."""
    found = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        size = 64 * _IFREQ_BYTES
        while True:
            room = array.array("B", bytes(size))
            pointer, _length = room.buffer_info()
            request = struct.pack("iL", size, pointer)
            (used, _pointer) = struct.unpack("iL", fcntl.ioctl(probe, _SIOCGIFCONF, request))
            if used < size:
                break
            size *= 2
    data = room.tobytes()
    for start in range(0, used, _IFREQ_BYTES):
        found.add(data[start + 20 : start + 24])
    if _IF_INET6.exists():
        for line in _IF_INET6.read_text().splitlines():
            found.add(bytes.fromhex(line[:32]))
    return frozenset(found)


def conntrack_trouble() -> str:
    """Return why this kernel cannot tell about its connections, an empty text if it can."""
    events = _SYSCTL / "nf_conntrack_events"
    if not _SYSCTL.exists() or not (_SYSCTL / "nf_conntrack_count").exists():
        return "this kernel tracks no connections: is nf_conntrack loaded?"
    if not events.exists():
        return "this kernel cannot tell about connections: CONFIG_NF_CONNTRACK_EVENTS is missing"
    if events.read_text().strip() == "0":
        return "net.netfilter.nf_conntrack_events is 0: expected 1"
    return ""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by a complete one: who reads it, also after a power cut, reads old or new."""
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
