# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The timers of systemd that end a ruleset's trial, and what they run.

Armed before anything is loaded, and not a process of ours that may die with its connection.  A
timer runs the code of the trial itself, from a copy below /run, because a module is gone when it
has answered.  If that copy cannot run, nft alone brings the old ruleset back.  For a node that is
rebooted while it holds a ruleset there is a copy on the disk, which the ruleset's own unit runs.
Nothing here decides whether a ruleset stays.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys

from ansible_collections.amaranten.ha.plugins.module_utils._files import read, remove, write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError

UNITS = {
    "provisional": "amaranten-ha-ruleset-rollback",
    "held": "amaranten-ha-ruleset-hold",
}
PACKAGE = __name__.rpartition(".")[0]
# What the copy below /run consists of; nothing but the standard library beside.
PARTS = (
    "_configuration",
    "_files",
    "_network_files",
    "_nft",
    "_rollback",
    "_ruleset_moving",
    "_ruleset_text",
    "_ruleset_trial",
)


def install(library):
    """Put the copy below a directory."""
    names = PACKAGE.split(".")
    for depth in range(1, len(names) + 1):
        # Packages of their own, so that none that is installed on the node takes their place.
        write(os.path.join(library, *names[:depth], "__init__.py"), "", 0o600)
    for part in PARTS:
        name = "%s.%s" % (PACKAGE, part)
        source = importlib.import_module(name).__loader__.get_source(name)
        # The controller's own loader of collections gives bytes.
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        write(os.path.join(library, *name.split(".")) + ".py", text, 0o600)


def command(library, directory, own, nft):
    """The words of a shell that run the code of the trial."""
    return 'PYTHONPATH="%s" "%s" -B -m %s._ruleset_trial "%s" %s "%s"' % (
        library,
        sys.executable,
        PACKAGE,
        directory,
        own,
        nft,
    )


def outlive(kept, directory, nft, state):
    """Put a trial, and what a boot runs to end it, below a directory that outlives the boot."""
    library = os.path.join(kept, "lib")
    install(library)
    # The unit that runs it must not wait for it: heart is started later than the ruleset.
    words = [
        "exec systemd-run --quiet --no-block --unit=amaranten-ha-ruleset-boot",
        "--description='End the trial of a ruleset that was held before a reboot'",
        "--property=Restart=on-failure --property=RestartSec=1",
        "/bin/sh -c '%s'" % command(library, directory, "boot", nft),
    ]
    write(os.path.join(kept, "trial.json"), json.dumps(state) + "\n", 0o600)
    # Last: whoever finds it finds the rest as well.
    write(os.path.join(kept, "boot"), " ".join(words) + "\n", 0o600)


def left(kept):
    """The trial that was held when the node was rebooted; empty if there was none."""
    return json.loads(read(os.path.join(kept, "trial.json")) or "{}")


def forget(kept):
    """Leave nothing for the next boot."""
    remove(os.path.join(kept, "boot"))
    shutil.rmtree(kept, ignore_errors=True)


def arm(run_command, phase, seconds, directory, fallback):
    """Start the timer of a phase, or raise NftError; `fallback` are the words of a command."""
    disarm(run_command, phase)
    program = command(os.path.join(directory, "lib"), directory, phase, fallback[0])
    code, out, error = run_command(
        [
            "systemd-run",
            "--quiet",
            "--unit=" + UNITS[phase],
            "--description=End the trial of a ruleset that is %s" % phase,
            "--on-active=%d" % seconds,
            "--timer-property=AccuracySec=100ms",
            # Killed in the middle, it begins again where it was.
            "--property=Restart=on-failure",
            "--property=RestartSec=1",
            "/bin/sh",
            "-c",
            "%s || exec %s" % (program, " ".join('"%s"' % word for word in fallback)),
        ]
    )
    if code != 0:
        raise NftError("the rollback timer cannot be armed: %s" % " ".join((error or out).split()))


def disarm(run_command, phase):
    """Take the timer of a phase away, if there is one."""
    for unit in (UNITS[phase] + ".timer", UNITS[phase] + ".service"):
        run_command(["systemctl", "stop", unit])
        run_command(["systemctl", "reset-failed", unit])


def run(arguments):
    """What a module has as run_command, where there is no module: code, output, errors."""
    try:
        # pylint: disable-next=ansible-bad-function
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    except OSError as error:
        return 127, "", str(error)
    return done.returncode, done.stdout, done.stderr
