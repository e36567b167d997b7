# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commit and confirm of a ruleset, as one task.

The module loads the ruleset with a rollback timer armed; then this room drops the connection, comes
back over a fresh one, through the new ruleset, and has it confirmed.  If no connection comes up, it
waits until the timer has brought the old ruleset back, and says so.  It never confirms over the
connection that was there before.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.amaranten.ha.plugins.plugin_utils._masquerade import source_line

# How long after the rollback a node may take until it answers again.
RETURN_S = 30
PAUSE_S = 1.0


class ActionModule(ActionBase):
    """Loads and confirms; see the module's documentation."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the module's result, as far as the task asks for."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        state = str(arguments.get("state", "confirmed"))
        if self._task.check_mode or state in ("provisional", "confirmed"):
            loaded = self.load(dict(arguments, state="provisional"), task_vars)
            result.update(self.placed(loaded))
            if loaded.get("lost"):
                sets = ", ".join(loaded["lost"])
                result["warnings"] = [f"The new ruleset does not take the elements of: {sets}"]
            if self._task.check_mode or loaded.get("failed") or not loaded.get("changed"):
                return result
        if state == "provisional":
            arguments["on_trial"] = True
        last = self.afresh(dict(arguments, state=state), task_vars)
        for key in ("state", "why"):
            if key in last:
                result[key] = last[key]
        result["changed"] = bool(last.get("changed"))
        if last.get("failed"):
            result.update(failed=True, msg=last["msg"], changed=False)
        return result

    def placed(self, loaded: dict[str, t.Any]) -> dict[str, t.Any]:
        """A refusal of nft, with the line of the template that it is about."""
        content, template = str(self._task.args["content"]), self._task.args.get("template")
        line = loaded.get("line")
        if not loaded.get("failed") or not line or line > len(content.splitlines()):
            return loaded
        words = content.splitlines()[line - 1].strip()
        place = f"line {line} of the ruleset"
        if template:
            with open(str(template), encoding="utf-8") as file:
                found = source_line(file.read(), content, line)
            name = os.path.basename(str(template))
            place = f"{name} line {found}" if found else f"{name}, line {line} as rendered"
        return dict(loaded, msg=f"{place} (`{words}`): {loaded['msg']}")

    def load(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        """Load; a connection that the new ruleset cut has not said whether it was loaded."""
        try:
            return self.module(arguments, task_vars)
        except AnsibleConnectionFailure:
            if self._task.check_mode:
                raise
            return {
                "changed": True,
                "reasons": ["the connection was cut while the ruleset was loaded"],
            }

    def module(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        """Run the module on the node."""
        return self._execute_module(
            module_name="amaranten.ha.ruleset", module_args=arguments, task_vars=task_vars
        )

    def afresh(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        """Ask over a fresh connection, as long as there is hope that the node answers."""
        deadline = time.monotonic() + int(arguments.get("rollback_s", 30)) + RETURN_S
        while True:
            try:
                if hasattr(self._connection, "reset"):
                    self._connection.reset()
                return self.module(arguments, task_vars)
            except AnsibleConnectionFailure as error:
                if time.monotonic() > deadline:
                    raise AnsibleConnectionFailure(
                        "The node does not answer since its ruleset was loaded, not even "
                        f"{RETURN_S} s after the rollback: {error}"
                    ) from error
                time.sleep(PAUSE_S)
