#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what preflight compares between the two nodes; it judges nothing and changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: What a node can do and how large it is, before anything is installed on it
description:
  - Reads versions, capacity, free space, software that stands in the way, the path of the
    controller's own session, and the neighbours in the node's tables.
  - Tries in an empty network namespace of its own whether the kernel takes the parts of the gate.
  - Needs nothing installed but Python and iproute2.
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
options:
  devices:
    description: Logical name to the device of this node.
    type: dict
    required: true
seealso:
  - module: amaranten.ha.preflight
"""

EXAMPLES = r"""
- name: Look at what a node can do
  amaranten.ha.preflight_info:
    devices: {lan: enp1s0, sync: enp4s0}
  register: able

- name: Show which neighbours it knows on lan
  ansible.builtin.debug:
    var: able.preflight.neighbours.lan
"""

RETURN = r"""
preflight:
  description: The node as preflight wants it.
  returned: always
  type: dict
  contains:
    features:
      description: Each kernel feature to nothing, or to the name of the error that it met.
      type: dict
    versions:
      description: Versions of C(kernel), C(python), C(nftables), C(conntrack), C(agent).
      type: dict
    capacity:
      description: C(cpus), C(memory_mb), and C(conntrack_max), 0 if not known yet.
      type: dict
    free_mb:
      description: Free space by directory, in MB.
      type: dict
    units:
      description: Software that stands in the way, with C(active) and C(enabled).
      type: dict
    neighbours:
      description: Addresses in the node's neighbour tables, by logical name.
      type: dict
    connection:
      description: C(address) at which the controller came in, C(client), its own, and the C(device)
        of the way back.
      type: dict
"""

import json
import os
import platform

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read
from ansible_collections.amaranten.ha.plugins.module_utils._kernel_trial import features
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node, connection_address

CURRENT = "/usr/lib/amaranten-ha/current"
CONNTRACK_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"
UFW_CONF = "/etc/ufw/ufw.conf"
UNITS = ("keepalived", "conntrackd", "firewalld", "ufw")
DIRECTORIES = ("/usr/lib", "/var/lib", "/etc")
NEIGHBOURS_MAX = 64


def units(node):
    """Software that wants the same addresses or the same rules as we do."""
    names = [name + ".service" for name in UNITS]
    out = node.output(
        ["systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState"] + names
    )
    found = {}
    for block in out.split("\n\n"):
        shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if shown.get("LoadState") == "loaded":
            found[shown["Id"].partition(".")[0]] = {
                "active": shown.get("ActiveState") in ("active", "activating", "reloading"),
                "enabled": shown.get("UnitFileState") == "enabled",
            }
    # Its unit is active also where it was never switched on.
    if "ufw" in found and "ENABLED=yes" not in (read(UFW_CONF) or ""):
        del found["ufw"]
    return found


def neighbours(node, devices):
    """Addresses in the neighbour tables, also those that did not answer last time."""
    names = {device: name for name, device in devices.items()}
    found = {name: [] for name in devices}
    for family in ("-4", "-6"):
        listed = json.loads(node.output(["ip", family, "-j", "neighbour", "show"]) or "[]")
        for item in listed:
            name = names.get(item.get("dev"))
            if name is None or "NOARP" in item.get("state", []) or "proxy" in item:
                continue
            if not item["dst"].lower().startswith("ff") and len(found[name]) < NEIGHBOURS_MAX:
                found[name].append(item["dst"])
    return found


def connection(node):
    """How the controller came in, and the way back to it."""
    address = connection_address()
    client = client_address()
    device = ""
    if client:
        listed = json.loads(node.output(["ip", "-j", "route", "get", client]) or "[]")
        device = listed[0].get("dev", "") if listed else ""
    return {"address": address, "client": client, "device": device}


def client_address():
    """The controller's address as SSH on this machine sees it, or nothing."""
    words = (os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_CLIENT") or "").split()
    return words[0] if words else ""


def memory_mb():
    """All the memory of the machine."""
    for line in (read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def free_mb(path):
    """Space that root may still fill."""
    found = os.statvfs(path)
    return found.f_bfree * found.f_frsize // 1000000


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={"devices": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    node = Node(module.run_command)
    found, why = features()
    agent = os.path.basename(os.readlink(CURRENT)) if os.path.islink(CURRENT) else ""
    versions = node.packages(["nftables", "conntrack"])
    versions.update(kernel=platform.release(), python=platform.python_version(), agent=agent)
    versions["system"] = " ".join(node.distribution()[key] for key in ("id", "version"))
    module.exit_json(
        changed=False,
        preflight={
            "features": found,
            "features_unknown": why,
            "versions": versions,
            "capacity": {
                "cpus": len(os.sched_getaffinity(0)),
                "memory_mb": memory_mb(),
                "conntrack_max": int(read(CONNTRACK_MAX) or 0),
            },
            "free_mb": {path: free_mb(path) for path in DIRECTORIES},
            "units": units(node),
            "neighbours": neighbours(node, module.params["devices"]),
            "connection": connection(node),
        },
    )


if __name__ == "__main__":
    main()
