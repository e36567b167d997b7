#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One step of a change of keys on a running node, without a restart of heart.

A play enters three times, with one node after the other.  Before a step that the other node must be
ready for, its heartbeats are asked.  A key goes to the file and over the control socket, and
nowhere else.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: key_rotation
short_description: One step of a change of keys, on a pair in service
description:
  - Brings a node from the keys that it has to those of the inventory, in three steps. Heart takes
    the keys while it runs, so that no heartbeat is lost or rejected; the replication service is
    restarted.
  - Each step compares what is there with what is to be, so that all of them can be run again from
    the first, wherever an earlier run ended.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: Each step says what it would do to the keys that are there now.
  diff_mode:
    support: full
    details: Keys are shown as hashes.
  disruptive:
    support: partial
    details: The replication service begins anew with each step; until the copy is complete again a
      switchover is refused. Traffic is not interrupted.
options:
  keys:
    description: The keys by their ids, as in C(ha_cluster.keys).
    type: dict
    required: true
  send_key:
    description: The id of the key that is to seal, as in C(ha_cluster.send_key).
    type: int
    required: true
  step:
    description:
      - V(accept) adds the keys that the node lacks. It goes on sealing with the one it has.
      - V(send) seals with O(send_key), once the heartbeats of the other node say that it accepts
        it.
      - V(drop) removes all keys that are not in O(keys), once the other node seals with
        O(send_key).
    type: str
    choices: [accept, send, drop]
    required: true
  path:
    description: The file of the keys.
    type: path
    default: /etc/amaranten-ha/keys.toml
  wait_s:
    description: Seconds to wait at most, for the other node before the step, and for the replica
      after it.
    type: int
    default: 60
seealso:
  - module: amaranten.ha.key_ring
"""

EXAMPLES = r"""
- name: Accept the new key as well, on one node after the other
  amaranten.ha.key_rotation:
    keys: "{{ ha_cluster['keys'] }}"
    send_key: "{{ ha_cluster.send_key }}"
    step: accept
  throttle: 1
"""

RETURN = r"""
reasons:
  description: What differed; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [fw-a lacks key 2]
ids:
  description: The ids of the keys after the step, with a hash of each.
  returned: always
  type: dict
  sample: {"1": 9f86d081}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _keys as ring
from ansible_collections.amaranten.ha.plugins.module_utils._agent import (
    TOOL,
    Services,
    digest,
    status,
)
from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    RECORD_PATH,
    with_keys,
)
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

MODE = 0o600
POLL_S = 0.25
SYNC = "amaranten-ha-sync.service"


class Plan(object):
    """What the step makes of the keys that are there."""

    def __init__(self, step, deployed, wanted, send_key):
        old, old_send = deployed
        self.keys = {} if step == "drop" else dict(old)
        self.keys.update(wanted)
        self.send = old_send if step == "accept" else send_key
        self.text = ring.render(self.keys, self.send)
        self.reasons = ["key %d is new" % n for n in sorted(self.keys) if n not in old]
        self.reasons += ["key %d is dropped" % n for n in sorted(old) if n not in self.keys]
        if self.send != old_send:
            self.reasons.append("seals with key %s" % old_send)


