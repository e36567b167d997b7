#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The documentation of the action plugin of the same name, which works on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wiring_check
short_description: Whether each interface of the one node is with that of the other
description:
  - Judges what M(amaranten.ha.wire_probe) has observed on both nodes, on the controller and without
    a connection.
  - Fails if a finding has failed. Warnings and what is inconclusive do not fail it.
version_added: 0.2.0
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
  observations:
    description: RV(amaranten.ha.wire_probe#module:wiring) of both nodes, by host.
    type: dict
    required: true
  cluster:
    description: The number of the pair.
    type: int
    required: true
seealso:
  - module: amaranten.ha.wire_probe
"""

EXAMPLES = r"""
- name: Validate the pair
  amaranten.ha.cluster:
  register: found

- name: Speak and listen on every interface
  amaranten.ha.wire_probe:
    run: "0123456789abcdef"
    cluster: "{{ found.pair.id }}"
    node: "{{ found.pair.number }}"
    interfaces: "{{ found.pair.wiring }}"
  register: seen

- name: Judge the wiring
  amaranten.ha.wiring_check:
    cluster: "{{ found.pair.id }}"
    observations: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts
      | map('extract', hostvars, ['seen', 'wiring']))) }}"
  run_once: true
"""

RETURN = r"""
interfaces:
  description:
    - By logical name. C(verdict) is V(same network), V(swapped) (C(with)
      says with which), V(wrong network), V(one-way), V(isolated), V(absent), V(down),
      V(no carrier), V(no Ethernet), V(looped), V(third party), V(leak), V(VLAN tag seen),
      V(filtered) or V(inconclusive).
    - C(nodes) has for each node the device, its hardware address, MTU, speed, duplex,
      driver, the kinds of frames that it hears from the other one, and the largest packet.
  returned: always
  type: dict
  sample: {lan: {verdict: same network, with: [], nodes: {fw-a: {device: enp1s0}}}}
findings:
  description: Everything that is not as it should be, with C(check), C(status), C(verdict),
    C(interfaces), C(nodes), C(text) and C(remedy).
  returned: always
  type: list
  elements: dict
msg:
  description: The findings in sentences.
  returned: always
  type: raw
"""

from ansible.module_utils.basic import AnsibleModule


def main():
    """Only reached if the action plugin was bypassed."""
    module = AnsibleModule(
        argument_spec={
            "observations": {"type": "dict", "required": True},
            "cluster": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="amaranten.ha.wiring_check works on the controller, as an action plugin.")


if __name__ == "__main__":
    main()
