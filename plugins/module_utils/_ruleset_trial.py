# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The trial of a ruleset on a node: loaded, held, and then confirmed or taken back.

The module enters over a connection of the controller, and a timer of systemd when nobody came:
both run this code, one at a time, under a lock that the kernel drops when its holder dies.  How far
a trial came is written down before the next step, so each step is safe to be the last.  A trial
that is held ends as the peer has it: it is kept if the peer's heartbeats say that it committed the
same, and taken back otherwise, also after a reboot.  Nothing here decides what a ruleset should be,
and no table is touched that the trial was not given.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time

from ansible_collections.amaranten.ha.plugins.module_utils import _rollback as rollback
from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    RECORD_PATH,
    fingerprint,
)
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write, write_all
from ansible_collections.amaranten.ha.plugins.module_utils._nft import Nft, NftError, replacement
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_moving import Moving

DIRECTORY = "/run/amaranten-ha-ruleset"
# What a held trial leaves for a node that is rebooted meanwhile: the rules are gone then, what the
# peer has is not. The unit that loads the ruleset at boot looks there.
KEPT = "/var/lib/amaranten-ha/trial"
DIGESTS_PATH = "/etc/amaranten-ha/digests.toml"
TOOL = "/usr/sbin/amaranten-ha"
PROVISIONAL, HELD, SETTLING, COMMITTING = "provisional", "held", "settling", "committing"
CONFIRMED, REVERTED = "confirmed", "reverted"
PENDING = (PROVISIONAL, HELD, SETTLING, COMMITTING)
# How long a node that holds a ruleset waits between taking its word back and asking what the peer
# did. A peer that is just committing has looked at that word before; it needs three files for it.
WITHDRAWN_S = 8
# How long a confirmation waits for the peer's word; heartbeats bring it within a beat.
AGREES_S = 5
# How long the end of a held trial waits for a heart that does not answer: without it the node does
# not know what its peer has. A heart that hangs is begun anew by its watchdog after 10 s.
HEART_S = 60
POLL_S = 0.2
# The longest that a trial may take beyond its timer.
SETTLED_S = 3 * HEART_S + WITHDRAWN_S + AGREES_S


