#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node is to be: active, passive, or held in maintenance.

A play enters with one node or with both at once.  The node's own agent is asked, and decides; what
it refuses is asked again until the time is over, and then said with every reason.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_role
short_description: A node is active, passive, or held in maintenance
description:
  - Has a node hand the active role over, waits for it to be given the role, or holds it in
    maintenance. Waits until it is so, and fails with every reason if it is not in time.
  - No node takes a role by itself. For a switchover run it for both nodes in the same task, with
    V(passive) for the one that is active and V(active) for the other one.
  - A switchover is refused while the node that takes over would lose something; then it is asked
    again until O(wait_s) has passed.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: What would be refused now fails in check mode as well, without waiting.
  diff_mode:
    support: full
  disruptive:
    support: partial
    details: A switchover loses no packet and no connection that is replicated. With O(force) it
      loses what the replica lacks.
options:
  state:
    description:
      - V(active) and V(passive) end maintenance of the node.
      - V(maintenance) holds the node, so that it takes over from nobody. An active one hands over
        first.
    type: str
    choices: [active, passive, maintenance]
    required: true
  duration:
    description:
      - For how long a node is held, as in V(90s), V(30m), V(2h) or V(1d); 30 days at most. Needed
        for O(state=maintenance).
      - A node that is held already is left alone if what is left of its time is this, give or take
        a tenth.
    type: str
  reason:
    description: What the events of the node say of the switchover.
    type: str
    default: playbook
  force:
    description:
      - Hand over whatever the replica lacks, never to a node that cannot take over at all.
      - Hold an active node even if nobody can take over from it. It goes on forwarding.
    type: bool
    default: false
  wait_s:
    description: Seconds to wait at most.
    type: int
    default: 60
seealso:
  - module: amaranten.ha.pair_info
"""

EXAMPLES = r"""
- name: Make fw-b the active one, in a play with both nodes
  amaranten.ha.node_role:
    state: "{{ 'active' if inventory_hostname == 'fw-b' else 'passive' }}"

- name: Hold this node for two hours
  amaranten.ha.node_role:
    state: maintenance
    duration: 2h
"""

RETURN = r"""
reasons:
  description: What differed; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [fw-a is active]
before:
  description: C(role), C(epoch) and C(held) of the node before.
  returned: always
  type: dict
  sample: {role: active, epoch: 4, held: false}
after:
  description: The same afterwards; in check mode, what is expected of the role and the hold.
  returned: always
  type: dict
  sample: {role: passive, epoch: 5, held: false}
