# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The judgement of one pair: findings, those of them that are allowed, and one line.

Pure: what `node_info` returned for each node comes in, None for a node that was not reached.  A
difference that the inventory allows is listed with its reason and is no drift; an allowance that
fits nothing is said, so that it does not outlive its reason.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils import _drift as drift
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_values import values
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

# What two clocks may differ by: logs of both nodes can still be read side by side.
CLOCK_S_MAX = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """A difference that the inventory allows, and why."""

    path: str
    reason: str
    kind: str = ""

    def fits(self, finding: drift.Finding) -> bool:
        """Whether it is about this finding."""
        return fnmatch.fnmatchcase(finding.path, self.path) and self.kind in ("", finding.kind)


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said about one pair."""

    id: int
    name: str
    nodes: tuple[str, ...]
    unreached: tuple[str, ...]
    compared: int
    findings: tuple[drift.Finding, ...]
    allowed: tuple[tuple[drift.Finding, str], ...]
    unused: tuple[Allowance, ...]

    @property
    def drifted(self) -> bool:
        """Whether something differs that is not allowed."""
        return bool(self.findings)

    def line(self) -> str:
        """The pair in one line."""
        if len(self.unreached) == len(self.nodes):
            return f"{self.name}: NOT COMPARED, no node could be reached"
        parts = [f"{self.name}: {summary(self.findings)}"]
        if self.allowed:
            parts.append(f"{len(self.allowed)} allowed")
        if self.unreached:
            parts.append(f"{' and '.join(self.unreached)} NOT REACHED and not compared")
        else:
            parts.append(f"{self.compared} values compared on {' and '.join(self.nodes)}")
        return ", ".join(parts)


def summary(findings: t.Sequence[drift.Finding]) -> str:
    """How many findings of which class."""
    if not findings:
        return "no drift"
    counts = {kind: sum(f.kind == kind for f in findings) for kind in drift.CLASSES}
    listed = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    return f"DRIFT ({listed})"


def judge(
    pair: t.Mapping[str, t.Any],
    found: t.Mapping[str, t.Mapping[str, t.Any] | None],
    release: str,
    allowances: t.Sequence[Allowance],
    now: float,
) -> Judgement:
    """Compare the nodes of one pair; `pair` has id, name and nodes, `now` is the controller's."""
    nodes = tuple(pair["nodes"])
    reached = {node: found[node] for node in nodes if found.get(node) is not None}
    by_node = {node: values(seen, node, release) for node, seen in reached.items() if seen}
    findings = drift.compare(by_node)
    apart = {n: seconds_apart(seen["facts"]["clock"], now) for n, seen in reached.items() if seen}
    findings += clocks(apart)
    findings += twins({n: seen for n, seen in reached.items() if seen})
    allowed, left = [], []
    for finding in findings:
        reason = next((a.reason for a in allowances if a.fits(finding)), None)
        if reason is None:
            left.append(finding)
        else:
            allowed.append((finding, reason))
    unused = [a for a in allowances if not any(a.fits(f) for f in findings)]
    return Judgement(
        id=int(pair["id"]),
        name=str(pair["name"]),
        nodes=nodes,
        unreached=tuple(node for node in nodes if node not in reached),
        compared=len({path for seen in by_node.values() for path in seen}),
        findings=tuple(left),
        allowed=tuple(allowed),
        unused=tuple(unused),
    )


def seconds_apart(clock: t.Mapping[str, t.Any], now: float) -> float:
    """How far a node's clock is at least from the controller's, which asked before and reads after.

    However long the question took on its way, a sound clock says a moment in between.
    """
    said, asked_at = float(clock["said"]), clock.get("asked_at")
    if asked_at is None:
        return 0.0
    return max(said - now, 0.0) + min(said - float(asked_at), 0.0)


def clocks(apart: t.Mapping[str, float]) -> list[drift.Finding]:
    """A finding if a clock differs from the controller's, told against the better one."""
    wrong = {node: seconds for node, seconds in apart.items() if abs(seconds) > CLOCK_S_MAX}
    if not wrong:
        return []
    texts = [
        f"{node}: the clock is at least {abs(s):.0f} s "
        f"{'ahead of' if s > 0 else 'behind'} the controller's"
        for node, s in wrong.items()
    ]
    return [
        drift.Finding(
            path="kernel/clock",
            kind=drift.BOTH_SIDED if len(wrong) == 2 else drift.ONE_SIDED,
            nodes=tuple(wrong),
            text="; ".join(texts),
            diff="".join(
                f"--- {node}: kernel/clock\n+++ controller\n@@ -1 +1 @@\n-{s:+.0f} s\n+0 s\n"
                for node, s in wrong.items()
            ),
            remedies={node: f"on {node}: timedatectl timesync-status" for node in wrong},
        )
    ]


def twins(found: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[drift.Finding]:
    """A finding for each interface on which both nodes have the same hardware address."""
    if len(found) != 2:
        return []
    one, other = found
    findings = []
    for name in found[one]["interfaces"]:
        macs = [
            seen["facts"]["devices"].get(seen["interfaces"][name]["device"], {}).get("mac", "")
            for seen in found.values()
            if name in seen["interfaces"]
        ]
        if len(macs) == 2 and macs[0] and macs[0] == macs[1]:
            devices = {n: seen["interfaces"][name]["device"] for n, seen in found.items()}
            findings.append(
                drift.Finding(
                    path=f"mac/{name}/twice",
                    kind=drift.BOTH_SIDED,
                    nodes=(one, other),
                    text=f"both nodes have the hardware address {macs[0]}, expected two",
                    diff=f"--- {one}\n+++ {other}\n@@ -1 +1 @@\n {macs[0]}\n",
                    remedies={
                        n: f"on {n}: ip link set {d} address ..." for n, d in devices.items()
                    },
                )
            )
    return findings


def allowances(raw: object, where: str, problems: Problems) -> list[Allowance]:
    """`drift_allowed` as the operator wrote it; what is wrong with it goes to the problems."""
    if not isinstance(raw, list):
        problems.add(where, raw, "a list of differences, each with `path` and `reason`")
        return []
    found = []
    for index, item in enumerate(raw):
        path = f"{where}[{index}]"
        if not isinstance(item, dict):
            problems.add(path, item, "a dict with path, reason and perhaps class")
            continue
        unknown = [key for key in item if key not in ("path", "reason", "class")]
        for key in unknown:
            problems.say(f"{path}.{key} is not known, expected only path, reason, class.")
        for key, expected in (
            ("path", "the path of a finding, `*` for any part of it"),
            ("reason", "why it is allowed, for whoever reads the report"),
        ):
            if not isinstance(item.get(key), str) or not item[key].strip():
                problems.add(f"{path}.{key}", item.get(key), expected)
        kind = item.get("class", "")
        if kind and kind not in drift.CLASSES:
            problems.add(f"{path}.class", kind, "one of " + ", ".join(drift.CLASSES))
        found.append(Allowance(str(item.get("path")), str(item.get("reason")), str(kind)))
    return found
