#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Takes the product off a node, which is then as it was found.

A play enters for one node after the other, the active one last.  What to undo is worked out from
the record that was written before the first change.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: removal
short_description: A node as it was before the first deployment
description:
  - Stops the agent, and brings units, files, addresses, tables and kernel parameters back to what
    C(/var/lib/amaranten-ha/before.json) says was found. What other software has changed since is
    left alone.
  - The node stops forwarding before its gate and its ruleset go. The record goes last, so that an
    interrupted removal can be run again.
  - Refused while a ruleset is on trial on the node. Its end is its timer's or its peer's to say,
    and whoever is changing the rules expects to find it.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  disruptive:
    support: full
    details: An active node stops forwarding. Its peer takes over if it is there.
options:
  devices:
    description: The devices of the pair on this node.
    type: list
    elements: str
    required: true
  packages:
    description:
      - Purge the packages that the deployment installed, and those that they brought along and that
        nothing else needs, by the answer of C(apt-get autoremove).
      - What is to be purged is written down before, so that a purge that was interrupted is ended
        by the next run.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Take the product off this node
  amaranten.ha.removal:
    devices: [enp1s0, enp2s0]
"""

RETURN = r"""
reasons:
  description: What was not as it had been found; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [table netdev amaranten_ha is loaded]
"""

import json
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _ruleset_trial as trials
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node, connection_address
from ansible_collections.amaranten.ha.plugins.module_utils._undo import (
    RECORD,
    STATE,
    Step,
    Undo,
    listed,
)

APT = ["apt-get", "--quiet", "--yes", "--option", "Dpkg::Use-Pty=0"]
# An apt whose module was killed may still be at work.
APT += ["--option", "DPkg::Lock::Timeout=60"]
# What is being purged: apt forgets what came along, before its dpkg begins to remove it.
PURGING = STATE + "/purging.json"


def purge(module, node):
    """The steps that purge what the deployment brought, and what an earlier purge left of it."""
    if not module.params["packages"]:
        return []
    noted = json.loads(read(PURGING) or "[]")
    packages = installed_since(node)
    if noted:
        packages = removable(node, sorted(set(noted + packages)))
    if not packages:
        return []
    text = json.dumps(sorted(set(noted + packages)))
    steps = [Step("%s were installed" % ", ".join(packages), call=(write, PURGING, text, 0o600))]
    if noted:
        # Only to wait for its lock; it refuses a node on which dpkg was interrupted.
        steps.append(Step("an earlier purge was interrupted", [APT + ["check"]], may_fail=True))
        words = ["dpkg", "--purge"]
    else:
        words = APT + ["purge"]
    return steps + [Step("%s purges them" % words[0], [words + packages])]


def removable(node, packages):
    """Those of some packages of which dpkg has anything, and that nothing else needs."""
    answer = node.answer(["dpkg", "--no-act", "--purge"] + packages)
    return sorted(re.findall(r"(?m)^Would remove or purge ([^ :]+)", answer))


def installed_since(node):
    """Packages that were not there before: those that we asked for, and what they alone need."""
    text = read(RECORD)
    record = json.loads(text) if text else {}
    recorded = record.get("packages", {})
    new = [name for name, version in sorted(recorded.items()) if not version]
    present = node.packages(new) if new else {}
    ours = [name for name in new if present.get(name)]
    before = record.get("installed", {}).get("packages")
    if not ours or before is None:
        return ours
    # What nobody needed already is the operator's affair.
    brought = unneeded(node, ours) - unneeded(node, []) - set(before) - set(ours)
    return ours + sorted(brought)


def unneeded(node, without):
    """Packages that apt would remove by itself, after some others are gone; nothing is removed."""
    answer = node.output(["apt-get", "--simulate", "autoremove", "--purge"] + without)
    return {name.split(":")[0] for name in re.findall(r"(?m)^(?:Purg|Remv) (\S+)", answer)}


def refuse_on_trial(module):
    """A ruleset on trial belongs to a timer, and to somebody who is changing the rules."""
    trial = trials.Trial(module.run_command, "nft")
    phase = trial.phase()
    if phase in trials.PENDING:
        module.fail_json(
            msg="A ruleset is on trial on this node (%s), expected none: run rules.yml again, which"
            " ends it, or wait until it has ended by itself, %d s at most. Nothing was changed."
            % (phase, max(0, trial.left_s()) + trials.SETTLED_S)
        )


def refuse_to_cut(module, node, undo):
    """The controller must not come in by an address that would be taken off."""
    address = connection_address()
    links = node.links()
    old = {each["ifname"]: each for each in undo.record.get("network", {}).get("links", [])}
    for device in module.params["devices"]:
        now, before = listed(links.get(device, {})), listed(old.get(device, {}))
        for text in now:
            if text.split("/")[0] == address and text not in before:
                module.fail_json(
                    msg="The controller comes in at %s, which was not on %s before, expected "
                    "another way in: nothing was changed." % (text, device)
                )


def plan(module, node):
    """(what to undo by the record, what is our own and goes last), each in its order."""
    refuse_on_trial(module)
    undo = Undo(node, module.params["devices"])
    refuse_to_cut(module, node, undo)
    steps = undo.steps()
    return steps + purge(module, node), undo.directories()


def apply(module, steps):
    """Undo; a command that fails ends the module, and the next run goes on there."""
    for step in steps:
        for words in step.commands:
            code, out, error = module.run_command(words)
            if code != 0 and not step.may_fail:
                module.fail_json(
                    msg="`%s` failed: %s" % (" ".join(words), " ".join((error or out).split()))
                )
        if step.call:
            step.call[0](*step.call[1:])


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "devices": {"type": "list", "elements": "str", "required": True},
            "packages": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    node = Node(module.run_command)
    steps, own = plan(module, node)
    reasons = [step.what for step in steps + own]
    if reasons and not module.check_mode:
        apply(module, steps)
        left = plan(module, node)[0]
        if left:
            module.fail_json(
                msg="The node is not as it was found, expected nothing left: %s. The record of it "
                "is still there: run again." % "; ".join(step.what for step in left)
            )
        apply(module, own)
    module.exit_json(
        changed=bool(reasons),
        reasons=reasons,
        diff={"before": "".join("%s\n" % reason for reason in reasons), "after": ""},
    )


if __name__ == "__main__":
    main()
