# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of the wire probe: whether both nodes can run at the same time, and when.

A probe that runs on one node after the other hears nothing, which is no cable's fault.  This room
sees that coming, and does not even start it; and it stamps each run with the controller's own
clock, so that the verdict can tell whether the two overlapped.  The module does the rest.
"""

from __future__ import annotations

import time
import typing as t

from ansible import context
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs the module of the same name; see its documentation."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return what the module saw, or why it was not worth a try."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        alone = why_alone(
            [str(host) for host in variables.get("ansible_play_hosts", [])],
            [str(host) for host in variables.get("ansible_play_batch", [])],
            int(context.CLIARGS.get("forks") or 0),
        )
        if alone:
            result.update(changed=False, wiring={"alone": alone})
            return result
        began = time.time()
        result.update(self._execute_module(task_vars=variables, tmp=tmp))
        if "wiring" in result:
            result["wiring"].update(began=began, ended=time.time())
        return result


def why_alone(hosts: t.Sequence[str], batch: t.Sequence[str], forks: int) -> str:
    """Why two nodes cannot run this task at the same time, or an empty text."""
    if len(hosts) < 2:
        return f"only {' '.join(hosts) or 'one node'} takes part in this run"
    if len(batch) < 2:
        return "the play runs on one node after the other (serial: 1)"
    if forks == 1:
        return "Ansible runs one node after the other (forks is 1, at least 2 are needed)"
    return ""
