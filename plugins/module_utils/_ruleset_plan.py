# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has to be done to a node's ruleset, and why: looked up and decided, with nothing changed.

The module `ruleset` enters with what the operator wants.  One plan serves check mode and the real
thing.  Loading, and whether a ruleset stays, is the trial's.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import difflib
import hashlib
import json

from ansible_collections.amaranten.ha.plugins.module_utils._files import read
from ansible_collections.amaranten.ha.plugins.module_utils._nft import file_text, replacement
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText

STATE_VERSION = 1


class Plan(object):
    """What has to be done, and why; made without changing anything."""

    def __init__(self, wanted, remembered, live, retire):
        self.wanted = wanted
        self.managed = remembered.get("tables", [])
        self.gone = [table for table in self.managed if table not in wanted.tables]
        self.retired = [
            table for table in retire if table in live and table not in wanted.tables + self.managed
        ]
        self.touched = wanted.tables + self.gone + self.retired
        self.reasons = []

    def judge(self, file_text, remembered, live_listing, pending, said):
        """Collect the reasons for loading the ruleset."""
        if pending:
            self.reasons.append("an earlier ruleset was never confirmed")
        if not remembered:
            self.reasons.append("no ruleset was loaded before")
        elif file_text != self.wanted.file_text:
            self.reasons.append("the ruleset differs from the one loaded last")
        elif live_listing != remembered.get("listing"):
            self.reasons.append("the kernel's tables differ from what was loaded")
        elif self.wanted.digest and said != self.wanted.digest:
            self.reasons.append("the agent compares the fingerprint of another ruleset")
        if self.retired:
            self.reasons.append("%s is retired" % " and ".join(self.retired))


class Wanted(object):
    """The ruleset as it was asked for."""

    def __init__(self, content, digest):
        text = RulesetText(content)
        self.refused = text.refused
        self.tables = text.tables
        self.digest = digest
        self.file_text = file_text(content)
        lines = content.count("\n") + (not content.endswith("\n"))
        self.lines_before = self.file_text.count("\n") - lines

    def transaction(self, plan):
        """The text that brings the kernel from anything to the wanted ruleset."""
        return replacement(plan.gone + plan.retired) + self.file_text

    def line(self, plan, line):
        """The line of the ruleset that is this one of the transaction, or None."""
        found = (line or 0) - self.lines_before - 2 * len(plan.gone + plan.retired)
        return found if found > 0 else None


def diff(header, before, after):
    """Before and after of a file or of the kernel."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def difference(shown):
    """A diff as lines, each with a sign in front; tabs are shown as two blanks."""
    before, after = (shown[side].expandtabs(2).splitlines() for side in ("before", "after"))
    header = shown["before_header"]
    return list(difflib.unified_diff(before, after, header, header + " (wanted)", lineterm="", n=2))


class Survey(object):
    """A node's ruleset as it is: on the disk, in the kernel, and as it was confirmed last."""

    def __init__(self, nft, parameters):
        self.nft = nft
        self.parameters = parameters

    def tables(self):
        """All tables of the kernel; none without nft."""
        return self.nft.tables() if self.nft else []

    def remembered(self):
        """What the last confirmed run left."""
        text = read(self.parameters["state_path"])
        found = json.loads(text) if text else {}
        return found if found.get("version") == STATE_VERSION else {}

    def listing(self, tables):
        """The canonical listing of tables, the absent ones as null."""
        live = self.tables()
        return {table: self.nft.canonical(table) if table in live else None for table in tables}

    def text(self, tables):
        """The listing of tables as text."""
        live = self.tables()
        return "".join(self.nft.still(table) for table in tables if table in live)

    def plan(self, wanted, pending, said):
        """What has to be done; `pending`: one is on trial; `said`: the fingerprint on the disk."""
        remembered = self.remembered()
        plan = Plan(wanted, remembered, self.tables(), self.parameters["retire"])
        on_disk = read(self.parameters["path"])
        plan.judge(on_disk, remembered, self.listing(plan.managed), pending, said)
        if on_disk == wanted.file_text and remembered:
            plan.diff = diff("kernel", self.text(plan.managed), remembered.get("text", ""))
        else:
            plan.diff = diff(self.parameters["path"], on_disk or "", wanted.file_text)
        return plan

    def state_text(self, wanted):
        """What is to be remembered of the ruleset that the kernel has now."""
        state = {
            "version": STATE_VERSION,
            "tables": wanted.tables,
            "sha256": hashlib.sha256(wanted.file_text.encode("utf-8")).hexdigest(),
            "listing": self.listing(wanted.tables),
            "text": self.text(wanted.tables),
        }
        return json.dumps(state, indent=1, sort_keys=True) + "\n"
