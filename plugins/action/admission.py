# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gate before a change of a running pair: both nodes were asked, and it may begin."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.amaranten.ha.plugins.plugin_utils._admission import admit
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain


class ActionModule(ActionBase):
    """Judges the pair; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return who is active and who passive, or fail with every reason."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "nodes": {"type": "list", "elements": "str", "required": True},
                "states": {"type": "dict", "required": True},
                "in_sync": {"type": "bool", "default": True},
                "wanted": {"type": "str"},
            }
        )
        nodes = plain(arguments["nodes"])
        wanted = plain(arguments["wanted"])
        if wanted and wanted not in nodes:
            found = f"{wanted!r} was named, expected one of {' and '.join(nodes)}"
            result.update(failed=True, msg=f"Nothing was changed: {found}.", reasons=[found])
            return result
        states = plain(arguments["states"])
        admission = admit(nodes, states, arguments["in_sync"])
        if wanted and wanted == admission.active:
            # It is so already: no switch is needed that a missing replica could forbid.
            admission = admit(nodes, states, False)
        if admission.reasons:
            result.update(
                failed=True,
                msg=f"Nothing was changed: {'; '.join(admission.reasons)}.",
                reasons=admission.reasons,
            )
            return result
        result.update(
            changed=False,
            active=admission.active,
            passive=admission.passive,
            order=admission.order,
        )
        return result
