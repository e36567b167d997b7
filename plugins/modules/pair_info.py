#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node says of itself and of its peer, after waiting for it to settle if asked to."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pair_info
short_description: What a node says of itself and of its peer
description:
  - Asks the agent of a node for its status, the same as C(amaranten-ha status --json).
  - Waits, if asked to, until the node has a role, its peer has the other one, and would take over.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing.
options:
  wait_s:
    description: Seconds to wait at most.
    type: int
    default: 0
  peer_expected:
    description: Whether the peer is expected to be there as well.
    type: bool
    default: true
  path:
    description: Whether the node tests the way of a packet through it, as C(amaranten-ha check
      --path) does.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Ask the node
  amaranten.ha.pair_info:
  register: state

- name: Show whether the spare would take over now
  ansible.builtin.debug:
    msg: "{{ state.status.ready | default(false) }}"
"""

RETURN = r"""
status:
  description: What the agent says; empty if there is none that answers.
  returned: always
  type: dict
  sample: {node: fw-a, role: active, ready: true, peer: {node: fw-b, role: passive, state: alive}}
release:
  description: The version that is the current one on the node, empty if there is none; and the
    services that were started with another one.
  returned: always
  type: dict
  sample: {name: 0.1.0-0123456789ab, outdated: []}
path:
  description: The way of a packet, with C(code), C(state) and C(text); empty if it was not tested.
  returned: always
  type: dict
  sample: {code: 0, state: OK, text: "fw-b passive, 12 ways, 1 next hops"}
settled:
  description: Whether the node has a role, and its peer the other one if it is expected.
  returned: always
  type: bool
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._agent import (
    CURRENT,
    TOOL,
    Services,
    digest,
    status,
)
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

POLL_S = 0.25


def settled(found, peer_expected):
    """Whether the node has a role, and its peer the other one."""
    role, peer = found.get("role"), found.get("peer", {})
    if role not in ("active", "passive"):
        return False
    if not peer_expected:
        return True
    return peer.get("state") == "alive" and {role, peer.get("role")} == {"active", "passive"}


def release(node):
    """The current version's name, and which services run with another."""
    name = os.path.basename(os.readlink(CURRENT)) if os.path.islink(CURRENT) else ""
    outdated = Services(node).outdated({CURRENT: digest(name)}) if name else []
    return {"name": name, "outdated": sorted(dict(outdated))}


def way(node):
    """What the node says of the way of a packet; empty if its agent knows no such test."""
    answer = node.answer([TOOL, "check", "--path", "--json"])
    try:
        return json.loads(answer)
    except ValueError:
        return {}


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "wait_s": {"type": "int", "default": 0},
            "peer_expected": {"type": "bool", "default": True},
            "path": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    expected = module.params["peer_expected"]
    node = Node(module.run_command)
    deadline = time.monotonic() + module.params["wait_s"]
    while True:
        found = status(node)
        well = settled(found, expected) and (found.get("ready", False) or not expected)
        if well or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    module.exit_json(
        changed=False,
        status=found,
        settled=settled(found, expected),
        release=release(node),
        path=way(node) if module.params["path"] and found else {},
    )


if __name__ == "__main__":
    main()
