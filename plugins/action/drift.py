# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict of the drift check: what was observed on the nodes against the inventory.

Runs once, on the controller and without a connection, after `node_info` has looked at every node
that answers.  What it found it takes from the hosts' variables as it is: forty nodes are some
megabytes, which no template should go through.  It says everything in its own words, so that no
callback has to be enabled, and fails if there is drift, so that the play ends with exit code 2.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.amaranten.ha.plugins.plugin_utils import _agent_archive as packing
from ansible_collections.amaranten.ha.plugins.plugin_utils import _drift_report as report
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_pair import (
    Allowance,
    Judgement,
    allowances,
    judge,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import under_way
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems, plain

COLLECTION_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class ActionModule(ActionBase):
    """Compares; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Say what drifted, write the report, fail if anything did."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "observed": {"type": "str", "default": "drift_observed"},
                "pair": {"type": "str", "default": "firewall_pair"},
                "report": {"type": "path"},
                "require_both": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        problems = Problems()
        try:
            release = packing.installed(COLLECTION_ROOT, C.DEFAULT_LOCAL_TMP).name
        except packing.ArchiveError as error:
            problems.say(f"The agent's version cannot be told: {error}.")
            release = ""
        judgements = self.judgements(variables, arguments, release, problems)
        if problems:
            result.update(failed=True, msg=problems.text())
            return result
        found = report.as_dict(judgements)
        if arguments["report"]:
            try:
                write(str(arguments["report"]), judgements, found)
            except OSError as error:
                result.update(
                    failed=True,
                    msg=f"drift_report is {str(arguments['report'])!r}, expected a directory that "
                    f"can be written: {error.strerror}.",
                )
                return result
        Display().display(report.text(judgements))
        unreached = [node for j in judgements for node in j.unreached]
        nothing = all(len(j.unreached) == len(j.nodes) for j in judgements)
        failed = found["drift"] or nothing or bool(arguments["require_both"] and unreached)
        lines = {pair["name"]: pair["line"] for pair in found["pairs"]}
        drills = self.drills(variables, str(arguments["observed"])) if failed else []
        message = "\n".join([*drills, found["line"]])
        result.update(changed=False, msg=message, lines=lines, failed=failed)
        return result

    def judgements(
        self,
        variables: t.Mapping[str, t.Any],
        arguments: t.Mapping[str, t.Any],
        release: str,
        problems: Problems,
    ) -> list[Judgement]:
        """One for each pair of the play."""
        pairs: dict[int, t.Mapping[str, t.Any]] = {}
        hosts = variables["ansible_play_hosts_all"]
        raw = {host: variables["hostvars"].raw_get(host) for host in hosts}
        for theirs in raw.values():
            pair = plain(theirs.get(arguments["pair"], {}).get("pair", {}))
            if pair.get("id"):
                pairs.setdefault(int(pair["id"]), pair)
        found = []
        for _number, pair in sorted(pairs.items()):
            seen = {
                node: observed(raw.get(node, {}).get(arguments["observed"]))
                for node in pair["nodes"]
            }
            allowed: list[Allowance] = []
            for node in pair["nodes"]:
                for each in self.allowances(variables, node, problems):
                    if each not in allowed:
                        allowed.append(each)
            if not problems:
                found.append(judge(pair, seen, release, allowed, time.time()))
        return found

    def drills(self, variables: t.Mapping[str, t.Any], register: str) -> list[str]:
        """A sentence for each drill that is under way: what it breaks is no drift."""
        hosts = variables["ansible_play_hosts_all"]
        raw = (variables["hostvars"].raw_get(host).get(register) for host in hosts)
        holders = [(observed(each) or {}).get("node", {}).get("drill", "") for each in raw]
        return [str(under_way(holder)) for holder in dict.fromkeys(holders) if holder]

    def allowances(
        self, variables: t.Mapping[str, t.Any], node: str, problems: Problems
    ) -> list[Allowance]:
        """What the inventory allows on one node."""
        hostvars = variables["hostvars"][node]
        try:
            raw = plain(hostvars["drift_allowed"]) if "drift_allowed" in hostvars else []
        except AnsibleError as error:
            problems.say(f"drift_allowed of {node} cannot be templated: {error}")
            return []
        return allowances(raw, "drift_allowed", problems)


def observed(registered: t.Any) -> t.Mapping[str, t.Any] | None:
    """What a node said, or None if it could not be asked."""
    found = plain(registered) if registered else {}
    return found if "facts" in found else None


def write(directory: str, judgements: t.Sequence[Judgement], found: t.Mapping[str, t.Any]) -> None:
    """drift.json and drift.xml, on the controller."""
    os.makedirs(directory, exist_ok=True)
    texts = {
        "drift.json": json.dumps(found, indent=1, sort_keys=True) + "\n",
        "drift.xml": report.junit(judgements),
    }
    for name, text in texts.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
