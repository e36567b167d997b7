# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end of preflight: what was found on both nodes becomes one table, and an exit code.

Enters what the modules found, in the pair that `cluster` validated.  Checks are elsewhere and pure;
here they are only asked, shown and written to files on the controller.
"""

from __future__ import annotations

import datetime
import os
import typing as t

from ansible_collections.amaranten.ha.plugins.action.cluster import ActionModule as ClusterAction
from ansible_collections.amaranten.ha.plugins.action.cluster import Refused
from ansible_collections.amaranten.ha.plugins.plugin_utils import _preflight, _wiring
from ansible_collections.amaranten.ha.plugins.plugin_utils import _preflight_report as report
from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    INCONCLUSIVE,
    WARNING,
    Finding,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain, shown

CHECKS = (*_wiring.CHECKS, "node", *_preflight.CHECKS)
ARGUMENTS = {
    "nodes": {"type": "dict", "default": {}},
    "found": {"type": "dict", "default": {}},
    "observations": {"type": "dict", "default": {}},
    "skip": {"type": "list", "elements": "str", "default": []},
    "report": {"type": "str", "default": ""},
    "strict": {"type": "bool", "default": False},
}


class ActionModule(ClusterAction):
    """Judges and reports; see the module's documentation."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Show the table, write the reports; fail if a check has failed."""
        result = super(ClusterAction, self).run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        arguments = plain(arguments)
        unknown = [name for name in arguments["skip"] if name not in CHECKS]
        try:
            if unknown:
                raise Refused(
                    f"preflight_skip has {shown(unknown[0])}, expected only {', '.join(CHECKS)}."
                )
            variables = task_vars or {}
            cluster = self.pair(variables, str(variables.get("inventory_hostname", "")))[0]
        except Refused as refusal:
            result.update(failed=True, msg="\n".join(refusal.args))
            return result
        verdict, findings, rows = judge(cluster, arguments)
        time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        line = report.summary(cluster.name, rows)
        self._display.display(f"\n{line}\n\n{report.table(rows)}\n")
        if arguments["report"]:
            write(
                arguments["report"],
                {
                    "preflight.json": report.as_json(
                        cluster.name, time, rows, findings, verdict.interfaces
                    ),
                    "preflight.xml": report.as_junit(cluster.name, time, rows),
                },
            )
        bad = [FAILED, WARNING, INCONCLUSIVE] if arguments["strict"] else [FAILED]
        sentences = [f"{row.check}: {row.figure}." for row in rows if row.status in bad]
        result.update(
            changed=False,
            failed=bool(sentences),
            msg="\n".join(sentences) or line,
            checks={row.check: row.status for row in rows},
            findings=[finding.plain() for finding in findings],
        )
        # A failed task shows all that it returns: the table and the report have this already.
        if not sentences:
            result["interfaces"] = verdict.interfaces
        return result


def judge(
    cluster: Cluster, arguments: t.Mapping[str, t.Any]
) -> tuple[_wiring.Verdict, list[Finding], list[report.Row]]:
    """The verdict on the wiring, all findings, and a row for each check."""
    nodes = {n: arguments["nodes"][n] for n in cluster.nodes if n in arguments["nodes"]}
    observations = {
        n: arguments["observations"][n] for n in cluster.nodes if n in arguments["observations"]
    }
    skip = dict.fromkeys(arguments["skip"], "left out by preflight_skip")
    if "wiring" in skip:
        skip = {**dict.fromkeys(_wiring.CHECKS, "left out with wiring by preflight_skip"), **skip}
    verdict = _wiring.judge(observations, cluster.id)
    findings = [*verdict.findings, *_preflight.node(cluster, nodes, arguments["found"])]
    for check in _preflight.CHECKS.values():
        findings += check(cluster, nodes)
    findings = [finding for finding in findings if finding.check not in skip]
    figures = {**verdict.figures, **_preflight.figures(nodes)}
    rows = report.rows(CHECKS, findings, figures, skip, "not asked: see wiring")
    return verdict, findings, rows


def write(directory: str, texts: t.Mapping[str, str]) -> None:
    """The reports, on the controller."""
    place = os.path.expanduser(directory)
    os.makedirs(place, exist_ok=True)
    for name, text in texts.items():
        with open(os.path.join(place, name), "w", encoding="utf-8") as file:
            file.write(text)
