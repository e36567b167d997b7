# SPDX-License-Identifier: GPL-3.0-or-later
"""From a failing schedule to a minimal one: fewer faults, simpler faults, a plainer pair.

A campaign or a person enters with a plan that breaks an invariant and gets the smallest plan, found
in a bounded number of runs, that still breaks the same one. What is cut away is tried greedily,
the largest piece first, until nothing more can go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from simulator.plan import Fault, Plan
from simulator.run import run

RUNS_MAX = 400


def shrink(plan: Plan, violation: str, runs_max: int = RUNS_MAX) -> Plan:
    """Return a minimal plan that still breaks the invariant `violation`."""
    left = runs_max

    def fails(candidate: Plan) -> bool:
        nonlocal left
        left -= 1
        return run(candidate)[0].violation == violation

    smaller = True
    while smaller and left > 0:
        smaller = False
        for candidate in _candidates(plan):
            if left <= 0:
                break
            if fails(candidate):
                plan, smaller = candidate, True
                break
    return plan


def _candidates(plan: Plan) -> Iterator[Plan]:
    yield from _without_faults(plan)
    yield from _plainer(plan)
    yield from _simpler_faults(plan)


def _without_faults(plan: Plan) -> Iterator[Plan]:
    faults = plan.faults
    size = len(faults) // 2
    while size:
        for start in range(0, len(faults), size):
            yield replace(plan, faults=faults[:start] + faults[start + size :])
        size //= 2


def _plainer(plan: Plan) -> Iterator[Plan]:
    """Give each property of the pair the value that a plan has if it says nothing."""
    for field in fields(Plan):
        if field.name != "faults" and getattr(plan, field.name) != field.default:
            yield replace(plan, **{field.name: field.default})


def _simpler_faults(plan: Plan) -> Iterator[Plan]:
    for index, fault in enumerate(plan.faults):
        for other in _simpler(fault):
            faults = (*plan.faults[:index], other, *plan.faults[index + 1 :])
            yield replace(plan, faults=tuple(sorted(faults, key=_instant)))


def _instant(fault: Fault) -> int:
    return fault.at_ms


def _simpler(fault: Fault) -> Iterator[Fault]:
    if fault.links:
        yield replace(fault, links=())
    for name in ("at_ms", "for_ms", "amount"):
        value = getattr(fault, name)
        for smaller in _rounder(value):
            yield replace(fault, **{name: smaller})


def _rounder(value: int) -> Iterator[int]:
    """Smaller first, then rounder: never a larger number, so that the search ends."""
    seen = set()
    for smaller in (0, value // 2, value - value % 100, value - value % 10):
        if smaller < value and smaller not in seen:
            seen.add(smaller)
            yield smaller
