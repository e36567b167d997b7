# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel makes of a ruleset, without giving it to the node's own kernel tables.

A ruleset's text and a kernel's listing cannot be compared word by word: nft writes the same rule in
many ways.  So the text is loaded in a network namespace that lives as long as one command, and
listed there by the same nft.  Its devices are stood in for by bridges of the same names, for rules
that name a device by its index.  The node's own network is not touched.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import os

from ansible_collections.amaranten.ha.plugins.module_utils._files import write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import gist, steady

# The first argument is the file, the others are the devices.
SCRIPT = r"""
file=$1
shift
for device; do
  ip link add "$device" type dummy 2>/dev/null || ip link add "$device" type bridge || exit 9
done
nft --file "$file" || exit 8
nft list tables | while read -r word family name; do
  printf '\0%s %s\0' "$family" "$name"
  nft -s list table "$family" "$name"
done
"""
LIVE = SCRIPT[SCRIPT.index("nft list tables") :]


class Listing(object):
    """Tables by "family name", or the reason why there are none."""

    def __init__(self, tables, problem=""):
        self.tables = tables
        self.problem = problem

    def as_dict(self):
        """For a module's result."""
        return {"tables": self.tables, "problem": self.problem}


def live(module):
    """All tables that this kernel has."""
    code, out, error = module.run_command(["sh", "-c", LIVE])
    return Listing(parsed(out)) if code == 0 else Listing({}, gist(error or out))


def loaded(module, text, devices):
    """The tables that a text makes in an empty kernel with such devices."""
    path = os.path.join(module.tmpdir, "ruleset.nft")
    write(path, text, 0o600)
    arguments = ["unshare", "--net", "--", "sh", "-c", SCRIPT, "sh", path]
    code, out, error = module.run_command(arguments + sorted(devices))
    if code == 0:
        return Listing(parsed(out))
    return Listing({}, gist(error or out))


def parsed(output):
    """Table to its steady text."""
    parts = output.split("\0")[1:]
    return {parts[i]: steady(parts[i + 1]) for i in range(0, len(parts) - 1, 2)}
