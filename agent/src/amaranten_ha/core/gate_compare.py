# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what the kernel holds the gate that was planned? The answer is a list of sentences.

`io.gate` enters with the planned table and with what was read back. Nothing is mended here, and
nothing is forgiven: a chain, a set or a rule that is not ours is as wrong as one that is missing.
"""

from __future__ import annotations

from collections.abc import Collection

from amaranten_ha.core.gate_rules import OWN4, OWN6, PRIORITY, SHARED4, SHARED6, TABLE
from amaranten_ha.core.nft_words import Code, Expression, FoundTable, Renew, Rule, Set, Table

GROWING = (OWN4, OWN6)
"""Sets that also take addresses which only the running system knows."""
JIFFY_MS_MAX = 10
"""Timeouts are read back in whole jiffies of the kernel, of 10 ms at most."""
FLAG_DORMANT = 1
SET_TIMEOUT, SET_EVAL = 0x10, 0x20


def differences(
    expected: Table, found: FoundTable | None, present: Collection[str], *, exact: bool = True
) -> list[str]:
    """Compare what is with what should be; an empty list means that the gate is in place.

    Chains of a device that is not `present` may be missing. Without `exact` the own sets may hold
    more than expected (the gate service adds what the running system knows), but nothing shared.
    """
    if found is None:
        return [f"there is no table netdev {TABLE}"]
    if found.flags & FLAG_DORMANT:
        return [f"table netdev {TABLE} is dormant"]
    return [
        *_set_differences(expected, found, exact),
        *_chain_differences(expected, found, present),
    ]


def is_kind(wanted: Set, found: FoundTable) -> bool:
    """True if the table has this set, with these flags and this key."""
    held = found.sets.get(wanted.name)
    flags = 0 if wanted.lasting else SET_TIMEOUT | SET_EVAL
    kind = wanted.key, wanted.key.length, flags
    return held is not None and (held.key, held.length, held.flags) == kind


def _set_differences(expected: Table, found: FoundTable, exact: bool) -> list[str]:
    problems = []
    shared = frozenset[bytes]().union(
        *(each.elements for each in expected.sets if each.name in (SHARED4, SHARED6))
    )
    for each in expected.sets:
        if not is_kind(each, found):
            problems.append(f"set {each.name} is missing or of another kind")
            continue
        elements = found.elements.get(each.name, frozenset())
        growing = each.name in GROWING and not exact
        right = each.elements <= elements if growing else each.elements == elements
        if each.lasting and (not right or (each.name in GROWING and elements & shared)):
            problems.append(f"set {each.name} holds other addresses than configured")
    extra = found.sets.keys() - {each.name for each in expected.sets}
    return problems + [f"set {name} is not ours" for name in sorted(extra)]


def _chain_differences(expected: Table, found: FoundTable, present: Collection[str]) -> list[str]:
    problems = []
    for each in expected.chains:
        held = found.chains.get(each.name)
        where = f"device {each.device}: " if each.device else ""
        absent = bool(each.device) and each.device not in present
        if held is None:
            if not absent:
                problems.append(f"{where}chain {each.name} is missing")
            continue
        if each.hook is not None and not (absent and not held.devices):
            hang = (held.hook, held.priority, held.policy, held.devices)
            if hang != (each.hook, PRIORITY, Code.ACCEPT, (each.device,)):
                problems.append(f"{where}chain {each.name} is not hooked where it should be")
        elif each.hook is None and held.hook is not None:
            problems.append(f"chain {each.name} is hooked where it should not be")
        if not _same_rules(each.rules, found.rules.get(each.name, ())):
            problems.append(f"{where}chain {each.name} holds other rules than ours")
    extra = found.chains.keys() - {each.name for each in expected.chains}
    return problems + [f"chain {name} is not ours" for name in sorted(extra)]


def _same_rules(expected: tuple[Rule, ...], found: tuple[Rule, ...]) -> bool:
    if expected == found:
        return True
    return len(expected) == len(found) and all(
        len(ours.expressions) == len(theirs.expressions)
        and all(map(_same, ours.expressions, theirs.expressions))
        for ours, theirs in zip(expected, found, strict=True)
    )


def _same(ours: Expression, theirs: Expression) -> bool:
    if isinstance(ours, Renew) and isinstance(theirs, Renew):
        return (ours.set, ours.change) == (theirs.set, theirs.change) and (
            abs(ours.timeout_ms - theirs.timeout_ms) < JIFFY_MS_MAX
        )
    return ours == theirs
