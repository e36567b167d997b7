# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Many pairs in one file: the groups that the playbooks and `--limit` work with.

Ansible enters with the file.  Whether the file is a list of pairs is judged in `_pair_list`; what a
pair's `ha_cluster` says is judged by M(amaranten.ha.cluster), when its variables are known.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: pairs
short_description: Pairs of firewalls from one file
description:
  - Makes the hosts and groups of many pairs from one file whose name ends in C(pairs.yml) or
    C(pairs.yaml), so that what they have in common is written once.
  - Each pair is a group C(pair_NAME) of two hosts with the variable C(ha_cluster), below the group
    C(firewalls). The groups C(ha_primary) and C(ha_backup) hold the designations, which
    never change; who is active is a matter of the moment, and M(amaranten.ha.pair_info) says it.
  - Values may be templates, as in any inventory; a key stays in its vault.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [amaranten.ha.pairs]
  vars:
    description: Variables of all nodes.
    type: dict
    default: {}
  cluster:
    description: What the C(ha_cluster) of a pair has unless the pair says otherwise, key by key.
    type: dict
    default: {}
  pairs:
    description:
      - The pairs by name. A name is at most 32 letters, digits and C(_).
      - C(hosts) are exactly two, with their variables; the first one is the primary, the second
        one the backup.
      - C(cluster) is C(ha_cluster) without C(name), C(primary) and C(backup), which are known.
      - C(vars) are further variables of the pair's group.
    type: dict
    required: true
seealso:
  - module: amaranten.ha.cluster
"""

EXAMPLES = r"""
# firewalls.pairs.yml
plugin: amaranten.ha.pairs
vars: {ansible_user: root}
cluster: {profile: fast, keys: {1: "{{ vault_ha_key }}"}}
pairs:
  berlin:
    hosts: {ber-a: {ansible_host: 192.0.2.11}, ber-b: {ansible_host: 192.0.2.12}}
    cluster:
      id: 7
      interfaces:
        lan:
          shared: [10.7.1.1/24]
          nodes:
            ber-a: {device: enp1s0, addresses: [10.7.1.2/24]}
            ber-b: {device: enp1s0, addresses: [10.7.1.3/24]}
        sync:
          role: sync
          nodes:
            ber-a: {device: enp4s0, addresses: [10.7.4.2/24]}
            ber-b: {device: enp4s0, addresses: [10.7.4.3/24]}
  paris:
    hosts: {par-a: {ansible_host: 192.0.2.21}, par-b: {ansible_host: 192.0.2.22}}
    cluster:
      id: 8
      profile: virtual
      interfaces:
        lan:
          shared: [10.8.1.1/24]
          nodes:
            par-a: {device: ens3, addresses: [10.8.1.2/24]}
            par-b: {device: ens3, addresses: [10.8.1.3/24]}
        sync:
          role: sync
          nodes:
            par-a: {device: ens6, addresses: [10.8.4.2/24]}
            par-b: {device: ens6, addresses: [10.8.4.3/24]}
"""

import typing as t

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair_list import ListedPair, PairList

NODES = "firewalls"
PRIMARIES = "ha_primary"
BACKUPS = "ha_backup"
FILE_NAMES = ("pairs.yml", "pairs.yaml")


class InventoryModule(BaseInventoryPlugin):
    """Reads a list of pairs; see the documentation."""

    NAME = "amaranten.ha.pairs"

    def verify_file(self, path: str) -> bool:
        """Say whether the name of the file is that of a list of pairs."""
        return bool(super().verify_file(path)) and path.endswith(FILE_NAMES)

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Make the hosts, groups and variables; raises AnsibleParserError with every sentence."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        listed = PairList(self.get_option("pairs"), self.get_option("cluster"))
        pairs = listed.read()
        if listed.problems:
            raise AnsibleParserError(listed.problems.text())
        for group in (NODES, PRIMARIES, BACKUPS):
            self.inventory.add_group(group)
        for key, value in self.get_option("vars").items():
            self.inventory.set_variable(NODES, key, value)
        for pair in pairs:
            self._add(pair)

    def _add(self, pair: ListedPair) -> None:
        group = self.inventory.add_group(f"pair_{pair.name}")
        self.inventory.add_child(NODES, group)
        for key, value in {**pair.variables, "ha_cluster": pair.cluster}.items():
            self.inventory.set_variable(group, key, value)
        for designation, (host, variables) in zip(
            (PRIMARIES, BACKUPS), pair.hosts.items(), strict=True
        ):
            self.inventory.add_host(host, group)
            self.inventory.add_host(host, designation)
            for key, value in variables.items():
                self.inventory.set_variable(host, key, value)
