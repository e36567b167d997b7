#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: admission
short_description: Whether a change of a running pair may begin
description:
  - Looks at what both nodes say, on the controller and without a connection, and says who is active
    and who passive.
  - Fails with every reason unless exactly one node is active and the other one passive and, if
    O(in_sync), the active one could hand over to it without a loss. Changes nothing.
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
  pair:
    support: full
options:
  nodes:
    description: Both nodes of the pair, as M(amaranten.ha.cluster) returns them.
    type: list
    elements: str
    required: true
  states:
    description: What M(amaranten.ha.pair_info) returned, by host. Both nodes must be there.
    type: dict
    required: true
  in_sync:
    description: Whether the passive node must be one to which the active one could hand over now.
    type: bool
    default: true
  wanted:
    description: The node that is to be the active one. If it is already, O(in_sync) is not needed.
    type: str
seealso:
  - module: amaranten.ha.pair_info
  - module: amaranten.ha.node_role
"""

EXAMPLES = r"""
- name: Ask the node
  amaranten.ha.pair_info:
  register: state

- name: Refuse unless the pair may be changed
  amaranten.ha.admission:
    nodes: [fw-a, fw-b]
    states: "{{ {'fw-a': hostvars['fw-a'].state, 'fw-b': hostvars['fw-b'].state} }}"
  register: admitted
"""

RETURN = r"""
active:
  description: The active node.
  returned: success
  type: str
  sample: fw-a
passive:
  description: The passive node.
  returned: success
  type: str
  sample: fw-b
order:
  description: Both, in the order of a change. Whoever is active comes last.
  returned: success
  type: list
  elements: str
  sample: [fw-b, fw-a]
reasons:
  description: Why nothing may begin.
  returned: failure
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "states": {"type": "dict", "required": True},
            "in_sync": {"type": "bool", "default": True},
            "wanted": {"type": "str"},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.admission works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
