# SPDX-License-Identifier: GPL-3.0-or-later
"""The claim: the right to be active that a node says it has, and what makes one the higher.

The engine, the role table and what is said of the peer enter. A claim is immutable and totally
ordered; a node that wants a better one makes another, with an epoch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """The right to be active that a node says it has; compared from left to right."""

    standing: int
    """1 if a third party answered when the claim was made, 0 if nobody did."""
    epoch: int
    rank: int
    """2 for the primary, 1 for the backup: decides only between two otherwise equal claims."""

    def __str__(self) -> str:
        reached = "third parties answered" if self.standing else "nobody answered"
        return f"epoch {self.epoch}, {reached}"


def rank(node_number: int) -> int:
    """The primary (1) outranks the backup (2)."""
    return 3 - node_number
