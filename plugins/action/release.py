# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings the agent's archive to a node that lacks it.

On the controller the archive is found, or built if the collection has the sources; the node is
asked whether it has this version; only if it has not, the archive is copied and unpacked.
"""

from __future__ import annotations

import os
import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible_collections.amaranten.ha.plugins.plugin_utils import _agent_archive as packing

COLLECTION_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class ActionModule(ActionBase):
    """Installs a version of the agent; see the module's documentation."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        try:
            archive = packing.installed(COLLECTION_ROOT, C.DEFAULT_LOCAL_TMP)
        except packing.ArchiveError as error:
            result.update(failed=True, msg=f"The agent cannot be brought to the nodes: {error}.")
            return result
        arguments = dict(
            self._task.args,
            name=archive.name,
            sha256=archive.sha256,
        )
        found = self.module(arguments, task_vars)
        if found.get("changed") and not self._task.check_mode and not found.get("failed"):
            shell = self._connection._shell
            remote = shell.join_path(shell.tmpdir, archive.path.name)
            self._transfer_file(str(archive.path), remote)
            self._fixup_perms2([shell.tmpdir, remote])
            found = self.module(dict(arguments, archive=remote), task_vars)
        result.update(found, version=archive.version, protocol=archive.protocol)
        return result

    def module(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        """Run the module on the node."""
        return self._execute_module(
            module_name="amaranten.ha.release", module_args=arguments, task_vars=task_vars
        )
