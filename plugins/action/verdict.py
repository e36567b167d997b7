# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The last line of a deployment: who is active, and whether the other one would take over."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain
from ansible_collections.amaranten.ha.plugins.plugin_utils._verdict import verdict


class ActionModule(ActionBase):
    """Judges the pair; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the line, always shown."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={"states": {"type": "dict", "required": True}}
        )
        well, line = verdict(plain(arguments["states"]))
        result.update(changed=False, msg=line, failed=not well and not self._task.check_mode)
        result["_ansible_verbose_always"] = True
        return result
