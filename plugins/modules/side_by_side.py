#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: side_by_side
short_description: Both nodes of each pair side by side, on the terminal
description:
  - Prints what both nodes of each pair of the play say of themselves, and every reason why a spare
    would not take over now.
  - Fails unless each pair has an active node and a passive one that would take over now. A node
    that was not reached has an empty column. Changes nothing.
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
  state:
    description: The variable in which the result of M(amaranten.ha.pair_info) was registered.
    type: str
    default: pair_state
  pair:
    description: The variable in which the result of M(amaranten.ha.cluster) was registered.
    type: str
    default: firewall_pair
seealso:
  - module: amaranten.ha.pair_info
"""

EXAMPLES = r"""
- name: Read the pair
  amaranten.ha.cluster:
  register: firewall_pair

- name: Ask the node
  amaranten.ha.pair_info:
  register: pair_state

- name: Show the pair
  amaranten.ha.side_by_side:
  run_once: true
"""

RETURN = r"""
ready:
  description: Whether the spare of every pair would take over now.
  returned: always
  type: bool
msg:
  description: A line for each pair.
  returned: always
  type: str
  sample: "edge: fw-a is active, fw-b is passive; the spare would take over now"
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "pair_state"},
            "pair": {"type": "str", "default": "firewall_pair"},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.side_by_side works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
