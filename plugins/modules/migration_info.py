#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the configuration of keepalived and conntrackd on a node; changes nothing.

The action plugin `migration` makes a proposal of what both nodes said.  Passwords are left out.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_info
short_description: What keepalived and conntrackd are told on a node
description:
  - Reads C(keepalived.conf), with the files that it includes, and C(conntrackd.conf), and the
    addresses of the node's devices. Passwords are replaced.
  - M(amaranten.ha.migration) makes a proposed C(ha_cluster) of it.
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
  keepalived:
    description: The file of keepalived.
    type: path
    default: /etc/keepalived/keepalived.conf
  conntrackd:
    description: The file of conntrackd.
    type: path
    default: /etc/conntrackd/conntrackd.conf
seealso:
  - module: amaranten.ha.migration
"""

EXAMPLES = r"""
- name: Read what keepalived and conntrackd are told
  amaranten.ha.migration_info:
  register: migration_found
"""

RETURN = r"""
keepalived:
  description: The text, without passwords; empty if there is no file.
  returned: always
  type: str
conntrackd:
  description: The text; empty if there is no file.
  returned: always
  type: str
addresses:
  description: Device name to its addresses with prefixes, link-local ones left out.
  returned: always
  type: dict
  sample: {enp1s0: [10.20.1.2/24]}
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node, addresses

DEPTH_MAX = 5
PASSWORD = re.compile(r"(?m)^(\s*(?:auth_pass|auth_md5\S*|password)\s+).*$")


def whole(path, depth=0):
    """A file's text with what it includes in the place of the line; a deep chain is left as is."""
    lines = []
    for line in (read(path) or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "include" and depth < DEPTH_MAX:
            pattern = os.path.join(os.path.dirname(path), words[1])
            found = [whole(each, depth + 1) for each in sorted(glob.glob(pattern))]
            lines += found or [line]
        else:
            lines.append(line)
    return "\n".join(lines)


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "keepalived": {"type": "path", "default": "/etc/keepalived/keepalived.conf"},
            "conntrackd": {"type": "path", "default": "/etc/conntrackd/conntrackd.conf"},
        },
        supports_check_mode=True,
    )
    links = Node(module.run_command).links()
    module.exit_json(
        changed=False,
        keepalived=PASSWORD.sub(r"\1(left out)", whole(module.params["keepalived"])),
        conntrackd=read(module.params["conntrackd"]) or "",
        addresses={name: addresses(link) for name, link in links.items() if name != "lo"},
    )


if __name__ == "__main__":
    main()