"""

import json
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._agent import TOOL, status
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

POLL_S = 0.25
UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
HELD_S_MAX = 30 * 86400


class Plan(object):
    """What has to be asked of the agent, and why."""

    def __init__(self, state, duration_s, found):
        name, role, held_s = found["node"], found["role"], found.get("held_s")
        self.reasons = []
        self.hold = self.release = self.give = self.take = False
        if state == "maintenance":
            if held_s is None:
                self.hold = True
                self.reasons.append("%s is not held in maintenance" % name)
            elif abs(held_s - duration_s) > duration_s / 10.0:
                self.hold = True
                self.reasons.append("%s is held for %d s more" % (name, held_s))
            self.give = self.hold and role in ("active", "handing over") and held_s is None
            if self.give:
                self.reasons.append("%s is %s" % (name, role))
            return
        if found["held"]:
            self.release = True
            self.reasons.append("%s is held in maintenance" % name)
        if role != state:
            self.give, self.take = state == "passive", state == "active"
            self.reasons.append("%s is %s" % (name, role))

    def expected(self, found):
        """What the node is when it is done."""
        role = found["role"]
        if self.give:
            role = "passive"
        elif self.take:
            role = "active"
        return {"role": role, "held": self.hold or (found["held"] and not self.release)}


class Steward(object):
    """Asks the agent of this node until the node is what it is to be."""

    def __init__(self, module, duration_s):
        self.module = module
        self.parameters = module.params
        self.duration_s = duration_s
        self.node = Node(module.run_command)
        self.deadline = time.monotonic() + self.parameters["wait_s"]

    def look(self):
        """What the agent says, or the end if there is none that answers."""
        found = status(self.node)
        if not found:
            self.module.fail_json(
                msg="The agent of this node does not answer, expected one that runs: nothing was "
                "asked of it. `systemctl status amaranten-ha-heart` says why."
            )
        return found

    def plan(self, found):
        """What differs now."""
        return Plan(self.parameters["state"], self.duration_s, found)

    def refusals(self, plan, found):
        """Why the agent would refuse what is planned, in check mode, where nothing is asked."""
        peer = found["peer"]
        if plan.take and peer["role"] not in ("active", "handing over"):
            return ["%s is %s, and only an active node hands over" % (peer["node"], peer["role"])]
        if plan.give and found["role"] == "active" and not self.parameters["force"]:
            return refused(found)
        return []

    def apply(self, plan):
        """Ask; what is refused is asked again until the time is over."""
        if plan.release:
            self.ask(["maintenance", "off"])
        if plan.hold:
            words = ["maintenance", "on", "--for", self.parameters["duration"]]
            self.insist(words + (["--force"] if self.parameters["force"] else []))
        elif plan.give:
            words = ["switchover", "--reason", self.parameters["reason"]]
            self.insist(words + (["--force"] if self.parameters["force"] else []))

    def ask(self, words):
        """(whether it was done, why not) of one request to the agent."""
        code, out, error = self.module.run_command([TOOL] + words + ["--json"])
        if code == 2:
            self.module.fail_json(msg=" ".join((error or out).split()))
        try:
            answer = json.loads(out)
        except ValueError:
            return False, [" ".join((error or out).split()) or "no answer"]
        return answer["done"], answer["reasons"]

    def insist(self, words):
        """Ask until it is done or the node is so anyway, or fail with the reasons."""
        while True:
            done, reasons = self.ask(words)
            if done or not self.plan(self.look()).reasons:
                return
            if time.monotonic() >= self.deadline:
                self.give_up(reasons)
            time.sleep(POLL_S)

    def give_up(self, reasons):
        """The time is over."""
        found = self.look()
        self.module.fail_json(
            msg="%s is %s%s after %d s, expected %s: %s."
            % (
                found["node"],
                found["role"],
                " and held in maintenance" if found["held"] else "",
                self.parameters["wait_s"],
                self.parameters["state"],
                "; ".join(reasons) or "no reason given",
            ),
            reasons=reasons,
        )

    def settle(self):
        """Wait until nothing differs any more."""
        while True:
            found = self.look()
            left = self.plan(found)
            if not left.reasons:
                return found
            if time.monotonic() >= self.deadline:
                peer = found["peer"]
                waits = "%s is %s (%s)" % (peer["node"], peer["role"], peer["silence"])
                self.give_up(refused(found) + [waits])
            time.sleep(POLL_S)


def seconds(module):
    """The duration in seconds, or the end with a sentence."""
    text = module.params["duration"]
    if text is None:
        return 0
    match = re.match(r"([0-9]{1,7})([smhd])$", text)
    value = int(match.group(1)) * UNIT_S[match.group(2)] if match else 0
    if not 1 <= value <= HELD_S_MAX:
        module.fail_json(
            msg="duration is '%s', expected a number with s, m, h or d, 30d at most, as in 2h."
            % text
        )
    return value


def refused(found):
    """Why a switchover is refused now; an older agent does not tell it from other reasons."""
    return found.get("switchover", found)["reasons"]


def short(found):
    """The part of a status that this module returns."""
    return {key: found[key] for key in ("role", "epoch", "held")}


def diff_text(values):
    """One side of the diff."""
    return "role: %s\nheld: %s\n" % (values["role"], "yes" if values["held"] else "no")


def main():
    """Entry point of the module."""
    states = ["active", "passive", "maintenance"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": states, "required": True},
            "duration": {"type": "str"},
            "reason": {"type": "str", "default": "playbook"},
            "force": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 60},
        },
        required_if=[("state", "maintenance", ["duration"])],
        supports_check_mode=True,
    )
    steward = Steward(module, seconds(module))
    found = steward.look()
    plan = steward.plan(found)
    after = dict(short(found), **plan.expected(found))
    if plan.reasons and module.check_mode:
        refusals = steward.refusals(plan, found)
        if refusals:
            module.fail_json(
                msg="%s would not become %s: %s."
                % (found["node"], module.params["state"], "; ".join(refusals)),
                reasons=refusals,
            )
    elif plan.reasons:
        steward.apply(plan)
        after = short(steward.settle())
    module.exit_json(
        changed=bool(plan.reasons),
        reasons=plan.reasons,
        before=short(found),
        after=after,
        diff={"before": diff_text(short(found)), "after": diff_text(after)},
    )


if __name__ == "__main__":
    main()
