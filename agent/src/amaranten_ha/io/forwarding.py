# SPDX-License-Identifier: GPL-3.0-or-later
"""Does this kernel forward and translate? Read once a second for heart, and never changed here.

The files of /proc are opened at the start, so that a look is one read of memory. Chains of type nat
are asked for only when some ruleset has changed since the last look.
"""

from __future__ import annotations

import os
from pathlib import Path

from amaranten_ha.core.beat import Flag
from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.tlv import walk
from amaranten_ha.io import nft
from amaranten_ha.io.nft_channel import Channel

_SYSCTLS = {
    "net.ipv4.ip_forward": Path("/proc/sys/net/ipv4/ip_forward"),
    "net.ipv6.conf.all.forwarding": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
_FAMILIES = {2: Flag.NAT4, 10: Flag.NAT6, 1: Flag.NAT4 | Flag.NAT6}
"""nf_tables' numbers of the families ip, ip6 and inet."""
_CHAIN_TYPE = 7
_NAT = b"nat\0"


class Forwarding:
    """What a node that forwards needs of its kernel beside the gate."""

    def __init__(self) -> None:
        self._files = {
            name: os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            for name, path in _SYSCTLS.items()
            if path.exists()
        }
        self._channel: Channel | None = None
        self._generation: bytes | None = None
        self._nat = Flag(0)

    def problem(self) -> str:
        """Return what is switched off, in a sentence; empty if nothing is."""
        off = [name for name, file in self._files.items() if os.pread(file, 8, 0).strip() == b"0"]
        return f"forwarding is off: {' and '.join(off)} is 0" if off else ""

    def nat(self) -> Flag:
        """Return the families for which there is a chain of type nat; as before if not told."""
        try:
            if self._channel is None:
                self._channel = Channel()
            generation = self._channel.ask([nft.get_generation()])[0]
            if generation != self._generation:
                self._nat, steady = self._read(self._channel)
                self._generation = generation if steady else None
        except KernelRefused:
            if self._channel is not None:
                self._channel.close()
            self._channel = self._generation = None
        return self._nat

    def _read(self, channel: Channel) -> tuple[Flag, bool]:
        found, all_steady = Flag(0), True
        for family, flags in _FAMILIES.items():
            bodies, steady = channel.dump(nft.dump_chains(), family)
            all_steady = all_steady and steady
            if any(dict(walk(body)).get(_CHAIN_TYPE) == _NAT for body in bodies):
                found |= flags
        return found, all_steady
