# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a node must not be active, as far as only the pair can tell: chains of type nat.

The engine enters once a turn. Without such a chain the copied translations do nothing, but a pair
whose ruleset translates nothing needs none: so a node is judged against its peer, and not before
it has been without for a while, because an operator's `flush` and `load` are two steps.
"""

from __future__ import annotations

from amaranten_ha.core.beat import Flag
from amaranten_ha.core.timing import MS_NS, Timing

_NAT = int(Flag.NAT4 | Flag.NAT6)
_FAMILIES = {Flag.NAT4: "IPv4", Flag.NAT6: "IPv6"}


class NatWatch:
    """The families whose nat chains the peer has and this node lacks, and since when."""

    def __init__(self, timing: Timing) -> None:
        self._patience_ns = timing.nat_ms * MS_NS
        self._had = self._missing = 0
        self._since_ns = 0

    def look(self, here: Flag, peer: Flag, active: bool, now_ns: int) -> None:
        """Take in what both kernels have.

        An active node lacks only what it had before: a ruleset that brings the first translation
        goes to the passive node first, and must not move the role.
        """
        has = int(here)
        self._had |= has
        missing = int(peer) & _NAT & ~has
        missing = missing & self._had if active else missing
        if missing and not self._missing:
            self._since_ns = now_ns
        self._missing = missing

    def problem(self, peer_name: str, now_ns: int) -> str:
        """Return the fault in words; empty if nothing is missing, or not for long enough."""
        if not self._missing or now_ns - self._since_ns < self._patience_ns:
            return ""
        families = " and ".join(word for flag, word in _FAMILIES.items() if flag & self._missing)
        return f"no nat chain for {families}, and {peer_name} has one"
