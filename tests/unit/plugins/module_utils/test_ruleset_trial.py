# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A trial ends once and in one way, wherever it was interrupted; held, it ends as the peer has it.

nft, systemd and the agent's tool are stood in for here; the real ones are tried in the lab.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils import _rollback as rollback
from ansible_collections.amaranten.ha.plugins.module_utils import _ruleset_trial as trials
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
DIGESTS = '# ours\nconfig = "aaaaaaaaaaaaaaaa"\nruleset = "%s"\n'
TABLE = """table ip a {
\tset s {
\t\tflags timeout
\t\telements = { 1 }
\t}
}
"""


class Machine:
    """Stands in for nft, systemd and the agent's tool: remembers what was asked, in order."""

    def __init__(self):
        self.said = []
        self.fails = ""
        self.peer = {"state": "alive", "digests": {"ruleset": OLD}}

    def run(self, arguments):
        words = " ".join(arguments)
        self.said.append(words)
        if self.fails and self.fails in words:
            return 1, "", "x.nft:3:1-2: Error: it fails"
        if "status" in arguments:
            return 0, json.dumps({"peer": self.peer}), ""
        if words == "nft -j list tables":
            return 0, json.dumps({"nftables": [{"table": {"family": "ip", "name": "a"}}]}), ""
        if words.startswith("nft list table"):
            return 0, TABLE, ""
        return 0, "", ""

    def asked(self, *words):
        """The calls that have all these words."""
        return [each for each in self.said if all(word in each for word in words)]


class Bench:
    """A trial in a directory of its own, with the files that a confirmation writes."""

    def __init__(self, path):
        self.machine = Machine()
        self.path = str(path)
        self.trial = self.other()
        self.file = os.path.join(self.path, "etc", "ruleset.nft")

    def other(self, own=""):
        """The same trial, as another process has it."""
        return trials.Trial(self.machine.run, "nft", os.path.join(self.path, "run"), own)

    def begin(self):
        """Load a ruleset, as the module does."""
        lost = self.trial.begin("table ip a {}\n", ["ip a"], NEW, 30)
        self.trial.note([[self.file, "new\n", 0o644], [self.file + ".json", "{}\n", 0o600]])
        return lost

    def read(self, name):
        """A file, or nothing."""
        path = os.path.join(self.path, name)
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()


@pytest.fixture(name="bench")
def _bench(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "DIGESTS_PATH", str(tmp_path / "digests.toml"))
    monkeypatch.setattr(trials, "RECORD_PATH", str(tmp_path / "deployed.json"))
    monkeypatch.setattr(trials, "KEPT", str(tmp_path / "kept"))
    monkeypatch.setattr(trials, "WITHDRAWN_S", 0)
    monkeypatch.setattr(trials, "AGREES_S", 0)
    monkeypatch.setattr(trials, "HEART_S", 5)
    monkeypatch.setattr(trials, "POLL_S", 0)
    (tmp_path / "digests.toml").write_text(DIGESTS % OLD)
    return Bench(tmp_path)


def test_the_timer_is_armed_before_anything_is_loaded(bench):
    bench.begin()
    calls = bench.machine.said
    armed = [i for i, each in enumerate(calls) if each.startswith("systemd-run")]
    loaded = [i for i, each in enumerate(calls) if each.startswith("nft --file")]
    assert armed[0] < loaded[0]
    assert "--on-active=30" in calls[armed[0]]
    assert "--timer-property=AccuracySec=100ms" in calls[armed[0]]
    assert bench.trial.phase() == trials.PROVISIONAL


def test_a_timer_that_cannot_be_armed_leaves_nothing_loaded(bench):
    bench.machine.fails = "systemd-run"
    with pytest.raises(NftError, match="cannot be armed"):
        bench.begin()
    assert not bench.machine.asked("nft --file")
    assert bench.trial.phase() not in trials.PENDING


