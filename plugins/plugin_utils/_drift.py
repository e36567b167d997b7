# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What differs between the inventory and two nodes, and of which kind each difference is.

Pure: values by path come in for each node (see `_drift_values`), findings go out.  Who looked, and
what is done about a finding, is not known here.  The five classes, in the words of docs/drift.md:

- intent: the node is as it was deployed, and the inventory has changed since.
- one-sided, both-sided: one node, or both, were changed after the deployment.
- runtime: the file is right, and the kernel or systemd is not.
- stale agent: a service runs with something else than what is on the disk.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing as t

INTENT = "intent"
ONE_SIDED = "one-sided"
BOTH_SIDED = "both-sided"
RUNTIME = "runtime"
STALE = "stale agent"
CLASSES = (INTENT, ONE_SIDED, BOTH_SIDED, RUNTIME, STALE)

# What a value is called where there is none.
ABSENT = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """One thing on one node; None where nothing is known of it.

    `wanted` is None if the inventory says nothing: then only the nodes are compared.
    `as_deployed` says whether the node is as the last deployment left it, None if nobody knows.
    """

    wanted: str | None = None
    disk: str | None = None
    live: str | None = None
    as_deployed: bool | None = None
    stale: str = ""
    remedy: str = ""
    note: str = ""

    @property
    def found(self) -> str:
        """What the node has, for people: what is wrong of it first."""
        if self.disk is not None and self.disk != self.wanted:
            return self.disk
        return self.live if self.live is not None else self.disk or ABSENT


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One difference."""

    path: str
    kind: str
    nodes: tuple[str, ...]
    text: str
    diff: str
    remedies: t.Mapping[str, str]

    def as_dict(self) -> dict[str, t.Any]:
        """For the report."""
        return {
            "path": self.path,
            "class": self.kind,
            "nodes": list(self.nodes),
            "text": self.text,
            "diff": self.diff,
            "remedies": dict(self.remedies),
        }


Values = t.Mapping[str, Value]


def compare(nodes: t.Mapping[str, Values]) -> list[Finding]:
    """All findings about one pair; `nodes` holds the nodes that were reached, one or two."""
    found: list[Finding] = []
    for path in sorted({path for values in nodes.values() for path in values}):
        here = {node: values.get(path) for node, values in nodes.items()}
        found += findings(path, here)
    return found


def findings(path: str, here: t.Mapping[str, Value | None]) -> t.Iterator[Finding]:
    """The findings about one path: nodes with the same kind of fault share one."""
    faults: dict[str, dict[str, Value]] = {}
    opinions = {node: value for node, value in here.items() if value is not None}
    for node, value in opinions.items():
        kind = fault(value)
        if kind:
            faults.setdefault(kind, {})[node] = value
    for kind, values in faults.items():
        if kind == ONE_SIDED and len(values) == 2:
            kind = BOTH_SIDED
        yield finding(path, kind, values)
    if not faults and all(value.wanted is None for value in opinions.values()):
        yield from differing(path, here)


def fault(value: Value) -> str:
    """What is wrong with one node by itself, ONE_SIDED for a change on it; or nothing."""
    if value.stale:
        return STALE
    if value.wanted is None:
        return ""
    disk_right = value.disk is None or value.disk == value.wanted
    live_right = value.live is None or value.live == value.wanted
    if disk_right and live_right:
        return ""
    if disk_right and value.disk is not None:
        return RUNTIME
    return INTENT if value.as_deployed else ONE_SIDED


def differing(path: str, here: t.Mapping[str, Value | None]) -> t.Iterator[Finding]:
    """A finding if the two nodes differ in something of which the inventory says nothing."""
    if len(here) != 2:
        return
    (one, mine), (other, theirs) = here.items()
    left = ABSENT if mine is None else mine.found
    right = ABSENT if theirs is None else theirs.found
    if left == right:
        return
    present = {node: value for node, value in here.items() if value is not None and value.found}
    if len(present) == 1:
        yield finding(path, ONE_SIDED, present)
        return
    remedies = {node: value.remedy for node, value in here.items() if value and value.remedy}
    yield Finding(
        path=path,
        kind=ONE_SIDED,
        nodes=(one, other),
        text=f"{one} has {shown(left)}, {other} has {shown(right)}",
        diff=unified(f"{one}: {path}", f"{other}: {path}", left, right),
        remedies=remedies,
    )


def finding(path: str, kind: str, values: t.Mapping[str, Value]) -> Finding:
    """One finding about one or two nodes and what was wanted."""
    parts, diffs = [], []
    for node, value in values.items():
        wanted = value.wanted or ABSENT
        where = place(value, kind)
        parts.append(value.stale or value.note or sentence(where, wanted, value.found))
        if not value.stale:
            diffs.append(unified(f"{node}: {path}{where}", "inventory", value.found, wanted))
    who = " and ".join(values)
    said = parts[0] if len(set(parts)) == 1 else "; ".join(parts)
    return Finding(
        path=path,
        kind=kind,
        nodes=tuple(values),
        text=f"{who}: {said}",
        diff="".join(diffs),
        remedies={node: value.remedy for node, value in values.items() if value.remedy},
    )


def place(value: Value, kind: str) -> str:
    """Where the wrong value is, when disk and kernel are not the same."""
    if kind == RUNTIME:
        return " (running)"
    if value.disk is not None and value.live is not None and value.live == value.wanted:
        return " (on disk only)"
    return ""


def sentence(where: str, wanted: str, found: str) -> str:
    """One difference in words."""
    if "\n" in wanted or "\n" in found:
        if not found:
            return f"is missing{where}"
        return f"differs{where}" if wanted else f"is not in the inventory{where}"
    if not wanted:
        return f"has {shown(found)}{where}, expected none"
    return f"has {shown(found)}{where}, expected {shown(wanted)}"


def shown(value: str) -> str:
    """A value within a sentence."""
    if value == ABSENT:
        return "none"
    return value if "\n" not in value else f"{len(value.splitlines())} lines"


def unified(before: str, after: str, found: str, wanted: str) -> str:
    """A diff for people: what is there as minus, what is expected as plus."""
    lines = difflib.unified_diff(
        found.splitlines(), wanted.splitlines(), before, after, n=2, lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)
