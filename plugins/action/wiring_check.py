# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict on the wiring: what both nodes have observed comes together on the controller.

Nothing is decided here that `plugin_utils/_wiring` does not say.
"""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import FAILED
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import plain
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring import judge


class ActionModule(ActionBase):
    """Judges the wiring; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return a verdict for each interface; fail if one has failed."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "observations": {"type": "dict", "required": True},
                "cluster": {"type": "int", "required": True},
            }
        )
        verdict = judge(plain(arguments["observations"]), arguments["cluster"])
        sentences = [f"{f.status}: {f.verdict}: {f.text}." for f in verdict.findings]
        result.update(
            changed=False,
            failed=any(finding.status == FAILED for finding in verdict.findings),
            msg=sentences or "Every interface of the one is with that of the other.",
            interfaces=verdict.interfaces,
            findings=[finding.plain() for finding in verdict.findings],
        )
        result["_ansible_verbose_always"] = True
        return result
