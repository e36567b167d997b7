#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Loads the operator's ruleset on a node, and takes it back unless it is confirmed.

The action plugin of the same name enters twice: once to load the ruleset with a timer armed that
brings the old one back, and once over a fresh connection to confirm.  One plan serves check mode
and the real thing.  Tables of other software are never touched.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: ruleset
short_description: The nftables ruleset of a node, with commit and confirm
description:
  - Loads a ruleset in one transaction. Its tables are removed and made anew, tables that were
    managed before and are gone from the ruleset are removed, and all other tables are left alone.
  - While the ruleset is loaded a timer on the node is armed that brings the old one back. The task
    then opens a fresh connection, through the new ruleset, and confirms. A ruleset that cuts the
    controller off is thus gone again after O(rollback_s).
  - What the kernel really has is read back and remembered, so that a change by another hand is seen
    by the next run and repaired.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: Where nft is not installed yet the text itself cannot be checked.
  diff_mode:
    support: full
  disruptive:
    support: none
    details: One transaction; established connections go on if the new ruleset lets them.
options:
  content:
    description:
      - The whole ruleset as text.
      - C(flush ruleset), C(include) and changes of tables that it does not declare are refused.
    type: str
    required: true
  path:
    description: Where the confirmed ruleset is kept for the next boot.
    type: path
    default: /etc/amaranten-ha/ruleset.nft
  state_path:
    description: Where the managed tables and their listing are remembered.
    type: path
    default: /var/lib/amaranten-ha/ruleset.json
  retire:
    description:
      - Tables that go together with the first ruleset, as V(family name).
      - For those that another way of loading rulesets has left, such as Debian's own nftables unit.
    type: list
    elements: str
    default: []
  rollback_s:
    description: Seconds until an unconfirmed ruleset is taken back.
    type: int
    default: 30
  state:
    description:
      - The task always ends with V(confirmed).
      - V(provisional) is what the action plugin asks for first; it leaves the timer armed.
    type: str
    choices: [provisional, confirmed]
    default: confirmed
notes:
  - On a node it needs C(nft) and systemd.
seealso:
  - module: amaranten.ha.cluster
"""

EXAMPLES = r"""
- name: Load the ruleset that the pair's template gave for this node
  amaranten.ha.ruleset:
    content: "{{ pair.ruleset }}"

- name: Load a ruleset by hand, with a minute to change one's mind
  amaranten.ha.ruleset:
    content: |
      table inet edge {
        chain input {
          type filter hook input priority filter; policy drop;
          ct state established,related accept
          tcp dport ssh accept
        }
      }
    rollback_s: 60
"""

RETURN = r"""
reasons:
  description: Why the ruleset was loaded, or would be; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [the ruleset differs from the one loaded last]
tables:
  description: The tables that are managed now.
  returned: always
  type: list
  elements: str
  sample: [inet edge]