def test_elements_of_moving_sets_are_carried_over_and_back(bench):
    assert bench.begin() == []
    assert "add element ip a s { 1 }" in bench.read("run/candidate.nft")
    bench.other(trials.PROVISIONAL).fired()
    assert "add element ip a s { 1 }" in bench.read("run/back.nft")


def test_elements_that_the_new_ruleset_does_not_take_are_told(bench):
    def run(arguments):
        if "--check" in arguments and "add element" in bench.read("run/check.nft"):
            return 1, "", "Error: no such set"
        return bench.machine.run(arguments)

    bench.trial = trials.Trial(run, "nft", os.path.join(bench.path, "run"))
    assert bench.begin() == ["ip a s"]
    assert "add element" not in bench.read("run/candidate.nft")


def test_a_confirmation_writes_all_files_and_nothing_is_left_to_fire(bench):
    bench.begin()
    assert bench.trial.commit(peer_agrees=False) == ""
    assert bench.read("etc/ruleset.nft") == "new\n"
    assert bench.read("digests.toml") == DIGESTS % NEW
    assert bench.machine.asked("systemctl stop", rollback.UNITS["provisional"] + ".timer")
    bench.other(trials.PROVISIONAL).fired()
    assert bench.trial.phase() == trials.CONFIRMED
    # An answer that was lost is asked for again.
    assert bench.trial.commit(peer_agrees=False) == ""


def test_after_the_timer_no_confirmation_succeeds(bench):
    bench.begin()
    bench.other(trials.PROVISIONAL).fired()
    assert bench.trial.phase() == trials.REVERTED
    assert bench.trial.commit(peer_agrees=False)
    assert not bench.trial.hold(600)
    assert bench.read("etc/ruleset.nft") == ""
    assert bench.read("digests.toml") == DIGESTS % OLD


def test_a_timer_of_another_phase_ends_nothing(bench):
    bench.begin()
    assert bench.trial.hold(600)
    bench.other(trials.PROVISIONAL).fired()
    assert bench.trial.phase() == trials.HELD


def test_a_trial_that_is_taken_up_again_has_its_whole_time_and_keeps_its_timer(bench):
    bench.begin()
    assert bench.trial.renew(300)
    assert bench.trial.left_s() > 200
    assert bench.trial.hold(600)
    armed = len(bench.machine.asked("systemd-run"))
    # Never shorter than it was.
    assert bench.trial.renew(30)
    assert bench.trial.left_s() > 500
    assert bench.trial.hold(900)
    assert bench.trial.left_s() > 800
    assert len(bench.machine.asked("systemd-run")) == armed
    bench.trial._enter(bench.trial.state(), trials.HELD, ends_s=0)
    assert not bench.trial.renew(30)
    assert not bench.trial.hold(600)


def test_a_timer_waits_for_the_time_that_its_trial_was_given_since(bench):
    bench.begin()
    # That of another phase has nothing to wait for.
    bench.trial._enter(bench.trial.state(), trials.HELD, ends_s=time.monotonic() + 600)
    bench.other(trials.PROVISIONAL).await_due()
    ends_s = time.monotonic() + 0.2
    bench.trial._enter(bench.trial.state(), trials.HELD, ends_s=ends_s)
    bench.other(trials.HELD).await_due()
    assert time.monotonic() >= ends_s


def test_the_peer_has_to_agree_where_it_is_asked(bench):
    bench.begin()
    assert "peer" in bench.trial.commit(peer_agrees=True)
    assert bench.trial.phase() == trials.PROVISIONAL
    bench.machine.peer = {"state": "lost", "digests": {"ruleset": NEW}}
    assert "peer" in bench.trial.commit(peer_agrees=True)
    bench.machine.peer["state"] = "alive"
    assert bench.trial.commit(peer_agrees=True) == ""


