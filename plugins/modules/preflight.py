#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: One table about two nodes before anything is installed on them
description:
  - Judges what was found on both nodes, shows one row for each check, and fails if one has failed.
    Warnings do not fail it, and neither does what could not be found out, unless O(strict) is set.
  - Works on the controller and without a connection, in check mode too.
version_added: 0.2.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: Writes its reports in check mode too.
  diff_mode:
    support: none
    details: Changes nothing on a node.
  pair:
    support: full
options:
  nodes:
    description: RV(amaranten.ha.preflight_info#module:preflight) of the nodes, by host.
    type: dict
    default: {}
  found:
    description: RV(amaranten.ha.node_info#module:node) of the nodes, by host.
    type: dict
    default: {}
  observations:
    description: RV(amaranten.ha.wire_probe#module:wiring) of the nodes, by host.
    type: dict
    default: {}
  skip:
    description: Names of checks to leave out. Each is in the table as skipped.
    type: list
    elements: str
    default: []
  report:
    description: A directory of the controller for C(preflight.json) and C(preflight.xml) (JUnit).
    type: str
    default: ""
  strict:
    description: Whether warnings and inconclusive checks fail it as well.
    type: bool
    default: false
seealso:
  - module: amaranten.ha.wire_probe
  - module: amaranten.ha.preflight_info
"""

EXAMPLES = r"""
- name: Say what is known if nothing was looked at
  amaranten.ha.preflight:
    skip: [wiring]
  run_once: true
"""

RETURN = r"""
checks:
  description: V(ok), V(warning), V(failed), V(inconclusive) or V(skipped), by name of the check.
  returned: always
  type: dict
  sample: {wiring: ok, capacity: warning}
findings:
  description: Everything that is not as it should be; see M(amaranten.ha.wiring_check).
  returned: always
  type: list
  elements: dict
interfaces:
  description: The verdict on each interface; see M(amaranten.ha.wiring_check).
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "dict", "default": {}},
            "found": {"type": "dict", "default": {}},
            "observations": {"type": "dict", "default": {}},
            "skip": {"type": "list", "elements": "str", "default": []},
            "report": {"type": "str", "default": ""},
            "strict": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.preflight works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
