#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verdict
short_description: How the pair is, in one line
description:
  - Looks at what both nodes say, on the controller and without a connection, and says in one line
    who is active and whether the other one would take over.
  - Fails unless exactly one node is active and the other one passive. In check mode it only says
    so.
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
  states:
    description: What M(amaranten.ha.pair_info) returned, by host; of one host if the play is
      limited.
    type: dict
    required: true
seealso:
  - module: amaranten.ha.pair_info
"""

EXAMPLES = r"""
- name: Ask the node
  amaranten.ha.pair_info:
  register: state

- name: Say how the pair is
  amaranten.ha.verdict:
    states: "{{ {inventory_hostname: state} }}"
"""

RETURN = r"""
msg:
  description: The line.
  returned: always
  type: str
  sample: "edge: fw-a is active, fw-b is passive and would take over now."
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={"states": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    module.fail_json(msg="amaranten.ha.verdict works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
