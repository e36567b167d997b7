# SPDX-License-Identifier: GPL-3.0-or-later
"""Heart before a kernel that lets an address wait: `held_heart.py FILE MUTANT heart ARGUMENTS`.

The test of the announcements starts it instead of the archive's door. While FILE is there, whoever
puts an address on waits, as for a kernel that changes its network for others; for ten seconds at
most. MUTANT is empty, or a name below: a heart that is wrong on purpose. All else is as shipped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from amaranten_ha import __main__ as door
from amaranten_ha import heart
from amaranten_ha.core import role
from amaranten_ha.core.role import Action
from amaranten_ha.io.links import Addresses, SharedAddress

HELD_S_MAX = 10.0
ADDRESSES_FIRST, AT_THE_END = "addresses first", "at the end of the turn"
_put_on, _perform = Addresses.put_on, heart.Heart._perform


def waiting(path: str) -> None:
    """Let every address wait while the file is there."""

    def put_on(self: Addresses, wanted: Iterable[SharedAddress]) -> list[str]:
        end = time.monotonic() + HELD_S_MAX
        while os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.002)
        return _put_on(self, wanted)

    Addresses.put_on = put_on  # type: ignore[method-assign]


def addresses_first() -> None:
    """Let whoever follows a lost peer put the addresses on before it announces them."""
    hasty = {Action.ANNOUNCE: Action.ADDRESSES_ON, Action.ADDRESSES_ON: Action.ANNOUNCE}
    role.RULES = tuple(
        replace(rule, actions=tuple(hasty.get(each, each) for each in rule.actions))
        if rule.reason.startswith("peer lost: ")
        else rule
        for rule in role.RULES
    )


def at_the_end() -> None:
    """Let an announcement that is asked for wait until the turn has ended."""

    def perform(self: heart.Heart, action: Action, now_ns: int) -> None:
        if action is Action.ANNOUNCE:
            self._announcer.begin(now_ns)
        else:
            _perform(self, action, now_ns)

    heart.Heart._perform = perform  # type: ignore[method-assign]


MUTANTS = {ADDRESSES_FIRST: addresses_first, AT_THE_END: at_the_end}

if __name__ == "__main__":
    waiting(sys.argv[1])
    if sys.argv[2]:
        MUTANTS[sys.argv[2]]()
    sys.exit(door.main(sys.argv[3:]))
