#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster
short_description: Validate and normalise the pair before anything is touched
description:
  - Looks at the group C(firewalls) and at the variable C(ha_cluster) of its two hosts, on the
    controller and without a connection, and fails with one sentence for everything that is wrong
    with them. Each names the variable, its value and what was expected; a key is named by its id.
  - Renders the template of the ruleset for both nodes, and refuses C(flush ruleset), C(include),
    changes of tables that it does not declare, and C(masquerade) on an interface with a shared
    address.
  - Always looks at the whole pair, also if the play is limited to one node.
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
    description:
      - What M(amaranten.ha.node_info) found, by host. Without it only the inventory is judged.
    type: dict
    default: {}
  force_timers:
    description:
      - Let timers become shorter than what the running agents have measured allows.
    type: bool
    default: false
notes:
  - C(ha_cluster) is described in C(docs/deploy.md), the ruleset in C(docs/ruleset.md).
seealso:
  - module: amaranten.ha.node_info
  - module: amaranten.ha.ruleset
"""

EXAMPLES = r"""
- name: Validate the pair
  amaranten.ha.cluster:
  register: pair

- name: Look at the nodes
  amaranten.ha.node_info:
  register: found

- name: Judge what was found before anything is changed
  amaranten.ha.cluster:
    nodes: "{{ {inventory_hostname: found.node} }}"

- name: Show the ruleset of this node
  ansible.builtin.debug:
    var: pair.ruleset
"""

RETURN = r"""
pair:
  description: The normalised pair, seen from the node of the task; without keys.
  returned: success
  type: dict
  sample: {id: 7, name: edge, primary: fw-a, backup: fw-b, node: fw-a, peer: fw-b}
ruleset:
  description: The rendered ruleset of the node with its defines. Absent on a host that is no node.
  returned: success
  type: str
order:
  description: The hosts of O(nodes) in the order in which they are changed, the active node last.
  returned: success
  type: list
  elements: str
  sample: [fw-b, fw-a]
ruleset_digest:
  description: The fingerprint of the rulesets of both nodes, the same on both. Absent on a host
    that is no node.
  returned: success
  type: str
  sample: 0f3c9a4417c2b6de
together:
  description: Whether O(nodes) are both nodes, one active and one passive, and each hears from the
    other's heartbeats which ruleset it has.
  returned: success
  type: bool
ruleset_template:
  description: The template's file on the controller. Absent on a host that is no node.
  returned: success
  type: str
  sample: /srv/firewall/templates/edge.nft.j2
digests_toml:
  description: The fingerprints of the configuration and of the rulesets of both nodes, the same on
    both. Absent on a host that is no node.
  returned: success
  type: str
key_ring:
  description: Key ids with a hash of each key, and the id that is sent with. Absent on a host that
    is no node.
  returned: success
  type: dict
  sample: {ids: {"1": 9f86d081884c}, send_key: 1}
agent_toml:
  description: The agent's configuration of the node, without keys. Absent on a host that is no
    node.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "dict", "default": {}},
            "force_timers": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.cluster works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
