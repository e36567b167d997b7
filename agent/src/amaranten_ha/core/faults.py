# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a node must not be active, as one sentence: what heart saw, and what only the pair can tell.

The engine enters once a turn. Heart reports what it read of its own kernel (the gate, forwarding).
Chains of type nat are judged against the peer: without them the copied translations do nothing, but
a pair whose ruleset translates nothing needs none.
"""

from __future__ import annotations

from amaranten_ha.core.beat import Flag

_NAT = Flag.NAT4 | Flag.NAT6
_FAMILIES = {Flag.NAT4: "IPv4", Flag.NAT6: "IPv6"}


def missing_nat(here: Flag, had: Flag, peer: Flag | None, active: bool) -> Flag:
    """Return the families whose nat chains the peer has and this node lacks.

    An active node lacks only what it had before: a ruleset that brings the first translation goes
    to the passive node first, and must not move the role.
    """
    missing = (peer or Flag(0)) & _NAT & ~here
    return missing & had if active else missing


def nat_sentence(missing: Flag, peer_name: str) -> str:
    """Return the fault in words; empty if nothing is missing."""
    families = " and ".join(word for flag, word in _FAMILIES.items() if flag in missing)
    return f"no nat chain for {families}, and {peer_name} has one" if families else ""
