#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: migration
short_description: A proposed C(ha_cluster) for a pair with keepalived and conntrackd
description:
  - Makes an C(ha_cluster) of what M(amaranten.ha.migration_info) read on the two nodes, and says
    line by line what cannot be carried over. Prints both.
  - The proposal is to be read and finished by a person.
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
  found:
    description: Host to the result of M(amaranten.ha.migration_info).
    type: dict
    required: true
seealso:
  - module: amaranten.ha.migration_info
"""

EXAMPLES = r"""
- name: Read what keepalived and conntrackd are told
  amaranten.ha.migration_info:
  register: migration_found

- name: Propose a pair
  amaranten.ha.migration:
    found: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts
      | map('extract', hostvars, 'migration_found'))) }}
  run_once: true
"""

RETURN = r"""
ha_cluster:
  description: The proposal.
  returned: success
  type: dict
notes:
  description: What cannot be carried over, with host, file and line.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={"found": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    module.fail_json(msg="amaranten.ha.migration works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
