# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a drill found, from what the probes, the taps and the nodes told.

Pure: numbers and times come in, findings go out.  Times are nanoseconds of the controller's
monotonic clock after the offsets of the hosts were applied; the uncertainty of an offset is never
counted in our favour nor against us: an overlap that is smaller than it is no overlap.
"""

from __future__ import annotations

import itertools
import typing as t
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import Drill

# Packets of a node that are further apart do not belong together: it may have been shut meanwhile.
NEAR_NS = 100_000_000

CARRIED = {"udp": "answered", "tcp": "connections", "bulk": "bytes", "connects": "done"}
"""The figure of a probe's result that is 0 if its flow never worked."""
LIMITS = {
    "silence_ms": "longest silence",
    "lost": "packets lost",
    "connections_lost": "connections lost",
    "dual_active_ms": "both nodes forwarding",
}


@dataclass
class Measured:
    """One drill in figures; None where nothing could be measured."""

    silence_ms: float | None = None
    late_ms: float = 0.0
    """How much longer the silence may have been, because a probe was late itself."""
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
    times: t.Mapping[str, t.Sequence[int]] | None,
    blur_ns: int = 0,
) -> Measured:
    """Put the flows' results together; `times` are None where no wire was watched."""
    found = Measured()
    for name, result in flows.items():
        if not result or not int(result[CARRIED[kinds[name]]]):
            found.dead.append(name)
        else:
            _add_flow(found, name, kinds[name], result)
    if times is not None:
        found.dual_active_ms = round(dual_active_ns(times, blur_ns) / 1e6, 1)
    return found


def _add_flow(found: Measured, name: str, kind: str, result: t.Mapping[str, t.Any]) -> None:
    line: dict[str, t.Any] = {"name": name, "kind": kind}
    if kind == "udp":
        line.update(
            silence_ms=result["silence_ms"], late_ms=result["late_ms"],
            send_gap_ms=result["send_gap_ms"], lost=result["packets_lost"], sent=result["sent"],
        )  # fmt: skip
        found.silence_ms = max(found.silence_ms or 0.0, float(result["silence_ms"]))
        found.late_ms = max(found.late_ms, float(result["late_ms"]))
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


def node_times(
    taps: t.Mapping[str, t.Mapping[str, t.Any]],
    offsets_ns: t.Mapping[str, tuple[int, int]],
    node_of_mac: t.Mapping[str, str],
) -> tuple[dict[str, list[int]], int]:
    """(when packets came through each node, on our clock and in order; how far off that may be)."""
    times: dict[str, list[int]] = {}
    blur_ns = 0
    for host, tap in taps.items():
        offset_ns, error_ns = offsets_ns.get(host, (0, 0))
        blur_ns = max(blur_ns, error_ns)
        for mac, heard in tap["nodes"].items():
            node = node_of_mac.get(mac)
            if node and heard["packets"]:
                at_ns = heard["from_ns"] + offset_ns
                steps_ns = (step_us * 1000 for step_us in heard["after_us"])
                times.setdefault(node, []).extend(
                    itertools.accumulate(steps_ns, initial=at_ns)
                )  # fmt: skip
    return {node: sorted(found) for node, found in times.items()}, blur_ns


def dual_active_ns(times: t.Mapping[str, t.Sequence[int]], blur_ns: int) -> int:
    """For how long packets came through both nodes, as the hosts' wires saw it.

    A node forwards beside the other while it passes packets between two of the other's.  What each
    did so is summed up, and the smaller sum counts: one stray packet among many is one moment.
    """
    if len(times) < 2:
        return 0
    first, second = list(times.values())[:2]
    return min(_beside(first, second, blur_ns), _beside(second, first, blur_ns))


def _beside(own: t.Sequence[int], other: t.Sequence[int], blur_ns: int) -> int:
    """For how long a node passed packets between two of the other's, none of them in the blur."""
    found = []
    for at_ns in own:
        before = bisect_left(other, at_ns - blur_ns) - 1
        after = bisect_right(other, at_ns + blur_ns)
        if (
            before >= 0
            and after < len(other)
            and at_ns - other[before] <= NEAR_NS
            and other[after] - at_ns <= NEAR_NS
        ):
            found.append(at_ns)
    steps = (later - earlier for earlier, later in itertools.pairwise(found))
    return sum(step for step in steps if step <= NEAR_NS)


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
                sentence = f"{LIMITS[key]}: not measured, expected at most {limit:g}"
                checks.append(Check(key, False, sentence))
            continue
        if key == "silence_ms" and drill.interrupts:
            limit += seconds * 1000
        unit = " ms" if key.endswith("_ms") else ""
        sentence = f"{LIMITS[key]}: {value:g}{unit}, at most {limit:g}{unit}"
        if key == "silence_ms" and value <= limit < value + found.late_ms:
            sentence += (
                f": not measured, a probe was late itself for {found.late_ms:g} ms meanwhile"
            )
            value = limit + found.late_ms
        checks.append(Check(key, value <= limit, sentence))
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
