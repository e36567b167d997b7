# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the pairs of a play are, both nodes of each side by side.

Runs once, on the controller and without a connection, after `pair_info` has asked every node that
answers.  It says everything in its own words, and fails unless every pair is ready, so that the
play ends with exit code 2.
"""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.amaranten.ha.plugins.plugin_utils import _side_by_side as table
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain


class ActionModule(ActionBase):
    """Shows the pairs; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Print a block for each pair; fail unless all of them are ready."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "default": "pair_state"},
                "pair": {"type": "str", "default": "firewall_pair"},
            }
        )
        variables = task_vars or {}
        raw = {
            str(host): variables["hostvars"].raw_get(host)
            for host in variables["ansible_play_hosts_all"]
        }
        pairs: dict[int, dict[str, t.Any]] = {}
        for theirs in raw.values():
            pair = plain(theirs.get(arguments["pair"], {})).get("pair")
            if pair:
                pairs.setdefault(int(pair["id"]), pair)
        lines = []
        ready = bool(pairs)
        for _number, pair in sorted(pairs.items()):
            statuses = {
                node: said(plain(raw[node].get(arguments["state"], {})))
                for node in pair["nodes"]
                if node in raw
            }
            Display().display(table.text(pair["name"], statuses))
            lines.append(table.headline(pair["name"], statuses))
            ready = ready and table.well(statuses)
        result.update(changed=False, msg="\n".join(lines), ready=ready, failed=not ready)
        return result


def said(state: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a node says of itself, with the test of the way where it was asked for."""
    status = state.get("status") or {}
    return dict(status, path=state.get("path") or {}) if status else {}