@pytest.mark.parametrize("said", [OLD, NEW])
def test_what_is_held_ends_as_the_peer_has_it(bench, said):
    bench.begin()
    assert bench.trial.hold(600)
    assert bench.read("run/digests.toml") == DIGESTS % NEW
    assert bench.machine.asked("reload --digests")
    bench.machine.said.clear()
    bench.machine.peer["digests"]["ruleset"] = said
    bench.other(trials.HELD).fired()
    kept = said == NEW
    assert bench.trial.phase() == (trials.CONFIRMED if kept else trials.REVERTED)
    assert bool(bench.read("etc/ruleset.nft")) is kept
    assert bench.read("digests.toml") == DIGESTS % said
    # It takes its own word back before it asks.
    words = [each.split()[1] for each in bench.machine.said if each.startswith(trials.TOOL)]
    assert words[:2] == ["reload", "status"]


@pytest.mark.parametrize("word", ["reload", "status"])
def test_a_heart_that_hangs_is_waited_for_before_the_peer_is_asked(bench, word):
    hangs = iter([True] * 3)

    def run(arguments):
        if arguments[:2] == [trials.TOOL, word] and next(hangs, False):
            bench.machine.said.append(" ".join(arguments))
            return 1, "", "heart does not answer"
        return bench.machine.run(arguments)

    bench.begin()
    assert bench.trial.hold(600)
    bench.machine.peer["digests"]["ruleset"] = NEW
    trials.Trial(run, "nft", os.path.join(bench.path, "run"), trials.HELD).fired()
    assert bench.trial.phase() == trials.CONFIRMED
    assert bench.machine.asked(trials.TOOL, word)


def test_a_heart_that_never_answers_leaves_the_ruleset_from_before(bench, monkeypatch):
    monkeypatch.setattr(trials, "HEART_S", 0)
    bench.begin()
    assert bench.trial.hold(600)
    bench.machine.peer["digests"]["ruleset"] = NEW
    bench.machine.fails = trials.TOOL
    bench.other(trials.HELD).fired()
    assert bench.trial.phase() == trials.REVERTED


@pytest.mark.parametrize(
    ("written", "peer", "kept"), [(True, OLD, True), (False, NEW, True), (False, OLD, False)]
)
def test_a_confirmation_that_was_killed_is_finished_by_the_timer(bench, written, peer, kept):
    bench.begin()
    bench.machine.peer["digests"]["ruleset"] = peer
    state = bench.trial.state()
    bench.trial._enter(state, trials.COMMITTING)
    if written:
        trials.write_all(state["files"])
    bench.other(trials.PROVISIONAL).fired()
    assert bench.trial.phase() == (trials.CONFIRMED if kept else trials.REVERTED)
    assert (bench.read("digests.toml") == DIGESTS % NEW) is kept


def reboot(bench):
    """What a reboot leaves: nothing below /run, and the file of the last confirmation loaded."""
    shutil.rmtree(os.path.join(bench.path, "run"))
    bench.machine.said.clear()


@pytest.mark.parametrize("said", [OLD, NEW])
def test_what_was_held_before_a_reboot_ends_as_the_peer_has_it(bench, said):
    bench.begin()
    assert bench.trial.hold(600)
    reboot(bench)
    bench.machine.peer["digests"]["ruleset"] = said
    bench.other("boot").booted()
    kept = said == NEW
    assert bench.trial.phase() == (trials.CONFIRMED if kept else trials.REVERTED)
    assert bool(bench.read("etc/ruleset.nft")) is kept
    assert bench.read("digests.toml") == DIGESTS % said
    # Loaded anew, with the elements that its sets have after the boot; else nothing is touched.
    assert bool(bench.machine.asked("nft --file", "candidate.nft")) is kept
    if kept:
        found = bench.read("run/candidate.nft")
        assert "delete table ip a" in found and found.endswith("add element ip a s { 1 }\n")
    assert not bench.machine.asked("nft --file", "back.nft")
    assert not os.path.exists(os.path.join(bench.path, "kept"))


