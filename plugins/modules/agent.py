#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Has a node's services run with the version and the files that are there now.

The role enters for one node after the other, the active one last.  Services that run with older
files are restarted; an active node hands over to its peer first, so that nothing is interrupted.
The next node is not touched before this one is well again.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: agent
short_description: The agent's services, running with the present version and configuration
description:
  - Makes a version the current one, starts services that do not run, and restarts those that have
    been started before the version, the configuration, the keys or their units changed.
  - The agent is restarted in the announced way (C(amaranten-ha restart)), in which an active node
    stays active. If a unit changed, or the agent that runs knows no such restart, an active node
    hands over to its peer first and ends as the passive one; if the peer would not take over then,
    nothing is restarted and the module fails. After a restart the module waits
    until the node has a role again and the pair is as ready as it was before. Run it for one node
    at a time.
  - Versions other than the current one and the one before it are removed.
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
    support: partial
    details: An active node stays active, or hands over first, or is not restarted.
options:
  release:
    description: The name of the version's directory, as returned by M(amaranten.ha.release).
    type: str
    required: true
  files:
    description:
      - Path to the SHA-256 of each file that the services read at their start, as it is to be.
      - So that check mode tells the truth while the files are not there yet.
    type: dict
    required: true
  digests:
    description:
      - The content of C(digests.toml), the fingerprints that the two agents compare.
      - An agent that runs is told about new ones; nothing is restarted for them.
    type: str
    required: true
  intent:
    description:
      - All that the roles ask of this node, as for M(amaranten.ha.node_info). Fingerprints of it,
        and the hardware addresses of the devices, are remembered in C(/var/lib/amaranten-ha), so
        that the drift check can tell a change of the inventory from a change on the node.
    type: dict
  force:
    description: Restart an active node even if its peer would not take over, which interrupts
      traffic.
    type: bool
    default: false
  wait_s:
    description: Seconds that a restarted node may take until it is well again.
    type: int
    default: 90
seealso:
  - module: amaranten.ha.release
  - module: amaranten.ha.units
"""

EXAMPLES = r"""
- name: Have the services run with what is there now
  amaranten.ha.agent:
    release: 0.1.0-0123456789ab
    files:
      /etc/amaranten-ha/agent.toml: "{{ pair.agent_toml | hash('sha256') }}"
    digests: "{{ pair.digests_toml }}"
"""

RETURN = r"""
reasons:
  description: Why something was started, switched or restarted; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [amaranten-ha-heart.service runs with an older agent.toml]
