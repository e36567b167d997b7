# SPDX-License-Identifier: GPL-3.0-or-later
"""Both were active: what the operator must read afterwards, written by both nodes.

The engine enters when an active node hears that its peer is active too, and when that has ended.
The report says when it was noticed, for how long both had been active, which claims met, who
yielded and why. Who yields is decided by the role table and not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranten_ha.core.claim import Claim


@dataclass(slots=True)
class DualActive:
    """One meeting of two active nodes, as one of them sees it."""

    met_ns: int
    together_ms: int
    """For how long both had been active when they met; the younger claim's age."""
    mine: Claim
    theirs: Claim

    def report(self, me: str, peer: str, yielded: str, why: str, now_ns: int) -> str:
        """Return the report as one sentence."""
        resolved_ms = (now_ns - self.met_ns) // 1_000_000
        return (
            f"{me} and {peer} were both active for {self.together_ms / 1000:.1f} s until they met;"
            f" {me} claimed {self.mine} ({_rank(self.mine)}),"
            f" {peer} claimed {self.theirs} ({_rank(self.theirs)});"
            f" {yielded} after {resolved_ms} ms: {why}"
        )


def _rank(claim: Claim) -> str:
    return "primary" if claim.rank == 2 else "backup"
