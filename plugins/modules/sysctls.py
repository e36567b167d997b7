#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kernel parameters, in a file for the next boot and in the kernel now.

The role enters with all parameters at once.  The file and the running kernel are compared and
mended each for itself, so that a run that died between the two is finished by the next.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctls
short_description: Kernel parameters for now and for the next boot
description:
  - Writes one file with all parameters and sets those in the running kernel that differ.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  values:
    description: Parameter, with slashes, to its value, as in V(net/ipv4/conf/enp1s0.10/rp_filter).
    type: dict
    required: true
  path:
    description: The file, which is written as a whole.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Record events of connections from the first one on
  amaranten.ha.sysctls:
    path: /etc/sysctl.d/99-zz-example.conf
    values:
      net/netfilter/nf_conntrack_events: 1
"""

RETURN = r"""
set:
  description: Parameters that were set in the running kernel, or would be.
  returned: always
  type: list
  elements: str
  sample: [net/netfilter/nf_conntrack_events]
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write

CONNTRACK = "net/netfilter/nf_conntrack_"


def live(name):
    """The value in the kernel, or None."""
    text = read(os.path.join("/proc/sys", name))
    return None if text is None else " ".join(text.split())


def listing(values):
    """Values for a diff."""
    return "".join("%s = %s\n" % (name, values[name]) for name in sorted(values))


def put(module, name, value):
    """Set a value in the kernel."""
    path = os.path.join("/proc/sys", name)
    if not os.path.exists(path) and name.startswith(CONNTRACK):
        modprobe = module.get_bin_path("modprobe")
        if modprobe:
            module.run_command([modprobe, "nf_conntrack"])
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value + "\n")
    except OSError as error:
        module.fail_json(
            msg="The kernel parameter %s cannot be set to %s, expected a kernel that has it and "
            "lets it be set: %s." % (name, value, error.strerror)
        )


def plan(values, now):
    """Names of the parameters that the kernel has otherwise."""
    return sorted(name for name, value in values.items() if now[name] != value)


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "values": {"type": "dict", "required": True},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    values = {name: str(value) for name, value in module.params["values"].items()}
    now = {name: live(name) for name in values}
    different = plan(values, now)
    text = "# Written by Ansible: change it there.\n" + listing(values)
    old_text = read(path)
    if not module.check_mode:
        if old_text != text:
            write(path, text, 0o644)
        for name in different:
            put(module, name, values[name])
        left = plan(values, {name: live(name) for name in values})
        if left or read(path) != text:
            module.fail_json(
                msg="The kernel did not keep %s, expected values that it takes as they are."
                % ", ".join("%s = %s (it has %s)" % (n, values[n], live(n)) for n in left)
            )
    absent = {name: "(absent)" if now[name] is None else now[name] for name in different}
    module.exit_json(
        changed=bool(different) or old_text != text,
        set=different,
        diff=[
            {"before_header": path, "after_header": path, "before": old_text or "", "after": text},
            {
                "before_header": "kernel",
                "after_header": "kernel",
                "before": listing(absent),
                "after": listing({name: values[name] for name in different}),
            },
        ],
    )


if __name__ == "__main__":
    main()