"""

import hashlib
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, remove, write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import (
    Nft,
    NftError,
    file_text,
    replacement,
)
from ansible_collections.amaranten.ha.plugins.module_utils._rollback import Rollback
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText

STATE_VERSION = 1
RUN_DIRECTORY = "/run/amaranten-ha-ruleset"


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

    def judge(self, file_text, remembered, live_listing, pending):
        """Collect the reasons for loading the ruleset."""
        if pending:
            self.reasons.append("an earlier ruleset was never confirmed")
        if not remembered:
            self.reasons.append("no ruleset was loaded before")
        elif file_text != self.wanted.file_text:
            self.reasons.append("the ruleset differs from the one loaded last")
        elif live_listing != remembered.get("listing"):
            self.reasons.append("the kernel's tables differ from what was loaded")
        if self.retired:
            self.reasons.append("%s is retired" % " and ".join(self.retired))


class Wanted(object):
    """The ruleset as it was asked for."""

    def __init__(self, content):
        text = RulesetText(content)
        self.refused = text.refused
        self.tables = text.tables
        self.file_text = file_text(content)

    def transaction(self, plan):
        """The text that brings the kernel from anything to the wanted ruleset."""
        return replacement(plan.gone + plan.retired) + self.file_text


def diff(header, before, after):
    """Before and after of a file or of the kernel."""
    return {"before_header": header, "after_header": header, "before": before, "after": after}


class Firewall(object):
    """The ruleset of this node."""

    def __init__(self, module):
        self.module = module
        self.parameters = module.params
        program = module.get_bin_path("nft")
        self.nft = Nft(module.run_command, program) if program else None
        self.rollback = Rollback(module.run_command, RUN_DIRECTORY, program)
        self.candidate = os.path.join(RUN_DIRECTORY, "candidate.nft")
        self.wanted = Wanted(self.parameters["content"])

    def remembered(self):
        """What the last confirmed run left."""
        text = read(self.parameters["state_path"])
        found = json.loads(text) if text else {}
        return found if found.get("version") == STATE_VERSION else {}

    def listing(self, tables, live):
        """The canonical listing of tables, the absent ones as null."""
        return {table: self.nft.canonical(table) if table in live else None for table in tables}

    def text(self, tables, live):
        """The listing of tables as text."""
        return "".join(self.nft.text(table) for table in tables if table in live)

    def plan(self):
        """Look, and decide."""
        remembered = self.remembered()
        live = self.nft.tables() if self.nft else []
        plan = Plan(self.wanted, remembered, live, self.parameters["retire"])
        listing = self.listing(plan.managed, live)
        file_text = read(self.parameters["path"])
        plan.judge(file_text, remembered, listing, self.rollback.armed())
        plan.diff = diff(self.parameters["path"], file_text or "", self.wanted.file_text)
        if file_text == self.wanted.file_text and remembered:
            plan.diff = diff("kernel", self.text(plan.managed, live), remembered.get("text", ""))
        return plan

    def apply(self, plan):
        """Arm the timer, load, and remember what the kernel made of it."""
        old = replacement(plan.touched) + self.text(plan.touched, self.nft.tables())
        remove(self.candidate_state)
        write(self.candidate, self.wanted.transaction(plan), 0o600)
        self.nft.check(self.candidate)
        self.rollback.prepare(old)
        self.nft.check(self.rollback.script)
        self.rollback.arm(self.parameters["rollback_s"])
        try:
            self.nft.load(self.candidate)
        except NftError:
            self.rollback.disarm()
            raise
        live = self.nft.tables()
        state = {
            "version": STATE_VERSION,
            "tables": self.wanted.tables,
            "sha256": hashlib.sha256(self.wanted.file_text.encode("utf-8")).hexdigest(),
            "listing": self.listing(self.wanted.tables, live),
            "text": self.text(self.wanted.tables, live),
        }
        write(self.candidate_state, json.dumps(state, indent=1, sort_keys=True) + "\n", 0o600)

    @property
    def candidate_state(self):
        """Where the state waits for the confirmation."""
        return os.path.join(RUN_DIRECTORY, "candidate.json")

    def confirm(self):
        """Make the loaded ruleset the one that the next boot loads."""
        state = read(self.candidate_state)
        if state is None:
            self.module.fail_json(
                msg="The connection was cut before the ruleset was loaded, expected one that "
                "lasts: run again."
            )
        if not self.rollback.disarm():
            return False
        write(self.parameters["path"], self.wanted.file_text, 0o644)
        write(self.parameters["state_path"], state, 0o600)
        remove(self.candidate_state)
        remove(self.candidate)
        return True


def provisional(module, firewall):
    """Load the ruleset if there is a reason to."""
    if firewall.nft is None and not module.check_mode:
        module.fail_json(msg="nft is not installed on this node, expected the package nftables.")
    plan = firewall.plan()
    result = {
        "changed": bool(plan.reasons),
        "reasons": plan.reasons,
        "tables": firewall.wanted.tables,
        "diff": plan.diff if plan.reasons else {"before": "", "after": ""},
    }
    if plan.reasons and module.check_mode and firewall.nft:
        scratch = os.path.join(module.tmpdir, "candidate.nft")
        write(scratch, firewall.wanted.transaction(plan), 0o600)
        firewall.nft.check(scratch)
    elif plan.reasons and not module.check_mode:
        if firewall.rollback.armed():
            firewall.rollback.now()
            plan = firewall.plan()
        firewall.apply(plan)
    module.exit_json(**result)


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/etc/amaranten-ha/ruleset.nft"},
            "state_path": {"type": "path", "default": "/var/lib/amaranten-ha/ruleset.json"},
            "retire": {"type": "list", "elements": "str", "default": []},
            "rollback_s": {"type": "int", "default": 30},
            "state": {
                "type": "str",
                "choices": ["provisional", "confirmed"],
                "default": "confirmed",
            },
        },
        supports_check_mode=True,
    )
    firewall = Firewall(module)
    for line, sentence in firewall.wanted.refused:
        module.fail_json(msg="Line %d of the ruleset %s." % (line, sentence))
    try:
        if module.params["state"] == "provisional":
            provisional(module, firewall)
        if not firewall.confirm():
            module.fail_json(
                msg="The new ruleset let no fresh connection of the controller in within %d s, so "
                "the one before it is back, expected rules that accept the controller."
                % module.params["rollback_s"]
            )
        module.exit_json(changed=True, reasons=[], tables=firewall.wanted.tables)
    except NftError as error:
        module.fail_json(msg="nft refuses the ruleset: %s." % error)


if __name__ == "__main__":
    main()
