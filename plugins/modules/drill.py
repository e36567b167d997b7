#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill
short_description: A failover or switchover on purpose, under measured traffic
description:
  - Causes one fault, or several one after the other, on a pair that is ready, and measures what
    traffic between vantage hosts went through. Undoes the fault, waits until the pair is whole,
    hands the active role back, and judges the figures by a budget.
  - Runs on the controller, once for the pair, over SSH sessions of its own. It reaches nodes and
    vantage hosts by the variables that the inventory has for Ansible's SSH connection; a host with
    C(ansible_connection=local) is this machine.
  - Each fault that lasts is undone by a timer on the node, armed before the fault, so that it ends
    also if the controller dies. The power of a node comes back by a process of its own on the
    controller.
  - One drill of a pair at a time. A second one is refused, and so is a pair that is not ready.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: Says the plan and whether the pair is ready, and breaks nothing.
  diff_mode:
    support: none
    details: Leaves no change behind.
  pair:
    support: full
  disruptive:
    support: full
    details: That is its purpose.
options:
  drill:
    description:
      - V(switchover) asks the active node to hand over.
      - V(crash) kills the heart of the active node, V(hang) stops it for a while.
      - V(power) cuts the power of the active node by C(ha_power_off_command) of the inventory and
        gives it back by C(ha_power_on_command), both run on the controller; without them the node
        is reset by sysrq, which is refused in a container.
      - V(link) takes an interface of the active node down for a while. No role is expected to move.
      - V(isolate) lets the nodes not hear each other, so that both become active for a while.
      - V(sync_cut) cuts replication, not heartbeats.
      - V(all) runs all of them; those that need a confirmation only if they have it.
    type: str
    required: true
  interfaces:
    description: Logical names of the pair's service interfaces; the first is the one of V(link).
    type: list
    elements: str
    required: true
  own_addresses:
    description: What the nodes say from these addresses is their own speech, not forwarded traffic.
    type: list
    elements: str
    default: []
  interface:
    description: Another interface for V(link).
    type: str
  seconds:
    description: How long the fault lasts, 1 to 60. Each drill has a time of its own by default.
    type: float
  budget:
    description:
      - Limits that fail the task, V(silence_ms), V(lost), V(connections_lost), V(dual_active_ms),
        over those that each drill has by default.
    type: dict
    default: {}
  flows:
    description:
      - The traffic. By default every vantage host with C(vantage_side=client) talks to all
        C(vantage_addresses) of every one with C(vantage_side=server).
      - Each flow has C(kind) (V(udp), V(tcp), V(bulk), V(connects)), C(from) and C(to) (vantage
        hosts), C(address) and C(port) to send to, C(to_port) where the echo listens, C(name),
        C(rate) per second and the number of C(connections).
    type: list
    elements: dict
  confirmed:
    description: Confirmations given, V(drill_confirm_power) and V(drill_confirm_isolate).
    type: list
    elements: str
    default: []
  restore:
    description: Hand the active role back to the node that had it.
    type: bool
    default: true
  report:
    description: Directory for C(report.html), C(report.json) and C(report.xml).
    type: path
  history:
    description: Directory where each run leaves its figures, and finds those of earlier runs.
    type: path
  python:
    description: Python on nodes and vantage hosts, 3.9 or newer.
    type: str
    default: python3
notes:
  - Needs paramiko and jinja2 on the controller.
  - Vantage hosts need Python and nothing else. As root they also watch the wire for packets of both
    nodes.
seealso:
  - module: amaranten.ha.pair_info
"""

EXAMPLES = r"""
- name: Hand over, and demand that nothing is lost
  amaranten.ha.drill:
    drill: switchover
    interfaces: [lan, wan]
    budget: {silence_ms: 20, lost: 0}
    report: /var/tmp/drill

- name: Pull the plug of the active node
  amaranten.ha.drill:
    drill: power
    interfaces: [lan, wan]
    confirmed: [drill_confirm_power]
    flows:
      - {name: nat, kind: udp, from: client, to: server, address: 198.51.100.100}
      - {name: ssh-like, kind: tcp, from: client, to: server, address: 198.51.100.100}
"""

RETURN = r"""
drills:
  description: The figures and checks of each drill; C(report.json) has all of it.
  returned: when something was drilled
  type: list
  elements: dict
plan:
  description: What would be done, a line each.
  returned: in check mode
  type: list
  elements: str
ready:
  description: Whether the pair is ready for a drill.
  returned: in check mode
  type: bool
reasons:
  description: Every reason why it is not.
  returned: in check mode
  type: list
  elements: str
paths:
  description: The files of the report.
  returned: when something was drilled
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "drill": {"type": "str", "required": True},
            "interfaces": {"type": "list", "elements": "str", "required": True},
            "own_addresses": {"type": "list", "elements": "str", "default": []},
            "interface": {"type": "str"},
            "seconds": {"type": "float"},
            "budget": {"type": "dict", "default": {}},
            "flows": {"type": "list", "elements": "dict"},
            "confirmed": {"type": "list", "elements": "str", "default": []},
            "restore": {"type": "bool", "default": True},
            "report": {"type": "path"},
            "history": {"type": "path"},
            "python": {"type": "str", "default": "python3"},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.drill works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