class Trial(object):
    """The one trial of this node, or none; `own` is the phase whose timer runs this code."""

    def __init__(self, run_command, program, directory=DIRECTORY, own=""):
        self._run = run_command
        self._program = program
        self._own = own
        self.nft = Nft(run_command, program)
        self.directory = directory
        self._kept = KEPT
        self._moving = Moving(self.nft, directory)
        self.script = os.path.join(directory, "rollback.nft")
        self.candidate = os.path.join(directory, "candidate.nft")

    @contextlib.contextmanager
    def locked(self):
        """Be the only one who moves the trial."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        handle = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def state(self):
        """What is written down of the trial; empty if there was none since the boot."""
        return json.loads(read(os.path.join(self.directory, "trial.json")) or "{}")

    def phase(self):
        """How far the trial came."""
        return self.state().get("phase", "")

    def left_s(self):
        """For how many seconds the timer still waits."""
        return self.state().get("ends_s", 0) - time.monotonic()

    def _enter(self, state, phase, **more):
        state.update(more, phase=phase)
        write(os.path.join(self.directory, "trial.json"), json.dumps(state, indent=1) + "\n", 0o600)

    # Beginning ----------------------------------------------------------------------------------

    def begin(self, text, touched, digest, seconds):
        """Load a text with the timer armed, or raise NftError with nothing changed.

        `touched` are the tables that it replaces or removes. Return what of the present elements of
        dynamic sets could not be carried over, by set.
        """
        with self.locked():
            present = self._moving.present(touched)
            elements = self._moving.elements(touched)
            carried, lost = self._moving.carried(text, elements)
            old = replacement(touched) + "".join(self.nft.still(table) for table in present)
            self._write_with(self.script, old, elements)
            write(self.candidate, text + carried, 0o600)
            rollback.install(os.path.join(self.directory, "lib"))
            state = {
                "old": old,
                "touched": touched,
                "elements": elements,
                "digest": digest,
                "files": [],
            }
            rollback.forget(self._kept)
            self._enter(state, PROVISIONAL, ends_s=time.monotonic() + seconds)
            try:
                self._arm(PROVISIONAL, seconds)
                self.nft.load(self.candidate)
            except NftError:
                self._enter(state, REVERTED, why="nft refused it")
                self._disarm()
                raise
            return lost

    def note(self, files):
        """Write down the files of a confirmation: a list of path, text, mode."""
        with self.locked():
            state = self.state()
            self._enter(state, state["phase"], files=files)

    def same(self, text, digest):
        """Whether the trial is one of this file's text."""
        state = self.state()
        files = state.get("files") or [["", None, 0]]
        return files[0][1] == text and state["digest"] == digest

    # On the way ---------------------------------------------------------------------------------

    def renew(self, seconds):
        """Let a trial that is taken up again have this time at least; whether it had any left."""
        with self.locked():
            state = self.state()
            if state.get("phase") not in (PROVISIONAL, HELD) or self.left_s() <= 0:
                return False
            self._extend(state, seconds)
            return True

    def _extend(self, state, seconds):
        # The timer stays armed as it is, so that there always is one; it waits for the rest.
        self._enter(state, state["phase"], ends_s=max(state["ends_s"], time.monotonic() + seconds))

    def hold(self, seconds):
        """Let the peer decide, and tell it; whether the timer had not fired."""
        with self.locked():
            state = self.state()
            if state.get("phase") not in (PROVISIONAL, HELD):
                return False
            if state["phase"] == PROVISIONAL:
                self._arm(HELD, seconds)
                rollback.outlive(self._kept, self.directory, self._program, state)
                self._enter(state, HELD, ends_s=time.monotonic() + seconds)
                self._disarm(HELD)
            elif self.left_s() <= 0:
                return False
            else:
                self._extend(state, seconds)
            self._announce(state)
            return True

    def commit(self, peer_agrees):
        """Keep the ruleset; return why it is not kept, or nothing."""
        self.await_settled()
        with self.locked():
            state = self.state()
            if state.get("phase") == CONFIRMED:
                return ""
            if state.get("phase") not in PENDING or not state["files"]:
                return "it is not loaded any more"
            if peer_agrees and not self._agreed(state["digest"], AGREES_S, alive=True):
                return "the peer does not say that it has the same ruleset"
            self._keep(state)
            return ""

    def revert(self):
        """Take an unconfirmed ruleset back; one that is held ends as the peer has it."""
        with self.locked():
            state = self.state()
            phase = state.get("phase")
            if phase == PROVISIONAL:
                self._back(state, "it was not confirmed")
            elif phase == COMMITTING:
                self._finish(state)
            elif phase == HELD:
                self._enter(state, SETTLING)
        self._settle()

    def await_due(self):
        """Wait while the trial that this timer ends was given more time than the timer."""
        while self.phase() == self._own and self.left_s() > 0:
            time.sleep(min(1, max(POLL_S, self.left_s())))

    def fired(self):
        """A timer has come to its end."""
        with self.locked():
            state = self.state()
            phase = state.get("phase")
            if self._own == HELD and phase == HELD:
                self._enter(state, SETTLING)
            elif self._own == PROVISIONAL and phase == PROVISIONAL:
                self._back(state, "it was not confirmed in time")
            elif phase == COMMITTING:
                self._finish(state)
        self._settle()

    def booted(self):
        """The node was rebooted while it held a ruleset: that ends as the peer has it."""
        with self.locked():
            state = self.state()
            if not state:
                state = rollback.left(self._kept)
                if not state:
                    return
                self._enter(state, SETTLING, booted=True, ends_s=time.monotonic())
            elif state.get("booted") and state["phase"] == COMMITTING:
                self._finish(state)
        if state.get("booted"):
            self._settle()

    def _finish(self, state):
        """Whoever confirmed it died over it: what is on the disk holds, or what the peer says."""
        written = all(read(path) == text for path, text, _mode in state["files"])
        if written or (state["digest"] and self._agreed(state["digest"], AGREES_S, alive=False)):
            self._keep(state)
        else:
            self._back(state, "its confirmation was interrupted")

    def _settle(self):
        if self.phase() != SETTLING:
            return
        wait_until(lambda: self._withdraw(self.state()), HEART_S)
        time.sleep(WITHDRAWN_S)
        wait_until(self._peer, HEART_S)
        # A heart that has just begun anew has heard nobody yet; a peer may boot as well.
        seconds = HEART_S if self.state().get("booted") else AGREES_S
        wait_until(lambda: self._peer().get("digests"), seconds)
        with self.locked():
            state = self.state()
            if state.get("phase") != SETTLING:
                return
            if self._agreed(state["digest"], 0, alive=False):
                self._keep_again(state)
            else:
                self._back(state, "the peer has not committed it")

    def _keep_again(self, state):
        """Keep it; after a reboot it is loaded anew, over what the disk had."""
        if state.get("booted"):
            touched = state["touched"]
            text = replacement(touched) + state["files"][0][1]
            try:
                self._write_with(self.candidate, text, self._moving.elements(touched))
                self.nft.load(self.candidate)
            except NftError as error:
                self._back(state, "nft refused it after the reboot: %s" % error)
                return
        self._keep(state)

    def await_settled(self):
        """Wait while the timer's program asks what the peer did."""
        wait_until(lambda: self.phase() != SETTLING, SETTLED_S)

    # Ends ---------------------------------------------------------------------------------------

    def _keep(self, state):
        self._enter(state, COMMITTING)
        write_all(state["files"] + said_files(state))
        self._enter(state, CONFIRMED)
        self._end(state)

    def _back(self, state, why):
        """Bring the old ruleset back, with the elements that its sets have by now."""
        if not state.get("booted"):
            self._load_old(state)
        self._enter(state, REVERTED, why=why)
        self._end(state)

    def _load_old(self, state):
        try:
            elements = dict(state["elements"], **self._moving.elements(state["touched"]))
            path = os.path.join(self.directory, "back.nft")
            self._write_with(path, state["old"], elements)
            self.nft.load(path)
        except NftError:
            self.nft.load(self.script)

    def _write_with(self, path, text, elements):
        """Write a ruleset with those elements that it bears."""
        write(path, text + self._moving.carried(text, elements)[0], 0o600)

    def _end(self, state):
        # It has ended: a reboot from here on has nothing to ask.
        rollback.forget(self._kept)
        self._disarm()
        self._withdraw(state)

    def _arm(self, phase, seconds):
        rollback.arm(self._run, phase, seconds, self.directory, [self._program, "-f", self.script])

    def _disarm(self, but=""):
        for phase in rollback.UNITS:
            if phase not in (self._own, but):
                rollback.disarm(self._run, phase)

    # What the two nodes say to each other -------------------------------------------------------

    def _announce(self, state):
        """Let heart say that this node has the ruleset, although no file does."""
        text = read(DIGESTS_PATH)
        if state["digest"] and text:
            path = os.path.join(self.directory, "digests.toml")
            write(path, with_digest(text, state["digest"]), 0o644)
            self._run([TOOL, "reload", "--digests", path])

    def _withdraw(self, state):
        """Let heart say what the file says; whether it does."""
        return not state["digest"] or self._run([TOOL, "reload"])[0] == 0

    def _peer(self):
        """What heart knows of the peer; nothing if it does not answer."""
        code, out, _error = self._run([TOOL, "status", "--json"])
        return json.loads(out).get("peer", {}) if code == 0 else {}

    def _agreed(self, digest, seconds, alive):
        """Whether the peer's newest heartbeat says that it has the ruleset, within some seconds."""

        def agrees():
            peer = self._peer()
            heard = peer.get("state") == "alive" or not alive
            return heard and peer.get("digests", {}).get("ruleset") == digest

        return wait_until(agrees, seconds)


