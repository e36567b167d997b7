# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict: figures in, a table for people, a file for programs, and an exit code.

Pure but for the one file that it writes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

SILENCE_LIMIT_MS = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """What the power cut and the return cost."""

    silence_ms: float
    packets_lost: int
    connections: int
    connections_survived: int
    active_before: str
    active_after: str
    needless_switches: int
    returned_as: str
    packets_lost_on_return: int
    packets_forwarded_by_both: int
    packets_sent: int
    profile: str
    deploy_s: float
    connections_lost: list[str] = field(default_factory=list)

    def shortcomings(self) -> list[str]:
        """Why this is not a success; nothing if it is."""
        found = []
        if self.silence_ms >= SILENCE_LIMIT_MS:
            found.append(f"the silence lasted {self.silence_ms:g} ms, {SILENCE_LIMIT_MS} or more")
        if self.connections_survived < self.connections:
            lost = self.connections - self.connections_survived
            found.append(f"{lost} of {self.connections} connections did not survive")
        if self.active_after in ("", self.active_before):
            found.append(f"after the power cut of {self.active_before} nobody else was active")
        if self.needless_switches:
            found.append(f"the active node changed {self.needless_switches} times without need")
        if self.returned_as != "passive":
            found.append(f"{self.active_before} came back as {self.returned_as or 'nothing'}")
        if self.packets_forwarded_by_both:
            found.append(f"{self.packets_forwarded_by_both} packets went through both at once")
        return found

    def table(self) -> str:
        """The figures, one a line."""
        rows = [
            ("silence", f"{self.silence_ms:g} ms"),
            ("packets lost", f"{self.packets_lost} of {self.packets_sent} (1 kHz UDP)"),
            ("connections survived", f"{self.connections_survived} of {self.connections} (TCP)"),
            ("active", f"{self.active_after} (was {self.active_before})"),
            ("return", f"{self.active_before} came back {self.returned_as}"),
            ("packets lost on return", str(self.packets_lost_on_return)),
            ("needless switches", str(self.needless_switches)),
            ("forwarded by both at once", f"{self.packets_forwarded_by_both} packets"),
        ]
        width = max(len(name) for name, _text in rows)
        rule = "-" * (width + 34)
        return "\n".join([rule, *(f"  {name:<{width}}  {text}" for name, text in rows), rule])

    def write(self, path: Path) -> None:
        """The same for programs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {**asdict(self), "shortcomings": self.shortcomings()}
        path.write_text(json.dumps(content, indent=2) + "\n")


def lost_between(rows: list[list[int | None]], from_ns: int, to_ns: int) -> int:
    """How many of the requests sent in a period were never answered."""
    return sum(
        answered is None and sent is not None and from_ns <= sent < to_ns
        for _number, sent, answered in rows
    )


def silence_between(rows: list[list[int | None]], from_ns: int, to_ns: int) -> float:
    """The longest time without an answer in a period, in milliseconds."""
    times = sorted(at for _number, _sent, at in rows if at is not None and from_ns <= at < to_ns)
    return round(max((later - earlier for earlier, later in pairwise(times)), default=0) / 1e6, 1)
