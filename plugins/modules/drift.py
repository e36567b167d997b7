#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: The verdict of the drift check
description:
  - Compares what M(amaranten.ha.node_info) observed on the nodes with the inventory, and the nodes
    of each pair with each other. Each difference has a class, a diff and the command that mends it.
  - Works on the controller, once for all pairs of the play. Prints the report itself, and fails if
    there is a difference that C(drift_allowed) does not allow, so that the play ends with exit
    code 2.
  - C(drift_allowed), a variable of the inventory, is a list of dicts with C(path), in which C(*)
    stands for anything, C(reason), and perhaps C(class).
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing; the differences are in the report.
  pair:
    support: full
options:
  observed:
    description: The variable in which the result of M(amaranten.ha.node_info) was registered on
      each host.
    type: str
    default: drift_observed
  pair:
    description: The variable in which the result of M(amaranten.ha.cluster) was registered on each
      host.
    type: str
    default: firewall_pair
  report:
    description: A directory of the controller for C(drift.json) and C(drift.xml), which is JUnit.
    type: path
  require_both:
    description: Fail if a node could not be reached.
    type: bool
    default: false
notes:
  - The classes and the paths are described in C(docs/drift.md).
seealso:
  - module: amaranten.ha.node_info
  - module: amaranten.ha.cluster
"""

EXAMPLES = r"""
- name: Read the pair
  ansible.builtin.import_role:
    name: amaranten.ha.firewall
    tasks_from: pair

- name: Look at the nodes
  ansible.builtin.import_role:
    name: amaranten.ha.agent
    tasks_from: observe

- name: Say what drifted
  amaranten.ha.drift:
    report: /var/log/firewalls
  run_once: true
"""

RETURN = r"""
msg:
  description: Everything in one line, fit for a chat message.
  returned: always
  type: str
  sample: "edge: DRIFT (1 runtime, 1 one-sided), 817 values compared on fw-a and fw-b"
lines:
  description: The line of each pair by its name.
  returned: always
  type: dict
  sample: {edge: "edge: no drift, 817 values compared on fw-a and fw-b"}
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "observed": {"type": "str", "default": "drift_observed"},
            "pair": {"type": "str", "default": "firewall_pair"},
            "report": {"type": "path"},
            "require_both": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.drift works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
