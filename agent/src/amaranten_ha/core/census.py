# SPDX-License-Identifier: GPL-3.0-or-later
"""How many connections there are, how many survive a switch now, and why the others do not.

A survey enters with every entry that is not survivable, so the survivable ones cost nothing here.
What is counted is as old as the last survey; the rest of the sum is of this moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from amaranten_ha.core import flow
from amaranten_ha.core.scope import Scope

OWN, MASQUERADE, HALF_OPEN = "own", "masquerade", "half-open"
NO_HELPER, NEWBORN, NOT_COPIED = "no helper", "newborn", "not copied"
WORDS = {
    OWN: "of the nodes themselves",
    MASQUERADE: "translated to an own address",
    HALF_OPEN: "half-open",
    NO_HELPER: "whose helper is not loaded on the passive",
    NEWBORN: "too new to be there",
    NOT_COPIED: "not copied",
}
"""Classes of connections that would not survive, and how they are said."""


def why(entry: flow.Entry, scope: Scope) -> str:
    """Return the class of an entry that is not survivable."""
    source, target, answering, translated = entry.addresses
    if not (scope.moves(source) and scope.moves(target)):
        return OWN
    if not scope.moves(translated):
        return MASQUERADE if entry.status & flow.SRC_NAT_DONE else OWN
    return HALF_OPEN if scope.moves(answering) else OWN


class Census:
    """The counts of the survey that is under way, and of the last whole one."""

    def __init__(self) -> None:
        self._counting: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()

    def begin(self) -> None:
        """A survey begins."""
        self._counting = Counter()

    def add(self, entry: flow.Entry, scope: Scope) -> None:
        """Count an entry that is not survivable."""
        self._counting[why(entry, scope)] += 1

    def end(self) -> None:
        """The survey has seen everything."""
        self.counted = self._counting


def summary(
    counted: Mapping[str, int], survivable: int, newborn: int, missing: int, synced: bool
) -> dict[str, Any]:
    """Return x of y and the classes of the rest.

    `missing` are those that should be on the passive and are not; without a replica all are.
    """
    lost = {word: count for word, count in counted.items() if count and word != NO_HELPER}
    absent = min(max(missing, newborn), survivable) if synced else survivable
    lost |= {NEWBORN: min(newborn, absent)} if newborn and synced else {}
    rest = absent - lost.get(NEWBORN, 0)
    lost |= {NOT_COPIED: rest} if rest else {}
    helpless = min(counted.get(NO_HELPER, 0), survivable - absent)
    lost |= {NO_HELPER: helpless} if helpless else {}
    return {
        "survive": survivable - absent - helpless,
        "of": survivable + sum(counted.get(word, 0) for word in (OWN, MASQUERADE, HALF_OPEN)),
        "not": lost,
    }


def line(said: Mapping[str, Any]) -> str:
    """Return the summary as one line of the status."""
    rest = ", ".join(f"{count} {WORDS.get(word, word)}" for word, count in said["not"].items())
    text = f"{said['survive']} of {said['of']} connections would survive a switch now"
    return f"{text}; not: {rest}" if rest else text
