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
    Sets and maps that packets and time change keep the elements that they have, with the time that
    is left to them.
  - While the ruleset is on trial a timer on the node is armed that brings the old one back. The
    task then opens a fresh connection, through the new ruleset, and confirms. A ruleset that cuts
    the controller off is thus gone again after O(rollback_s).
  - For the two nodes of a running pair the steps are taken one by one, so that both end with the
    same rules wherever they are interrupted. See C(docs/rules.md).
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
  template:
    description:
      - The file on the controller that gave O(content), for the line in what nft complains about.
    type: path
  digest:
    description:
      - The fingerprint of the pair's ruleset, as M(amaranten.ha.cluster) returns it. A confirmed
        ruleset is then in C(digests.toml) too, and in the node's heartbeats.
      - Without it the agent is not asked and not told.
    type: str
    default: ""
  peer_agrees:
    description:
      - Confirm only if the peer's heartbeats say that it has the same ruleset, on trial or for
        good.
    type: bool
    default: false
  on_trial:
    description:
      - With O(state=provisional), load nothing, and fail unless the ruleset is on trial.
      - The action plugin asks so over the fresh connection.
    type: bool
    default: false
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
    description: Seconds until a ruleset that is neither held nor confirmed is taken back.
    type: int
    default: 30
  hold_s:
    description: Seconds until a ruleset that is held ends as the peer has it.
    type: int
    default: 600
  state:
    description:
      - V(confirmed) loads the ruleset if there is a reason to, and confirms it over a fresh
        connection. One that is on trial already is only confirmed.
      - V(provisional) loads it, shows over a fresh connection that the controller is let in, and
        leaves the timer armed.
      - V(held) leaves the end to the peer. When O(hold_s) have passed the node asks the peer's
        heartbeats. Did the peer commit the same ruleset, it is kept, else it is taken back. The
        node's own heartbeats say meanwhile that it has the ruleset. Needs O(digest).
      - V(reverted) takes a ruleset that is on trial back. One that is held ends at once as the peer
        has it. A confirmed one stays.
    type: str
    choices: [provisional, held, confirmed, reverted]
    default: confirmed
notes:
  - On a node it needs C(nft) and systemd.
  - Elements that the ruleset itself gives to a set begin anew with their whole time.
seealso:
  - module: amaranten.ha.cluster
  - module: amaranten.ha.paths_info
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

- name: Try it on the passive node, which keeps it if the active one commits it
  amaranten.ha.ruleset:
    content: "{{ pair.ruleset }}"
    digest: "{{ pair.ruleset_digest }}"
    state: "{{ item }}"
  loop: [provisional, held]
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
  returned: success
  type: list
  elements: str
  sample: [inet edge]
state:
  description: How far the ruleset came; V(settling) while the node asks what its peer did.
  returned: always
  type: str
  sample: held
difference:
  description: The same as the diff, line by line, for a playbook that shows it beforehand.
  returned: when the ruleset was compared
  type: list
  elements: str
  sample: ["+  udp dport 4001 accept"]
lost:
  description: Dynamic sets whose elements the new ruleset does not take, as family, table and set.
  returned: when the ruleset was loaded
  type: list
  elements: str
  sample: [inet edge banned]
why:
  description: Why a ruleset was taken back.
  returned: with O(state=reverted)
  type: str
  sample: it was not confirmed in time
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _ruleset_trial as trials
from ansible_collections.amaranten.ha.plugins.module_utils._files import write
from ansible_collections.amaranten.ha.plugins.module_utils._nft import NftError
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_plan import (
    Survey,
    Wanted,
    difference,
)

# What must be left of a timer for a trial that is under way to be taken up again.
LEFT_S_MIN = 3


