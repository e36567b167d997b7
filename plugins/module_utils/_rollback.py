# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The timer on the node that takes an unconfirmed ruleset back.

Armed before anything is loaded, by systemd and not by a process of ours that may die.  Whoever
renames the marker file first wins, the timer or the confirmation: so a confirmation that succeeds
proves that the timer had not fired, and can never succeed after it did.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import os

from ansible_collections.amaranten.ha.plugins.module_utils._files import read, remove, write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError

UNIT = "amaranten-ha-ruleset-rollback"


class Rollback(object):
    """One pending rollback, or none."""

    def __init__(self, run_command, directory, nft):
        self._run = run_command
        self._nft = nft
        self.script = os.path.join(directory, "rollback.nft")
        self._marker = os.path.join(directory, "armed")
        self._fired = os.path.join(directory, "fired")

    def armed(self):
        """Whether a ruleset waits for its confirmation."""
        return read(self._marker) is not None

    def prepare(self, text):
        """Write down what brings the old ruleset back."""
        write(self.script, text, 0o600)

    def arm(self, seconds):
        """Start the timer, or raise NftError with nothing loaded."""
        remove(self._fired)
        self._stop()
        write(self._marker, "", 0o600)
        command = 'mv -T "%s" "%s" && exec "%s" -f "%s"' % (
            self._marker,
            self._fired,
            self._nft,
            self.script,
        )
        code, out, error = self._run(
            [
                "systemd-run",
                "--quiet",
                "--unit=" + UNIT,
                "--description=Bring back the ruleset before the unconfirmed one",
                "--on-active=%d" % seconds,
                "--timer-property=AccuracySec=100ms",
                "/bin/sh",
                "-c",
                command,
            ]
        )
        if code != 0:
            remove(self._marker)
            raise NftError(
                "the rollback timer cannot be armed: %s" % " ".join((error or out).split())
            )

    def disarm(self):
        """Take the timer away; False if it has fired already."""
        try:
            os.rename(self._marker, self._marker + ".confirmed")
        except OSError:
            return False
        remove(self._marker + ".confirmed")
        self._stop()
        return True

    def now(self):
        """Bring the old ruleset back at once."""
        if self.disarm():
            code, out, error = self._run([self._nft, "-f", self.script])
            if code != 0:
                raise NftError(
                    "the old ruleset cannot be brought back: %s" % " ".join(error.split())
                )

    def _stop(self):
        for unit in (UNIT + ".timer", UNIT + ".service"):
            self._run(["systemctl", "stop", unit])
            self._run(["systemctl", "reset-failed", unit])