def wait_until(holds, seconds):
    """Ask until something holds or the time is over; whether it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def with_digest(text, digest):
    """digests.toml with the ruleset's fingerprint in it, and the other as it is."""
    return re.sub(r'(?m)^ruleset = "[0-9a-f]*"$', 'ruleset = "%s"' % digest, text)


def said_digest():
    """The ruleset's fingerprint that this node's file has, or nothing."""
    found = re.search(r'(?m)^ruleset = "([0-9a-f]*)"$', read(DIGESTS_PATH) or "")
    return found.group(1) if found else ""


def said_files(state):
    """digests.toml, and the record of the deployment with the new values in it."""
    found = []
    text = read(DIGESTS_PATH)
    if state["digest"] and text:
        found.append([DIGESTS_PATH, with_digest(text, state["digest"]), 0o644])
    text = read(RECORD_PATH)
    if text:
        record = json.loads(text)
        for path, content, _mode in state["files"] + found:
            if "file" + path in record["values"]:
                record["values"]["file" + path] = fingerprint(content)
        found.append([RECORD_PATH, json.dumps(record, indent=1, sort_keys=True) + "\n", 0o600])
    return found


def main():
    """What a timer or a boot runs: the directory of the trial, the phase that it ends, and nft."""
    directory, own, program = sys.argv[1:]
    trial = Trial(rollback.run, program, directory, own)
    if own == "boot":
        trial.booted()
    else:
        trial.await_due()
        trial.fired()


if __name__ == "__main__":
    main()
