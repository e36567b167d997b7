# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A confirmation succeeds exactly if the timer had not fired."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError
from ansible_collections.amaranten.ha.plugins.module_utils._rollback import Rollback


class Machine:
    """Stands in for systemd: remembers the command of the timer."""

    def __init__(self, fails=False):
        self.fails = fails
        self.timer = None

    def run(self, arguments):
        if arguments[0] == "systemd-run":
            if self.fails:
                return 1, "", "Failed to start transient timer unit"
            self.timer = arguments
        return 0, "", ""

    def fire(self):
        """Run what the timer would run."""
        return subprocess.run(self.timer[-3:], check=False).returncode


@pytest.fixture(name="armed")
def _armed(tmp_path):
    machine = Machine()
    rollback = Rollback(machine.run, str(tmp_path), "true")
    rollback.prepare("table ip a\n")
    rollback.arm(30)
    return machine, rollback


def test_the_timer_is_armed_with_its_accuracy(armed):
    machine, rollback = armed
    assert rollback.armed()
    assert "--on-active=30" in machine.timer
    assert "--timer-property=AccuracySec=100ms" in machine.timer


def test_confirming_in_time_leaves_nothing_to_fire(armed):
    machine, rollback = armed
    assert rollback.disarm()
    assert not rollback.armed()
    assert machine.fire() != 0


def test_after_the_timer_no_confirmation_succeeds(armed):
    machine, rollback = armed
    assert machine.fire() == 0
    assert not rollback.disarm()
    assert not rollback.armed()


def test_a_timer_that_cannot_be_armed_is_an_error_and_leaves_no_marker(tmp_path):
    rollback = Rollback(Machine(fails=True).run, str(tmp_path), "true")
    rollback.prepare("")
    with pytest.raises(NftError, match="cannot be armed"):
        rollback.arm(30)
    assert not rollback.armed()


def test_a_new_directory_of_run_is_made(tmp_path):
    place = os.path.join(str(tmp_path), "deeper")
    rollback = Rollback(Machine().run, place, "true")
    rollback.prepare("x")
    rollback.arm(1)
    assert rollback.armed()
