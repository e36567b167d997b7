# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels between the nodes, and what it truly says: values, made by machines and the world.

The engine that hears a frame sees its content only; the truth is for the judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from amaranten_ha.core.beat import Kind, Role
from amaranten_ha.core.claim import Claim


@dataclass(frozen=True, slots=True)
class Sent:
    """What a heartbeat truly says, for the judge: the engine that hears it sees only the bytes."""

    session: int
    sequence: int
    kind: Kind
    role: Role
    epoch: int
    claim: Claim | None
    barrier: int | None
    """Of the offer that it makes, if any."""
    fresh_for: tuple[int, int]
    """The sessions of the other that it echoes."""
    forged: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Which of two was said later: sessions of a node are numbered in their order."""
        return self.session, self.sequence


class Arrival(NamedTuple):
    """A frame in the receive ring, with the kernel's time of receipt."""

    at_ns: int
    link: int
    what: str
    content: Any
    mac: bytes
    sent: Sent | None = None
