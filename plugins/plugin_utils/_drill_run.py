# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One drill from readiness to verdict; read top to bottom like a recipe.

The action plugin enters with the request and the nodes.  Whatever happens in the middle, the way
out leads through `_leave`: fault undone, probes ended, lock given back.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.amaranten.ha.plugins.plugin_utils import _drill_timeline as timeline
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import Drill
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_findings import (
    NEAR_NS,
    Check,
    Measured,
    judge,
    measure,
    node_times,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_nodes import (
    TOOL,
    DrillNode,
    Fault,
    targets_of,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import (
    BrokenOffError,
    DrillError,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_request import Request
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_sessions import AnySession
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_traffic import Seen, Traffic

BEFORE_S = 2.0
AFTER_S = 1.0
WHOLE_S = 90
POWER_S = 180
# What starting, asking and undoing may take beside the waiting, in all.
SPARE_S = 120
TIMELINE_FROM_MS = -1000.0
Show = t.Callable[[str], None]


@dataclass
class Report:
    """What one drill came to."""

    drill: str
    does: str
    began: float
    """Seconds since 1970."""
    measured: Measured
    checks: list[Check]
    moments: list[timeline.Moment]
    before: dict[str, dict[str, t.Any]]
    after: dict[str, dict[str, t.Any]]
    plots: list[dict[str, t.Any]] = field(default_factory=list)
    lanes: dict[str, list[dict[str, t.Any]]] = field(default_factory=dict)
    """The roles of each node over the time of the drill."""
    end_ms: float = 0.0
    unseen: list[str] = field(default_factory=list)
    clock_error_ms: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything that was demanded was so."""
        return all(check.ok for check in self.checks)

    def data(self) -> dict[str, t.Any]:
        """All of it, for JSON."""
        return dict(asdict(self), ok=self.ok)


class DrillRun:
    """One drill on a pair."""

    def __init__(
        self,
        drill: Drill,
        request: Request,
        nodes: t.Mapping[str, DrillNode],
        vantage: t.Mapping[str, AnySession],
        holder: str,
        show: Show,
    ) -> None:
        self._drill, self._request, self._holder, self._show = drill, request, holder, show
        self._nodes = dict(nodes)
        self._lasts_s = request.seconds or drill.lasts_s
        self._node_of_mac = {
            mac: node.name for node in nodes.values() for mac in node.macs.values()
        }
        self._bound_s = self._lasts_s + BEFORE_S + AFTER_S + POWER_S + 2 * WHOLE_S + SPARE_S
        self._traffic = Traffic(request, vantage, list(self._node_of_mac), self._bound_s)
        self._fault: Fault | None = None

    def run(self) -> Report:
        """All of it; DrillError if it could not be begun or not be ended well."""
        began = time.time()
        try:
            self._watch()
            before = self.statuses()
            refuse_unready(before)
            broken, targets = targets_of(self._drill, self._nodes, before, self._request.interface)
            fault = Fault(self._drill, broken, targets, self._lasts_s)
            fault.check()
            self._show("starting traffic")
            self._traffic.start()
            self._pass(BEFORE_S, "traffic before the fault")
            self._fault = fault
            self._show(f"now: {self._drill.does}")
            zero_ns = fault.begin()
            self._pass(self._lasts_s, "the fault lasts")
            unproven = fault.unproven()
            problems = self._heal()
            whole = self._await_whole()
            self._pass(AFTER_S, "traffic after the fault")
            seen = self._traffic.finish()
            after = self.statuses()
            if self._request.restore and whole:
                problems += self._restore(active_of(before), active_of(after))
            return self._report(began, zero_ns, before, after, seen, whole, problems, unproven)
        except (DrillError, BrokenOffError) as problem:
            raise type(problem)(" ".join([str(problem), *self._undo()])) from problem
        finally:
            self._leave()

    def statuses(self) -> dict[str, dict[str, t.Any]]:
        """What both agents say now."""
        return {name: node.status() for name, node in self._nodes.items()}

    # The steps -------------------------------------------------------------------------------

    def _watch(self) -> None:
        for name in sorted(self._nodes):
            self._nodes[name].watch(self._holder, self._lasts_s, self._bound_s)

    def _pass(self, seconds: float, what: str) -> None:
        """Let time go by and tell, once a second, what happens."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(1.0, left))
            left = max(0.0, end - time.monotonic())
            live = self._traffic.live()
            self._show(f"{what}, {left:.0f} s left" + (f": {live}" if live else ""))

    def _heal(self) -> list[str]:
        self._show("undoing the fault")
        problems = self._fault.end() if self._fault else []
        self._fault = None
        if self._drill.name == "power":
            for node in self._nodes.values():
                if not node.status() or not node.watched:
                    try:
                        node.watched_again(self._holder, self._lasts_s, self._bound_s, POWER_S)
                    except DrillError as problem:
                        raise DrillError(" ".join([*problems, str(problem)])) from problem
        return problems

    def _await_whole(self) -> bool:
        deadline = time.monotonic() + WHOLE_S
        told = 0.0
        while time.monotonic() < deadline:
            found = self.statuses()
            if not why_unready(found):
                return True
            if time.monotonic() - told > 2:
                told = time.monotonic()
                self._show("waiting until the pair is whole: " + "; ".join(why_unready(found)))
            time.sleep(0.3)
        return False

    def _restore(self, before: str, after: str) -> list[str]:
        """Hand the active role back; what went wrong in doing so, in sentences."""
        if before == after:
            return []
        self._show(f"handing back to {before}")
        try:
            self._nodes[after].run(f"{TOOL} switchover --reason 'drill is over'")
        except DrillError as problem:
            return [str(problem)]
        if self._await_whole():
            return []
        return [f"The pair is not ready again {WHOLE_S} s after the hand-over back."]

    def _undo(self) -> list[str]:
        """Undo the fault of a drill that was broken off; what could not be, in sentences."""
        if self._fault is None:
            return []
        self._show("undoing the fault, the drill was broken off")
        problems = self._fault.end()
        self._fault = None
        return problems

    def _leave(self) -> None:
        for problem in self._undo():
            self._show(problem)
        self._traffic.close()
        for node in self._nodes.values():
            for watcher, _offset_ns in node.watchers:
                watcher.close()
            node.watchers = []

    # The findings ----------------------------------------------------------------------------

    def _report(
        self,
        began: float,
        zero_ns: int,
        before: dict[str, dict[str, t.Any]],
        after: dict[str, dict[str, t.Any]],
        seen: Seen,
        whole: bool,
        problems: list[str],
        unproven: list[str] | None,
    ) -> Report:
        end_ms = (time.monotonic_ns() - zero_ns) / 1e6
        kinds = {flow.name: flow.kind for flow in self._request.flows}
        times, blur_ns = node_times(seen.taps, seen.offsets_ns, self._node_of_mac)
        found = measure(seen.flows, kinds, times if seen.taps else None, blur_ns)
        roles = (active_of(before), active_of(after))
        checks = judge(self._drill, self._request.budget, found, roles, whole, self._lasts_s)
        checks += self._proven(unproven, zero_ns)
        checks += [Check("undone", False, problem) for problem in problems]
        return Report(
            drill=self._drill.name,
            does=self._drill.does,
            began=began,
            measured=found,
            checks=checks,
            moments=self._moments(zero_ns, seen, times),
            before=before,
            after=after,
            plots=self._plots(zero_ns, seen),
            lanes={
                name: [
                    span
                    for watcher, offset_ns in node.watchers
                    for span in timeline.lanes(watcher.said, offset_ns, zero_ns, end_ms)
                ]
                for name, node in self._nodes.items()
            },
            end_ms=end_ms,
            unseen=seen.unseen,
            clock_error_ms=round(max(node.error_ns for node in self._nodes.values()) / 1e6, 2),
        )

    def _proven(self, unproven: list[str] | None, zero_ns: int) -> list[Check]:
        """A fault that did not happen proves nothing, whatever the traffic says."""
        if unproven is None:
            return []
        problems = list(unproven)
        if self._drill.both_nodes:
            problems += [
                f"{name} did not become active"
                for name, node in self._nodes.items()
                if not any(
                    timeline.was_active(watcher.said, offset_ns, zero_ns)
                    for watcher, offset_ns in node.watchers
                )
            ]
        if problems:
            return [Check("fault", False, f"the fault took effect: {each}") for each in problems]
        return [Check("fault", True, "the fault took effect")]

    def _moments(
        self, zero_ns: int, seen: Seen, times: t.Mapping[str, t.Sequence[int]]
    ) -> list[timeline.Moment]:
        moments = [timeline.Moment(0.0, "drill", "fault", f"the drill {self._drill.does}")]
        for name, node in self._nodes.items():
            for watcher, offset_ns in node.watchers:
                moments += timeline.of_node(name, watcher.said, offset_ns, zero_ns)
        for flow in self._request.flows:
            result = seen.flows.get(flow.name) or {}
            offset_ns = seen.offsets_ns.get(flow.client, (0, 0))[0]
            moments += timeline.of_flow(flow.name, flow.client, result, offset_ns, zero_ns)
        moments += timeline.of_wire(times, NEAR_NS, zero_ns)
        return timeline.in_order(moments, TIMELINE_FROM_MS)

    def _plots(self, zero_ns: int, seen: Seen) -> list[dict[str, t.Any]]:
        """What the report draws: answers or bytes in hundredths of a second."""
        plots = []
        for flow in self._request.flows:
            result = seen.flows.get(flow.name) or {}
            values = result.get("answered_per_10ms") or result.get("bytes_per_10ms")
            if values:
                offset_ns = seen.offsets_ns.get(flow.client, (0, 0))[0]
                from_ms = (result["began_ns"] + offset_ns - zero_ns) / 1e6
                unit = "bytes" if flow.kind == "bulk" else "answers"
                plots.append(
                    {"name": flow.name, "unit": unit, "from_ms": from_ms, "values": values}
                )
        return plots


def active_of(statuses: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    """The one active node, or an empty string."""
    found = [name for name, status in statuses.items() if status.get("role") == "active"]
    return found[0] if len(found) == 1 else ""


def why_unready(statuses: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Every reason why a drill cannot be begun now; empty if it can."""
    reasons = []
    for name, status in statuses.items():
        if not status:
            reasons.append(f"{name} runs no agent that answers")
    roles = sorted(status.get("role", "unknown") for status in statuses.values())
    if not reasons and roles != ["active", "passive"]:
        words = ", ".join(f"{name} is {status['role']}" for name, status in statuses.items())
        reasons.append(f"{words}, expected one active and one passive node")
    for status in statuses.values():
        reasons += [str(each) for each in status.get("reasons", [])]
    return list(dict.fromkeys(reasons))


def refuse_unready(statuses: t.Mapping[str, t.Mapping[str, t.Any]]) -> None:
    """Raise DrillError unless the pair is ready."""
    reasons = why_unready(statuses)
    if reasons:
        raise DrillError(f"The pair is not ready for a drill: {'; '.join(reasons)}.")