def test_a_boot_without_a_held_ruleset_ends_nothing(bench):
    bench.begin()
    reboot(bench)
    bench.other("boot").booted()
    bench.begin()
    assert bench.trial.hold(600)
    assert bench.trial.commit(peer_agrees=False) == ""
    assert not os.path.exists(os.path.join(bench.path, "kept"))
    reboot(bench)
    bench.other("boot").booted()
    assert not bench.machine.said


def test_a_service_that_is_begun_anew_is_no_boot(bench):
    bench.begin()
    assert bench.trial.hold(600)
    bench.machine.said.clear()
    bench.machine.peer["digests"]["ruleset"] = NEW
    bench.other("boot").booted()
    assert bench.trial.phase() == trials.HELD
    assert not bench.machine.said


@pytest.mark.parametrize("phase", [trials.SETTLING, trials.COMMITTING])
def test_the_end_after_a_reboot_may_be_killed_and_begun_anew(bench, phase):
    bench.begin()
    assert bench.trial.hold(600)
    reboot(bench)
    bench.machine.peer["digests"]["ruleset"] = NEW
    state = dict(rollback.left(trials.KEPT), booted=True)
    os.makedirs(os.path.join(bench.path, "run"))
    bench.trial._enter(state, phase)
    bench.other("boot").booted()
    assert bench.trial.phase() == trials.CONFIRMED
    assert bench.read("digests.toml") == DIGESTS % NEW


def test_rules_that_nft_refuses_after_a_reboot_leave_those_of_before(bench):
    bench.begin()
    assert bench.trial.hold(600)
    reboot(bench)
    bench.machine.peer["digests"]["ruleset"] = NEW
    bench.machine.fails = "--check"
    bench.other("boot").booted()
    assert bench.trial.phase() == trials.REVERTED
    assert "nft refused it after the reboot" in bench.trial.state()["why"]
    assert bench.read("digests.toml") == DIGESTS % OLD


def test_the_copy_that_a_boot_runs_waits_for_nothing(bench):
    bench.begin()
    assert bench.trial.hold(600)
    tool = os.path.join(bench.path, "systemd-run")
    with open(tool, "w", encoding="utf-8") as file:
        file.write('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    os.chmod(tool, stat.S_IRWXU)
    done = subprocess.run(
        ["/bin/sh", os.path.join(trials.KEPT, "boot")],
        env={"PATH": bench.path},
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert "--no-block" in words
    assert words[-3:-1] == ["/bin/sh", "-c"]
    program = words[-1].replace(trials.DIRECTORY, os.path.join(bench.path, "run"))
    done = subprocess.run(
        ["/bin/sh", "-c", program], cwd="/", capture_output=True, text=True, check=False
    )
    # It is no boot: the trial is as it was.
    assert (done.returncode, done.stderr) == (0, "")
    assert bench.trial.phase() == trials.HELD


def test_the_record_of_the_deployment_knows_the_new_files(bench):
    record = {"values": {"file" + bench.file: "old", "file/etc/other": "same"}}
    with open(os.path.join(bench.path, "deployed.json"), "w", encoding="utf-8") as file:
        json.dump(record, file)
    bench.begin()
    bench.trial.commit(peer_agrees=False)
    values = json.loads(bench.read("deployed.json"))["values"]
    assert values["file" + bench.file] == trials.fingerprint("new\n")
    assert values["file/etc/other"] == "same"


def test_the_copy_that_a_timer_runs_needs_nothing_else(bench):
    bench.begin()
    nft = os.path.join(bench.path, "nft")
    with open(nft, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\necho '{\"nftables\": []}'\n")
    os.chmod(nft, stat.S_IRWXU)
    directory = os.path.join(bench.path, "run")
    words = [sys.executable, "-B", "-m", rollback.PACKAGE + "._ruleset_trial", directory]
    done = subprocess.run(
        [*words, trials.PROVISIONAL, nft],
        cwd="/",
        env={"PYTHONPATH": os.path.join(directory, "lib"), "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert bench.trial.phase() == trials.REVERTED
