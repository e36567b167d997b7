# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Prints a proposed `ha_cluster` for two nodes that run keepalived and conntrackd today.

Runs once on the controller, without a connection, with what `migration_info` read on the nodes.  It
writes no file and never decides anything: a person reads what is printed.
"""

from __future__ import annotations

import typing as t

import yaml
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.amaranten.ha.plugins.plugin_utils._migration import propose
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain


class ActionModule(ActionBase):
    """Proposes; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the proposal, and print it."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={"found": {"type": "dict", "required": True}}
        )
        found = plain(arguments["found"])
        empty = [node for node, seen in found.items() if not seen.get("keepalived")]
        if empty:
            result.update(
                failed=True,
                msg=f"{' and '.join(empty)} has no keepalived.conf that could be read, expected "
                "two nodes that run keepalived.",
            )
            return result
        proposal = propose(found)
        text = yaml.safe_dump({"ha_cluster": proposal.cluster}, sort_keys=False)
        nothing = "- nothing is left\n"
        notes = "".join(f"- {note}\n" for note in proposal.notes)
        Display().display(f"{text}\nNot carried over:\n{notes or nothing}")
        result.update(changed=False, ha_cluster=proposal.cluster, notes=proposal.notes)
        return result
