# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a drill found, from what the probes, the taps and the nodes told.

Pure: numbers and times come in, findings go out.  Times are nanoseconds of the controller's
monotonic clock after the offsets of the hosts were applied; the uncertainty of an offset is never
counted in our favour nor against us: an overlap that is smaller than it is no overlap.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import Drill

Span = tuple[int, int]

CARRIED = {"udp": "answered", "tcp": "connections", "bulk": "bytes", "connects": "done"}
"""The figure of a probe's result that is 0 if its flow never worked."""


@dataclass
class Measured:
    """One drill in figures; None where nothing could be measured."""

    silence_ms: float | None = None
    lost: int | None = None
    connections: int | None = None
    connections_lost: int | None = None
    newcomers_failed: int | None = None
    dual_active_ms: float | None = None
    flows: list[dict[str, t.Any]] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    """Flows that carried nothing at all or told nothing: no figure above speaks of them."""


def measure(
    flows: t.Mapping[str, t.Mapping[str, t.Any]],
    kinds: t.Mapping[str, str],
    taps: t.Mapping[str, t.Mapping[str, t.Any]],
    offsets_ns: t.Mapping[str, tuple[int, int]],
    node_of_mac: t.Mapping[str, str],
) -> Measured:
    """Put the flows' results together."""
    found = Measured()
    for name, result in flows.items():
        if not result or not int(result[CARRIED[kinds[name]]]):
            found.dead.append(name)
        else:
            _add_flow(found, name, kinds[name], result)
    if taps:
        found.dual_active_ms = round(dual_active_ns(taps, offsets_ns, node_of_mac) / 1e6, 1)
    return found


def _add_flow(found: Measured, name: str, kind: str, result: t.Mapping[str, t.Any]) -> None:
    line: dict[str, t.Any] = {"name": name, "kind": kind}
    if kind == "udp":
        line.update(
            silence_ms=result["silence_ms"], lost=result["packets_lost"], sent=result["sent"]
        )
        found.silence_ms = max(found.silence_ms or 0.0, float(result["silence_ms"]))
        found.lost = (found.lost or 0) + int(result["packets_lost"])
    elif kind == "tcp":
        lost = int(result["connections"]) - int(result["connections_survived"])
        line.update(
            connections=result["connections"], lost=lost, longest_ms=result["longest_ms"],
            errors=result["lost"],
        )  # fmt: skip
        found.connections = (found.connections or 0) + int(result["connections"])
        found.connections_lost = (found.connections_lost or 0) + lost
    elif kind == "bulk":
        line.update(
            silence_ms=result["silence_ms"], bytes=result["bytes"], survived=result["survived"],
            error=result["error"],
        )  # fmt: skip
        found.connections = (found.connections or 0) + 1
        found.connections_lost = (found.connections_lost or 0) + int(not result["survived"])
    else:
        line.update({k: result[k] for k in ("tried", "done", "failed", "slowest_ms")})
        found.newcomers_failed = (found.newcomers_failed or 0) + int(result["failed"])
    found.flows.append(line)


def dual_active_ns(
    taps: t.Mapping[str, t.Mapping[str, t.Any]],
    offsets_ns: t.Mapping[str, tuple[int, int]],
    node_of_mac: t.Mapping[str, str],
) -> int:
    """For how long packets came through both nodes, as the hosts' wires saw it."""
    spans: dict[str, list[Span]] = {}
    blur_ns = 0
    for host, tap in taps.items():
        offset_ns, error_ns = offsets_ns.get(host, (0, 0))
        blur_ns = max(blur_ns, error_ns)
        for mac, heard in tap["nodes"].items():
            node = node_of_mac.get(mac)
            if node:
                spans.setdefault(node, []).extend(
                    (begin + offset_ns, end + offset_ns) for begin, end in heard["spans"]
                )
    if len(spans) < 2:
        return 0
    first, second = list(spans.values())[:2]
    return sum(
        overlap
        for begin, end in merged(first)
        for other_begin, other_end in merged(second)
        if (overlap := min(end, other_end) - max(begin, other_begin)) > 2 * blur_ns
    )


def merged(spans: t.Iterable[Span]) -> list[Span]:
    """Spans without overlaps among themselves, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was demanded of a drill."""

    name: str
    ok: bool
    sentence: str


def judge(
    drill: Drill,
    budget: t.Mapping[str, float],
    found: Measured,
    roles: tuple[str, str],
    whole: bool,
    seconds: float,
) -> list[Check]:
    """The verdict: what was demanded, and whether it was so.

    A limit that the operator sets is a demand to measure; the drill's own limits are for what was.

    `roles` are the active node before and after; the budget of silence and loss is widened by the
    time for which the fault itself keeps the flows down, where it does.
    """
    checks = [Check("whole", whole, "the pair is whole again: one active, one passive, ready")]
    before, after = roles
    if drill.name != "isolate":
        moved = before != after
        expected = "the other node took over" if drill.moves else "no role changed"
        checks.append(Check("roles", moved is drill.moves, f"{expected}: {before} -> {after}"))
    for name in found.dead:
        sentence = f"the flow {name} carried nothing, expected one that works before the fault"
        checks.append(Check("traffic", False, sentence))
    limits = dict(drill.budget, **budget)
    for key, limit in limits.items():
        value = getattr(found, key)
        if value is None:
            if key in budget:
                sentence = f"{key} was not measured, expected at most {limit:g}"
                checks.append(Check(key, False, sentence))
            continue
        if key == "silence_ms" and drill.interrupts:
            limit += seconds * 1000
        unit = " ms" if key.endswith("_ms") else ""
        checks.append(Check(key, value <= limit, f"{key} {value:g}{unit}, at most {limit:g}{unit}"))
    return checks


def compared(value: float | None, earlier: t.Sequence[float]) -> str:
    """One figure beside those of earlier runs: "12 ms slower than the median of 8"."""
    if value is None or not earlier:
        return ""
    ordered = sorted(earlier)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    difference = value - median
    runs = f"the median of {len(ordered)}" if len(ordered) > 1 else "the last run"
    if abs(difference) < 0.5:
        return f"as {runs}"
    return f"{abs(difference):.0f} ms {'slower' if difference > 0 else 'faster'} than {runs}"