class Rotation(object):
    """The keys of this node."""

    def __init__(self, module):
        self.module = module
        self.parameters = module.params
        self.path = module.params["path"]
        self.node = Node(module.run_command)
        self.services = Services(self.node)
        self.wanted = {int(n): str(key) for n, key in module.params["keys"].items()}

    def plan(self):
        """Look, and decide; or the end if these keys cannot follow on those."""
        parameters = self.parameters
        deployed = ring.parse(read(self.path) or "")
        if not deployed[0] or deployed[1] is None:
            self.module.fail_json(
                msg="%s has no keys, expected a node that was deployed: run site.yml." % self.path
            )
        for number in sorted(self.wanted):
            if deployed[0].get(number, self.wanted[number]) != self.wanted[number]:
                self.module.fail_json(
                    msg="ha_cluster.keys[%d] is another key than the node has under this id, "
                    "expected a new id for a new key." % number
                )
        plan = Plan(parameters["step"], deployed, self.wanted, parameters["send_key"])
        plan.before = ring.described_text(*deployed)
        if plan.text != read(self.path) and not plan.reasons:
            plan.reasons.append("%s is written otherwise" % self.path)
        old = self.services.outdated({self.path: digest(plan.text)})
        if not plan.reasons and old:
            plan.reasons.append("%s runs with older keys" % ", ".join(sorted(dict(old))))
        recorded = read(RECORD_PATH) or ""
        plan.record = with_keys(recorded, ring.describe(plan.keys, plan.send))
        if not plan.reasons and plan.record != recorded:
            plan.reasons.append("the record of what was deployed has older keys")
        return plan

    def status(self):
        """What the agent says, or the end if it does not answer."""
        found = status(self.node)
        if "keys" not in found.get("health", {}):
            self.module.fail_json(
                msg="The agent of this node does not answer, or is too old to tell of its keys, "
                "expected one of this version: nothing was changed on it."
            )
        return found

    def await_peer(self):
        """Wait until the other node is ready for this step, by its heartbeats."""
        send_key, step = self.parameters["send_key"], self.parameters["step"]

        def ready(found):
            keys = found["health"]["keys"]
            if step == "send":
                return send_key in keys[found["peer"]["node"]]
            return step == "accept" or keys["heard"] == send_key

        found = self.wait(ready)
        if not ready(found):
            verb = "accepts" if step == "send" else "seals with"
            self.module.fail_json(
                msg="The heartbeats of %s do not say that it %s key %d after %d s, expected the "
                "step before on both nodes: nothing was changed on this one."
                % (found["peer"]["node"], verb, send_key, self.parameters["wait_s"])
            )

    def wait(self, holds):
        """Ask the agent until something holds or the time is over; what it said last."""
        deadline = time.monotonic() + self.parameters["wait_s"]
        while True:
            found = self.status()
            if holds(found) or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_S)

    def apply(self, plan):
        """The file, then heart in service, then replication anew; each can be done again."""
        self.await_peer()
        if read(self.path) != plan.text:
            write(self.path, plan.text, MODE)
        self.command([TOOL, "reload"])
        self.command(["systemctl", "restart", SYNC])
        self.services.stamp_again(self.path, digest(plan.text))
        if plan.record:
            write(RECORD_PATH, plan.record, 0o600)
        ids = sorted(plan.keys)

        def done(found):
            keys = found["health"]["keys"]
            taken = keys[found["node"]] == ids and keys["send"] == plan.send
            return taken and found["switchover"]["possible"]

        found = self.wait(done)
        if not done(found):
            self.module.fail_json(
                msg="%s has the keys of this step, and the pair is not in sync %d s after it (%s), "
                "expected it to be: run again."
                % (
                    found["node"],
                    self.parameters["wait_s"],
                    "; ".join(found["switchover"]["reasons"]) or "the agent has other keys",
                )
            )

    def command(self, words):
        """Run a command that must succeed; no key is in its words or its answer."""
        code, out, error = self.module.run_command(words)
        if code != 0:
            self.module.fail_json(
                msg="`%s` failed: %s" % (" ".join(words), " ".join((error or out).split()))
            )


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "keys": {"type": "dict", "required": True, "no_log": True},
            "send_key": {"type": "int", "required": True, "no_log": False},
            "step": {"type": "str", "choices": ["accept", "send", "drop"], "required": True},
            "path": {"type": "path", "default": "/etc/amaranten-ha/keys.toml"},
            "wait_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    rotation = Rotation(module)
    plan = rotation.plan()
    if plan.reasons and not module.check_mode:
        rotation.apply(plan)
        left = rotation.plan().reasons
        if left:
            module.fail_json(
                msg="The keys were changed and are still not as asked, expected nothing left: %s."
                % "; ".join(left)
            )
    module.exit_json(
        changed=bool(plan.reasons),
        reasons=plan.reasons,
        ids=ring.describe(plan.keys, plan.send)["ids"],
        diff={
            "before_header": rotation.path,
            "after_header": rotation.path,
            "before": plan.before,
            "after": ring.described_text(plan.keys, plan.send),
        },
    )


if __name__ == "__main__":
    main()
