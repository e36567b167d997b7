# SPDX-License-Identifier: GPL-3.0-or-later
"""Address conflict: somebody who is neither of the two nodes answers for a shared address.

The engine enters with every such answer. One answer may be a straggler of a machine that is being
replaced; the same hardware address twice, a beat apart, is a conflict, until nothing was heard of
it for ten seconds. A conflict makes a waiting node unfit and an active one defend its addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.timing import MS_NS, Timing

STRANGERS_MAX = 16


@dataclass(slots=True)
class _Stranger:
    text: str
    first_ns: int
    last_ns: int
    answers: int = 1


class Conflicts:
    """The strangers that answer for our shared addresses."""

    def __init__(self, timing: Timing) -> None:
        self._beat_ns = timing.beat_ms * MS_NS
        self._over_ns = timing.conflict_over_ms * MS_NS
        self._found: dict[tuple[int, bytes], _Stranger] = {}

    def answered(self, link: int, name: str, address: IPAddress, mac: bytes, at_ns: int) -> None:
        """Take in that a stranger's hardware address answers for a shared address."""
        known = self._found.get((link, mac))
        if known is None:
            if len(self._found) < STRANGERS_MAX:
                text = f"{mac.hex(':')} answers for {address} on {name}"
                self._found[link, mac] = _Stranger(text, at_ns, at_ns)
        elif at_ns - known.last_ns >= self._beat_ns:
            known.last_ns = at_ns
            known.answers += 1

    def problem(self, now_ns: int) -> str:
        """Return the oldest conflict as a sentence; empty if there is none."""
        if not self._found:
            return ""
        over = [key for key, each in self._found.items() if now_ns - each.last_ns > self._over_ns]
        for key in over:
            del self._found[key]
        texts = [each.text for each in self._found.values() if each.answers > 1]
        return f"address conflict: {texts[0]}" if texts else ""

    def lasting_ns(self, now_ns: int) -> int:
        """For how long there has been a conflict; 0 if there is none."""
        if not self._found:
            return 0
        return max(
            (now_ns - each.first_ns for each in self._found.values() if each.answers > 1), default=0
        )
