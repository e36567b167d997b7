# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A drill on the pair, led from the controller over sessions of its own.

The play enters once, without a connection.  In check mode the plan and the readiness are said and
nothing is broken.  A signal that ends the play ends the drill in order: the fault is undone first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.amaranten.ha.plugins.plugin_utils import _drill_report as report
from ansible_collections.amaranten.ha.plugins.plugin_utils import _drill_request as request
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_nodes import DrillNode
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import (
    BrokenOffError,
    DrillError,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_run import (
    DrillRun,
    Report,
    why_unready,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_sessions import (
    AnySession,
    open_session,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain

CONNECTION_VARIABLES = (
    "ansible_host", "ansible_port", "ansible_user", "ansible_password", "ansible_ssh_pass",
    "ansible_ssh_private_key_file", "ansible_ssh_args", "ansible_ssh_common_args",
    "ansible_ssh_extra_args", "ansible_become", "ansible_connection", "vantage_command",
    "vantage_side", "vantage_addresses", "ha_power_off_command", "ha_power_on_command",
)  # fmt: skip
PR_SET_PDEATHSIG = 1
ENDINGS = (signal.SIGTERM, signal.SIGINT)
GROUP, VANTAGE = "firewalls", "vantage"


class ActionModule(ActionBase):
    """Runs the drill; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the verdict and where the report is."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = task_vars or {}
        hosts = {name: self.known(variables, name) for name in self.members(variables, GROUP)}
        vantage = {name: self.known(variables, name) for name in self.members(variables, VANTAGE)}
        if len(hosts) != 2:
            result.update(
                failed=True,
                msg=f"The group {GROUP} has {len(hosts)} hosts, expected exactly two: this product "
                "is a pair.",
            )
            return result
        try:
            asked = request.read(plain(arguments), vantage, arguments["interfaces"])
        except ValueError as refusal:
            result.update(failed=True, msg=str(refusal))
            return result
        previous = {number: signal.signal(number, interrupted) for number in ENDINGS}
        try:
            end_with_parent()
            result.update(self.drill(asked, hosts, vantage))
        except (DrillError, BrokenOffError) as problem:
            result.update(failed=True, msg=str(problem))
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return result

    def members(self, variables: dict[str, t.Any], group: str) -> list[str]:
        """The hosts of a group."""
        return [str(host) for host in variables.get("groups", {}).get(group, [])]

    def known(self, variables: dict[str, t.Any], host: str) -> dict[str, t.Any]:
        """What the inventory says of a host, as far as a drill must know."""
        theirs = variables["hostvars"][host]
        return {key: plain(theirs[key]) for key in CONNECTION_VARIABLES if key in theirs}

    def drill(
        self,
        asked: request.Request,
        hosts: dict[str, dict[str, t.Any]],
        vantage: dict[str, dict[str, t.Any]],
    ) -> dict[str, t.Any]:
        """All drills that were asked for, one after the other, and the report."""
        nodes: dict[str, DrillNode] = {}
        sessions: dict[str, AnySession] = {}
        try:
            for name, theirs in hosts.items():
                nodes[name] = DrillNode(name, theirs, asked.python)
            for node in nodes.values():
                node.refuse_locked()
            statuses = {name: node.status() for name, node in nodes.items()}
            reasons = why_unready(statuses)
            if self._task.check_mode:
                return self.plan(asked, reasons)
            if reasons:
                raise DrillError(f"The pair is not ready for a drill: {'; '.join(reasons)}.")
            for name in sorted({h for flow in asked.flows for h in (flow.client, flow.server)}):
                sessions[name] = open_session(name, vantage[name])
            for name, node in nodes.items():
                node.look(statuses[name])
            reports, broken_off = self.reports(asked, nodes, sessions)
        finally:
            for session in [*nodes.values(), *sessions.values()]:
                session.close()
        return self.verdict(asked, reports, broken_off)

    def plan(self, asked: request.Request, reasons: list[str]) -> dict[str, t.Any]:
        """What would be done, and whether the pair is ready for it."""
        lines = [f"{drill.name}: {drill.does}" for drill in asked.drills]
        lines += [f"left out: {line}" for line in asked.left_out]
        lines += [f"flow {flow.name}: {request.KINDS[flow.kind]}" for flow in asked.flows]
        ready = "the pair is ready" if not reasons else "NOT ready: " + "; ".join(reasons)
        return {
            "changed": True,
            "plan": lines,
            "ready": not reasons,
            "reasons": reasons,
            "msg": "\n".join([*lines, ready]),
            "_ansible_verbose_always": True,
        }

    def reports(
        self,
        asked: request.Request,
        nodes: dict[str, DrillNode],
        sessions: dict[str, AnySession],
    ) -> tuple[list[Report], str]:
        """Run them; why the last one came to no end, if so: those before it are kept."""
        holder = f"from {os.uname().nodename}, since {time.strftime('%H:%M:%S')}"
        found = []
        for number, drill in enumerate(asked.drills, start=1):
            began = time.monotonic()
            title = f"{drill.name} ({number} of {len(asked.drills)})"

            def show(text: str, title: str = title, began: float = began) -> None:
                Display().display(f"[{title}, {time.monotonic() - began:5.1f} s] {text}")

            run = DrillRun(drill, asked, nodes, sessions, holder, show)
            try:
                found.append(run.run())
            except (DrillError, BrokenOffError) as problem:
                return found, f"{drill.name}: {problem}"
            remember(nodes, found[-1])
            for check in found[-1].checks:
                show(("ok      " if check.ok else "FAILED  ") + check.sentence)
        return found, ""

    def verdict(
        self, asked: request.Request, reports: list[Report], broken_off: str
    ) -> dict[str, t.Any]:
        """The task's result."""
        written = report.write(asked, reports, broken_off)
        failed = [broken_off] if broken_off else []
        failed += [
            f"{each.drill}: {check.sentence}"
            for each in reports
            for check in each.checks
            if not check.ok
        ]
        lines = report.summary(reports, written.earlier) + [
            f"left out: {line}" for line in asked.left_out
        ]
        lines += [f"report: {path}" for path in written.paths]
        result: dict[str, t.Any] = {
            "changed": True,
            "drills": [figures(each) for each in reports],
            "paths": written.paths,
            "_ansible_verbose_always": True,
        }
        if failed:
            return dict(result, failed=True, msg="\n".join([*failed, *lines]))
        return dict(result, msg="\n".join(lines))


def figures(found: Report) -> dict[str, t.Any]:
    """What of a report fits on a screen; the rest is in its file."""
    kept = ("drill", "ok", "measured", "checks", "unseen", "clock_error_ms")
    whole = found.data()
    return {key: whole[key] for key in kept}


def remember(nodes: dict[str, DrillNode], found: Report) -> None:
    """Leave on both nodes what the drill found, for their status; one that is off goes without."""
    text = json.dumps({"drill": found.drill, "ok": found.ok, "time": round(time.time())})
    for node in nodes.values():
        with contextlib.suppress(DrillError):
            node.run(f"echo {shlex.quote(text)} > {LAST}.new && mv {LAST}.new {LAST}")


LAST = "/var/lib/amaranten-ha/drill.json"

ARGUMENTS = {
    "drill": {"type": "str", "required": True},
    "interfaces": {"type": "list", "elements": "str", "required": True},
    "own_addresses": {"type": "list", "elements": "str", "default": []},
    "interface": {"type": "str"},
    "seconds": {"type": "float"},
    "budget": {"type": "dict", "default": {}},
    "flows": {"type": "list", "elements": "dict"},
    "confirmed": {"type": "list", "elements": "str", "default": []},
    "restore": {"type": "bool", "default": True},
    "report": {"type": "path"},
    "history": {"type": "path"},
    "python": {"type": "str", "default": "python3"},
}


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the play's own process is gone, however it ended.

    This process is in a session of its own, where nothing that kills the play would reach it.
    Elsewhere than on Linux it then goes on, to the end of the drill.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        parent = multiprocessing.parent_process()
        if parent is not None and parent.pid != os.getppid():
            raise BrokenOffError("The drill was broken off: its play is gone.")


def interrupted(number: int, frame: object) -> None:
    """The play is being ended: leave in order, whatever more comes to hurry it."""
    del frame
    for each in ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    raise BrokenOffError(f"The drill was broken off by signal {number}.")
