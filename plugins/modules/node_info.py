#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what a node has, before anything is changed on it and ever after.

The roles enter here first; what is found is judged on the controller by the action plugin
`cluster`. With the roles' input it also says how the node looks in the shape of that input, for the
drift check. It needs nothing installed but Python and iproute2, and changes nothing.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: What a node has, as facts and in the shape of the roles' own input
description:
  - Reads devices, who manages them, units and packages of a node.
  - The result is judged by M(amaranten.ha.cluster) on the controller.
  - With O(intent) it exports the node in the shape of what the roles ask for, once as the disk has
    it and once as the kernel and systemd have it. After a deployment the exports equal the input.
  - The wanted ruleset is loaded in a network namespace that lives as long as the command, to learn
    how this kernel lists it. The node's own tables are only read.
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
  packages:
    description: Packages whose installed versions are wanted.
    type: list
    elements: str
    default: []
  intent:
    description:
      - The roles' input for this node, as C(agent_intent) of the role P(amaranten.ha.agent#role)
        has it. C(packages), C(sysctls), C(sysctl_path), C(networks), C(interfaces), C(dns),
        C(units), C(masked), C(files), C(ruleset), C(key_ring) with hashes only, and C(release).
      - Without it nothing is exported.
    type: dict
  asked_at:
    description: The controller's clock, in seconds since 1970, to which that of the node is
      compared.
    type: float
seealso:
  - module: amaranten.ha.cluster
  - module: amaranten.ha.drift
"""

EXAMPLES = r"""
- name: Look at the node
  amaranten.ha.node_info:
    packages: [nftables, conntrack]
  register: found

- name: Show what manages its devices
  ansible.builtin.debug:
    msg: "{{ found.node.devices | dict2items | map(attribute='value.manager') }}"

- name: Export the node as the roles would have it, in a play with the role amaranten.ha.agent
  amaranten.ha.node_info:
    intent: "{{ agent_intent }}"
  register: exported
"""

RETURN = r"""
node:
  description: The node as it is.
  returned: always
  type: dict
  contains:
    distribution:
      description: C(ID), C(VERSION_ID) and C(VERSION_CODENAME) of the node's system.
      type: dict
      sample: {id: debian, version: "12", codename: bookworm}
    architecture:
      description: The architecture as the package manager names it.
      type: str
      sample: amd64
    systemd:
      description: Whether systemd runs the node.
      type: bool
    devices:
      description: Network devices by name, with C(mac), C(addresses), C(manager), C(manager_file)
        and C(dynamic).
      type: dict
    connection_address:
      description: The node's address that the controller's connection uses, if it can be told.
      type: str
    packages:
      description: Installed versions, empty for a package that is not installed.
      type: dict
    nftables_unit:
      description: State of Debian's own nftables unit, and the tables that its file declares.
      type: dict
    resolv_conf_is_link:
      description: Whether another program writes the resolver's file.
      type: bool
    role:
      description: The role that the deployed agent says it has, empty if there is none that
        answers.
      type: str
      sample: passive
    agent:
      description: What the deployed agent says of the pair. The C(state) of its C(peer), and the
        fingerprint of the C(ruleset) that the peer's heartbeats say.
      type: dict
      sample: {peer: {state: alive, ruleset: 0f3c9a4417c2b6de}}
    timers:
      description: The timers of the running agent, in milliseconds; empty if there is none.
      type: dict
      sample: {beat_ms: 40, dead_ms: 250, lease_ms: 320}
    margin:
      description: What the running agent has measured, as in its status.
      type: dict
    key_ring:
      description: Key ids of the deployed agent with a hash of each, and the one it sends with.
      type: dict
      sample: {ids: {"1": 9f86d081}, send_key: 1}
wanted:
  description: O(intent) as one document. C(packages), C(sysctls), C(interfaces), C(units),
    C(files), C(keys) as hashes, C(release).
  returned: with O(intent)
  type: dict
interfaces:
  description: The C(interfaces) of O(intent).
  returned: with O(intent)
  type: dict
sysctl_path:
  description: The C(sysctl_path) of O(intent).
  returned: with O(intent)
  type: str
disk:
  description: The same, as the files of the node have it; empty where no file says anything.
  returned: with O(intent)
  type: dict
live:
  description: The same, as the kernel, systemd and the package manager have it.
  returned: with O(intent)
  type: dict
ruleset:
  description: C(wanted), C(disk) and C(live), each with its C(tables) as the node's kernel lists
    them, and the C(problem) if there are none.
  returned: with O(intent)
  type: dict
facts:
  description: What no input speaks of, for a comparison of the two nodes.
  returned: with O(intent)
  type: dict
"""

import fcntl
import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read
from ansible_collections.amaranten.ha.plugins.module_utils._keys import describe, parse
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node, connection_address
from ansible_collections.amaranten.ha.plugins.module_utils._observe import Observation
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText

NFTABLES_CONF = "/etc/nftables.conf"
TOOL = "/usr/sbin/amaranten-ha"
DRILL_LOCK = "/run/amaranten-ha-drill.lock"
KEYS_TOML = "/etc/amaranten-ha/keys.toml"


def nftables_unit(node):
    """Debian's own way of loading a ruleset, which flushes everything."""
    unit = node.unit("nftables.service")
    text = read(NFTABLES_CONF)
    return {
        "load": unit["LoadState"],
        "enabled": unit["UnitFileState"],
        "active": unit["ActiveState"] == "active",
        "tables": RulesetText(text).tables if text else [],
    }


def agent_status(node):
    """What the deployed agent says, or nothing."""
    try:
        return json.loads(node.output([TOOL, "status", "--json"]) or "{}")
    except ValueError:
        return {}


def drill_under_way():
    """Who drills this pair now, in the words of the lock's holder, or nothing."""
    try:
        with open(DRILL_LOCK, encoding="utf-8", errors="replace") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(200).strip() or "of unknown origin"
    except OSError:  # there never was one since the node started
        pass
    return ""


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "default": []},
            "intent": {"type": "dict"},
            "asked_at": {"type": "float"},
        },
        supports_check_mode=True,
    )
    node = Node(module.run_command)
    links = node.links()
    status = agent_status(node)
    found = {
        "distribution": node.distribution(),
        "architecture": node.output(["dpkg", "--print-architecture"]).strip(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "devices": {name: node.device(name, link) for name, link in links.items()},
        "connection_address": connection_address(),
        "packages": node.packages(module.params["packages"]),
        "nftables_unit": nftables_unit(node),
        "resolv_conf_is_link": os.path.islink("/etc/resolv.conf"),
        "role": status.get("role", ""),
        "agent": {
            "peer": {
                "state": status.get("peer", {}).get("state", "unknown"),
                "ruleset": status.get("peer", {}).get("digests", {}).get("ruleset", ""),
            },
        },
        "timers": status.get("timers", {}),
        "drill": drill_under_way(),
        "margin": status.get("margin", {}),
        "key_ring": describe(*parse(read(KEYS_TOML) or "")),
    }
    result = {"node": found}
    if module.params["intent"]:
        observation = Observation(module, node, module.params["intent"], module.params["asked_at"])
        result.update(observation.result())
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
