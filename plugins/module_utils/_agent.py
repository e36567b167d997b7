# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the agent on this node says, and whether it runs with the files that are there now.

Reads only, except for the stamp in /run that remembers with which files a service was started.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import hashlib
import json
import os
import time

from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write

TOOL = "/usr/sbin/amaranten-ha"
NAMES = ("amaranten-ha-gate.service", "amaranten-ha-heart.service", "amaranten-ha-sync.service")
CURRENT = "/usr/lib/amaranten-ha/current"
UNITS = "/etc/systemd/system"
STAMPS = "/run/amaranten-ha-deployed.json"
RUNNING = ("active", "activating", "reloading")
PROPERTIES = "ActiveState,InvocationID,ExecMainStartTimestampMonotonic"


def status(node):
    """What the agent says, or nothing if it does not answer."""
    try:
        return json.loads(node.output([TOOL, "status", "--json"]) or "{}")
    except ValueError:
        return {}


class Services(object):
    """The agent's services and what they were started with."""

    names = NAMES

    def __init__(self, node):
        self.node = node

    def show(self, name):
        """State, invocation and start of a service."""
        out = self.node.output(["systemctl", "show", name, "--property=" + PROPERTIES])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def stopped(self):
        """Services that do not run."""
        return [n for n in NAMES if self.show(n).get("ActiveState") not in RUNNING]

    def outdated(self, wanted):
        """(service, file) of each service that was started with other files than the wanted ones.

        In check mode the wanted files may not be there yet, so they come as digests.
        """
        stamps = json.loads(read(STAMPS) or "{}")
        found = []
        for name in NAMES:
            shown = self.show(name)
            if shown.get("ActiveState") not in RUNNING:
                continue
            known = files_of(stamps.get(name), shown)
            start_us = int(shown.get("ExecMainStartTimestampMonotonic") or 0)
            for path in sources(name, wanted):
                if path in known:
                    old = known[path] != wanted[path]
                else:
                    old = fingerprint(path) != wanted[path] or written_after(path, start_us)
                if old:
                    found.append((name, os.path.basename(path)))
                    break
        return found

    def units_outdated(self, wanted):
        """Whether a service runs under an older unit; only systemd can bring it under the new."""
        units = {path: wanted[path] for path in wanted if os.path.dirname(path) == UNITS}
        return bool(self.outdated(units))

    def stamp(self, wanted):
        """Remember with which files the services that run now were started."""
        stamps = {
            name: {
                "invocation": self.show(name).get("InvocationID"),
                "files": {path: wanted[path] for path in sources(name, wanted)},
            }
            for name in NAMES
        }
        write(STAMPS, json.dumps(stamps) + "\n", 0o600)

    def stamp_again(self, path, fingerprint):
        """Remember that the services that run now have taken one file anew, without a restart.

        Also after a reboot, which forgets the stamps: then of this file alone.
        """
        stamps = json.loads(read(STAMPS) or "{}")
        for name in NAMES:
            shown = self.show(name)
            files = dict(files_of(stamps.get(name), shown), **{path: fingerprint})
            stamps[name] = {"invocation": shown.get("InvocationID"), "files": files}
        write(STAMPS, json.dumps(stamps) + "\n", 0o600)


def files_of(stamp, shown):
    """What a service was stamped with, if it is still the one that was stamped."""
    if stamp is None or stamp.get("invocation") != shown.get("InvocationID"):
        return {}
    return stamp["files"]


def sources(name, wanted):
    """The files that a service reads at its start, its own unit but not those of the others."""
    return [p for p in wanted if os.path.dirname(p) != UNITS or os.path.basename(p) == name]


def digest(text):
    """A fingerprint of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def fingerprint(path):
    """The same of a file's content or a link's target."""
    return digest((os.readlink(path) if os.path.islink(path) else read(path)) or "")


def written_after(path, start_us):
    """Whether a file changed after a moment of the monotonic clock, for services nobody stamped."""
    if not os.path.lexists(path) or not start_us:
        return False
    age_s = time.time() - os.lstat(path).st_mtime
    running_s = time.monotonic() - start_us / 1e6
    return age_s < running_s
