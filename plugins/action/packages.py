# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings packages to a node that reaches no archive.

The module asks the node's own apt first.  Only if that fails, the files that the node lacks are
copied from the controller's directory and installed from there.
"""

from __future__ import annotations

import glob
import os
import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Installs packages; see the module's documentation."""

    TRANSFERS_FILES = True
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return what the module says, after at most one copy."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        files = self.offered(arguments.get("directory"))
        found = self.module(dict(arguments, offered=sorted(files)), task_vars)
        result.update(found)
        if "complaint" not in found:
            return result
        complaint = result.pop("complaint")
        wanted = [files[name] for name in found["needed"]]
        if not wanted:
            result.update(
                failed=True,
                msg=f"The packages {', '.join(found['missing'])} are missing and the node's apt "
                f"cannot bring them ({complaint}), expected an archive in its reach, or "
                "ha_packages_dir with their .deb files, which is "
                f"{arguments.get('directory') or 'not set'}.",
            )
            return result
        copied = [self.copied(path) for path in wanted]
        self._fixup_perms2([self._connection._shell.tmpdir, *copied])
        result.update(self.module(dict(arguments, files=copied), task_vars))
        return result

    def module(
        self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        """Run the module on the node."""
        return self._execute_module(
            module_name="amaranten.ha.packages", module_args=arguments, task_vars=task_vars
        )

    def offered(self, directory: object) -> dict[str, str]:
        """The controller's .deb files, also those one level down, by their paths below it."""
        found = {}
        for path in glob.glob(f"{directory}/*.deb") + glob.glob(f"{directory}/*/*.deb"):
            found[os.path.relpath(path, str(directory))] = path
        return found

    def copied(self, path: str) -> str:
        """Copy a file to the task's temporary directory; its path there."""
        remote = self._connection._shell.join_path(
            self._connection._shell.tmpdir, os.path.basename(path)
        )
        self._transfer_file(path, remote)
        return remote