class Firewall(object):
    """The ruleset of this node."""

    def __init__(self, module):
        self.module = module
        self.parameters = module.params
        self.program = module.get_bin_path("nft")
        self.trial = trials.Trial(module.run_command, self.program)
        self.nft = self.trial.nft
        self.wanted = Wanted(self.parameters["content"], self.parameters["digest"])
        self.survey = Survey(self.nft if self.program else None, self.parameters)

    def plan(self):
        """Look, and decide."""
        pending = self.trial.phase() in trials.PENDING
        return self.survey.plan(self.wanted, pending, trials.said_digest())

    def under_way(self):
        """Whether exactly this ruleset is on trial, untouched, and long enough to go on with."""
        trial = self.trial
        if trial.phase() not in (trials.PROVISIONAL, trials.HELD):
            return False
        if not trial.same(self.wanted.file_text, self.wanted.digest):
            return False
        remembered = json.loads(trial.state()["files"][1][1])
        listing = self.survey.listing(self.wanted.tables)
        return trial.left_s() >= LEFT_S_MIN and listing == remembered["listing"]

    def taken_up(self):
        """Whether it is under way, and has time enough from now on for what comes next."""
        return self.under_way() and self.trial.renew(self.parameters["rollback_s"])

    def apply(self, plan):
        """Load it with the timer armed, and note what the kernel made of it."""
        lost = self.trial.begin(
            self.wanted.transaction(plan),
            plan.touched,
            self.wanted.digest,
            self.parameters["rollback_s"],
        )
        text = self.survey.state_text(self.wanted)
        self.trial.note(
            [
                [self.parameters["path"], self.wanted.file_text, 0o644],
                [self.parameters["state_path"], text, 0o600],
            ]
        )
        return lost

    def check(self, plan):
        """Have nft look at it without loading it."""
        scratch = os.path.join(self.module.tmpdir, "candidate.nft")
        write(scratch, self.wanted.transaction(plan), 0o600)
        self.nft.check(scratch)

    # What is asked for --------------------------------------------------------------------------

    def provisional(self):
        """Load the ruleset if there is a reason to."""
        if self.program is None and not self.module.check_mode:
            self.fail("nft is not installed on this node, expected the package nftables.")
        if self.parameters["on_trial"]:
            if not self.under_way():
                self.fail(self.gone())
            self.exit(changed=True, reasons=[])
        if not self.module.check_mode:
            self.trial.await_settled()
        plan = self.plan()
        result = {
            "changed": bool(plan.reasons),
            "reasons": plan.reasons,
            "lost": [],
            "difference": difference(plan.diff) if plan.reasons else [],
            "diff": plan.diff if plan.reasons else {"before": "", "after": ""},
        }
        try:
            if plan.reasons and self.module.check_mode and self.program:
                self.check(plan)
            elif plan.reasons and not self.module.check_mode and not self.taken_up():
                # Before an earlier one is taken back: this one may not be better.
                self.check(plan)
                self.trial.revert()
                plan = self.plan()
                if plan.reasons:
                    result["lost"] = self.apply(plan)
        except NftError as error:
            self.fail(
                "nft refuses the ruleset: %s." % error, line=self.wanted.line(plan, error.line)
            )
        self.exit(**result)

    def held(self):
        """Let the peer decide what becomes of the ruleset that is loaded."""
        if not self.wanted.digest:
            self.fail("digest is missing, expected that of the pair: a ruleset is held for a peer.")
        if not self.trial.same(self.wanted.file_text, self.wanted.digest):
            self.fail("The ruleset is not on trial on this node, expected state provisional first.")
        if not self.trial.hold(self.parameters["hold_s"]):
            self.fail(self.gone())
        self.exit(changed=True, reasons=[])

    def confirmed(self):
        """Make the loaded ruleset the one that the next boot loads."""
        trial = self.trial
        if not trial.same(self.wanted.file_text, self.wanted.digest):
            self.fail(
                "The connection was cut before the ruleset was loaded, expected one that lasts: "
                "run again."
            )
        why = trial.commit(self.parameters["peer_agrees"])
        if why:
            loaded = trial.phase() in trials.PENDING
            self.fail(
                "The ruleset is not confirmed because %s, expected one that it has in its "
                "heartbeats." % why
                if loaded
                else self.gone()
            )
        self.exit(changed=True, reasons=[])

    def reverted(self):
        """Take the ruleset back, unless it is confirmed."""
        self.trial.await_settled()
        pending = self.trial.phase() in trials.PENDING
        if pending and not self.module.check_mode:
            self.trial.revert()
        same = self.trial.same(self.wanted.file_text, self.wanted.digest)
        kept = same and self.trial.phase() == trials.CONFIRMED
        self.exit(
            changed=pending and not kept,
            reasons=[],
            state=trials.CONFIRMED if kept else trials.REVERTED,
            why=self.trial.state().get("why", "") if same else "",
        )

    def gone(self):
        """Why a ruleset that was loaded is not there any more."""
        return (
            "The new ruleset let no fresh connection of the controller in within %d s, so the one "
            "before it is back, expected rules that accept the controller."
            % self.parameters["rollback_s"]
        )

    def exit(self, **result):
        """The end, with how far the ruleset came."""
        phase = self.trial.phase()
        result.setdefault("state", phase if phase in trials.PENDING else trials.CONFIRMED)
        self.module.exit_json(tables=self.wanted.tables, **result)

    def fail(self, sentence, **result):
        """The end, in a sentence."""
        self.module.fail_json(msg=sentence, state=self.trial.phase(), **result)


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "content": {"type": "str", "required": True},
            "template": {"type": "path"},
            "digest": {"type": "str", "default": ""},
            "on_trial": {"type": "bool", "default": False},
            "peer_agrees": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/etc/amaranten-ha/ruleset.nft"},
            "state_path": {"type": "path", "default": "/var/lib/amaranten-ha/ruleset.json"},
            "retire": {"type": "list", "elements": "str", "default": []},
            "rollback_s": {"type": "int", "default": 30},
            "hold_s": {"type": "int", "default": 600},
            "state": {
                "type": "str",
                "choices": ["provisional", "held", "confirmed", "reverted"],
                "default": "confirmed",
            },
        },
        supports_check_mode=True,
    )
    firewall = Firewall(module)
    for line, sentence in firewall.wanted.refused:
        module.fail_json(msg="Line %d of the ruleset %s." % (line, sentence))
    try:
        if module.check_mode and module.params["state"] != "reverted":
            firewall.provisional()
        getattr(firewall, module.params["state"])()
    except NftError as error:
        module.fail_json(msg="nft refuses the ruleset: %s." % error)


if __name__ == "__main__":
    main()