"""

import json
import os
import re
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._agent import (
    CURRENT,
    TOOL,
    Services,
    digest,
    status,
)
from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    RECORD_PATH,
    record,
)
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

ROOT = "/usr/lib/amaranten-ha"
VERSIONS_KEPT = 2
POLL_S = 0.25


class Plan(object):
    """What has to be started, switched or restarted."""

    def __init__(self, parameters, services, known, record):
        release, wanted = parameters["release"], parameters["files"]
        self.wanted = dict(wanted)
        self.wanted[CURRENT] = digest(release)
        self.release = release
        self.old_release = os.path.basename(os.readlink(CURRENT)) if os.path.islink(CURRENT) else ""
        self.switch = self.old_release != release
        self.start = services.stopped()
        self.outdated = services.outdated(self.wanted)
        self.units = services.units_outdated(self.wanted)
        self.reasons = []
        if self.switch:
            self.reasons.append("the current version is %s" % (self.old_release or "not set"))
        self.reasons += ["%s is not running" % name for name in self.start]
        self.reasons += ["%s runs with an older %s" % item for item in self.outdated]
        asked = dict(re.findall(r'(?m)^(config|ruleset) = "([0-9a-f]+)"$', parameters["digests"]))
        self.reload = bool(known) and not self.restart and known != asked
        if self.reload:
            self.reasons.append("the agent compares older fingerprints")
        self.record = record
        if record is not None and record != read(RECORD_PATH):
            self.reasons.append("the record of what was deployed is older")

    @property
    def restart(self):
        """Whether services that run have to be restarted."""
        return bool(self.outdated) or (self.switch and bool(self.old_release))


class Agent(object):
    """The agent of this node."""

    def __init__(self, module):
        self.module = module
        self.node = Node(module.run_command)
        self.services = Services(self.node)

    def plan(self):
        """Look, and decide."""
        known = status(self.node).get("digests")
        return Plan(self.module.params, self.services, known, self.record())

    def record(self):
        """What this deployment leaves for the drift check to remember, as text."""
        intent = self.module.params["intent"]
        if not intent:
            return None
        found = record(dict(intent, release=self.module.params["release"]))
        devices = [item["device"] for item in intent["interfaces"].values()]
        links = self.node.links()
        found["macs"] = {name: links.get(name, {}).get("address", "") for name in devices}
        return json.dumps(found, indent=1, sort_keys=True) + "\n"

    def apply(self, plan):
        """Switch the version, then start or restart, then wait."""
        before = status(self.node)
        announced = plan.restart and not plan.start and not plan.units
        if plan.restart and not announced:
            self.make_passive(before)
        if plan.switch:
            temporary = CURRENT + ".new"
            if os.path.islink(temporary):
                os.unlink(temporary)
            os.symlink(plan.release, temporary)
            os.rename(temporary, CURRENT)
        if announced and not self.announce():
            self.make_passive(status(self.node))
            announced = False
        if plan.restart and not announced:
            self.systemctl(["restart"] + list(self.services.names))
        elif plan.start:
            self.systemctl(["start"] + plan.start)
        if plan.reload:
            self.reload()
        self.services.stamp(plan.wanted)
        if plan.restart:
            self.await_well(before)
        if plan.record is not None:
            write(RECORD_PATH, plan.record, 0o600)
        self.prune(plan)

    def announce(self):
        """Restart in the announced way, in which an active node stays active; whether it did."""
        code, out, error = self.module.run_command([TOOL, "restart"])
        if code == 2:
            self.module.fail_json(msg="".join(error or out).strip())
        return code == 0

    def make_passive(self, now):
        """Hand over before a restart that would interrupt the traffic."""
        if now.get("role") == "active" and not self.module.params["force"]:
            self.hand_over()

    def reload(self):
        """Tell the agent the new fingerprints."""
        code, out, error = self.module.run_command([TOOL, "reload"])
        if code != 0:
            self.module.fail_json(
                msg="`amaranten-ha reload` failed: %s" % " ".join((error or out).split())
            )

    def hand_over(self):
        """Make the peer active, or leave everything as it is: this node carries the traffic.

        The peer may just have been restarted itself, and still be copying the connections.
        """
        deadline = time.monotonic() + self.module.params["wait_s"]
        while True:
            code, out, error = self.module.run_command(
                [TOOL, "switchover", "--reason", "deployment"]
            )
            if code == 0:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        self.module.fail_json(
            msg="The node is active and its peer would not take over within %d s (%s), so its "
            "services go on with the older files, expected a peer that is ready: then run again."
            % (self.module.params["wait_s"], " ".join((error or out).split()))
        )

    def await_well(self, before):
        """Wait until the node has a role again, and hears its peer if it did before."""
        deadline = time.monotonic() + self.module.params["wait_s"]
        heard = before.get("peer", {}).get("state") == "alive"
        now = {}
        while time.monotonic() < deadline:
            now = status(self.node)
            hears = now.get("peer", {}).get("state") == "alive"
            if now.get("role") in ("active", "passive") and (hears or not heard):
                return
            time.sleep(POLL_S)
        self.module.fail_json(
            msg="The agent is not well %d s after its restart (%s; %s), expected a role and a "
            "peer that is heard; the other node was left alone."
            % (
                self.module.params["wait_s"],
                now.get("role", "no answer"),
                "; ".join(now.get("reasons", [])) or "no reason given",
            )
        )

    def prune(self, plan):
        """Keep the current version and the one before it."""
        keep = {plan.release, plan.old_release}
        others = []
        for name in os.listdir(ROOT):
            path = os.path.join(ROOT, name)
            if name.startswith(".partial-"):
                shutil.rmtree(path, ignore_errors=True)
            elif name not in keep and os.path.isdir(path) and not os.path.islink(path):
                others.append(path)
        others.sort(key=os.path.getmtime, reverse=True)
        for path in others[max(0, VERSIONS_KEPT - len(keep - {""})) :]:
            shutil.rmtree(path, ignore_errors=True)

    def systemctl(self, arguments):
        """systemctl, or the end with what the services said last."""
        code, out, error = self.module.run_command(["systemctl"] + arguments)
        if code == 0:
            return
        said = []
        for name in self.services.names:
            if self.node.unit(name)["ActiveState"] not in ("active", "inactive"):
                lines = self.node.output(
                    ["journalctl", "--no-pager", "-o", "cat", "-n", "5", "-u", name]
                )
                said.append("%s says: %s" % (name, " / ".join(lines.split("\n")).strip(" /")))
        self.module.fail_json(
            msg="`systemctl %s` failed: %s"
            % (" ".join(arguments), "; ".join(said) or " ".join(error.split()))
        )


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
            "digests": {"type": "str", "required": True},
            "intent": {"type": "dict"},
            "force": {"type": "bool", "default": False},
            "wait_s": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    agent = Agent(module)
    plan = agent.plan()
    if plan.reasons and not module.check_mode:
        agent.apply(plan)
        left = agent.plan().reasons
        if left:
            module.fail_json(
                msg="The agent was started and is still not as asked, expected nothing left: %s."
                % "; ".join(left)
            )
    module.exit_json(
        changed=bool(plan.reasons),
        reasons=plan.reasons,
        diff={
            "before": "",
            "after": json.dumps(plan.reasons, indent=1) + "\n" if plan.reasons else "",
        },
    )


if __name__ == "__main__":
    main()
