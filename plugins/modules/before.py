#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Writes down what was found on a node before the first change, so that a removal can bring it
back.

The role enters here before it changes anything.  What is written once is never overwritten: only
what a later version of the collection touches in addition is added, before it is touched.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: before
short_description: A record of a node as it was before the first change
description:
  - Records sysctls, units, files, packages, addresses, routes and the ruleset of a node in a file,
    and the names of all packages that are installed.
  - An entry that is in the record is never written again. Entries that the record lacks are added.
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
  path:
    description: The record.
    type: path
    default: /var/lib/amaranten-ha/before.json
  sysctls:
    description: Kernel parameters, with slashes, as in V(net/ipv4/conf/enp1s0/rp_filter).
    type: list
    elements: str
    default: []
  units:
    description: systemd units of which the state is recorded.
    type: list
    elements: str
    default: []
  files:
    description: Files of which the content, or the absence, is recorded.
    type: list
    elements: path
    default: []
  packages:
    description: Packages of which the installed version, or the absence, is recorded.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Record what is here before the first change
  amaranten.ha.before:
    sysctls: [net/ipv4/ip_forward]
    units: [nftables.service]
    files: [/etc/nftables.conf]
    packages: [nftables]
"""

RETURN = r"""
added:
  description: What was added to the record.
  returned: always
  type: list
  elements: str
  sample: [units/nftables.service]
"""

import datetime
import json
import os
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

FORMAT = 1
FILE_BYTES_MAX = 256 * 1024


class Survey(object):
    """Looks at what the record lacks."""

    def __init__(self, module):
        self.parameters = module.params
        self.node = Node(module.run_command)
        self.nft = module.get_bin_path("nft")

    def additions(self, record):
        """Section to the entries that the record does not have yet."""
        wanted = {
            "sysctls": (self.parameters["sysctls"], self.sysctl),
            "units": (self.parameters["units"], self.node.unit),
            "files": (self.parameters["files"], self.file),
        }
        found = {}
        for section, (names, look) in wanted.items():
            known = record.get(section, {})
            found[section] = {name: look(name) for name in names if name not in known}
        packages = [p for p in self.parameters["packages"] if p not in record.get("packages", {})]
        found["packages"] = self.node.packages(packages) if packages else {}
        if "packages" not in record.get("installed", {}):
            # Names alone: what is here that is not in this list has come since.
            found["installed"] = {"packages": sorted(self.node.installed())}
        network = {"links": self.links, "routes": self.routes, "ruleset": self.ruleset}
        found["network"] = {
            name: look() for name, look in network.items() if name not in record.get("network", {})
        }
        return {section: entries for section, entries in found.items() if entries}

    def sysctl(self, name):
        """The value of a kernel parameter, or None if the kernel has none of this name."""
        text = read(os.path.join("/proc/sys", name))
        return None if text is None else text.strip()

    def file(self, path):
        """A file's content and mode, its target if it is a link, or None."""
        if os.path.islink(path):
            return {"link": os.readlink(path)}
        if not os.path.isfile(path):
            return None
        status = os.stat(path)
        found = {"mode": "%04o" % stat.S_IMODE(status.st_mode), "bytes": status.st_size}
        if status.st_size <= FILE_BYTES_MAX:
            found["content"] = read(path)
        return found

    def links(self):
        """Devices with their addresses."""
        return list(self.node.links().values())

    def routes(self):
        """Routes of both families."""
        found = []
        for family in ("-4", "-6"):
            found += json.loads(self.node.output(["ip", "-j", family, "route", "show"]) or "[]")
        return found

    def ruleset(self):
        """The ruleset as text, None where nft is not installed."""
        return self.node.output([self.nft, "-s", "list", "ruleset"]) if self.nft else None


def main():
    """Entry point of the module."""
    lists = {
        name: {"type": "list", "elements": kind, "default": []}
        for name, kind in (
            ("sysctls", "str"),
            ("units", "str"),
            ("files", "path"),
            ("packages", "str"),
        )
    }
    module = AnsibleModule(
        argument_spec=dict(
            lists, path={"type": "path", "default": "/var/lib/amaranten-ha/before.json"}
        ),
        supports_check_mode=True,
    )
    path = module.params["path"]
    old_text = read(path)
    record = json.loads(old_text) if old_text else {"format": FORMAT}
    additions = Survey(module).additions(record)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    added = []
    for section in sorted(additions):
        record.setdefault(section, {}).update(additions[section])
        added += ["%s/%s" % (section, name.lstrip("/")) for name in sorted(additions[section])]
    if added:
        record.setdefault("recorded", {}).update(dict.fromkeys(added, now))
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    if added and not module.check_mode:
        write(path, text, 0o600)
    module.exit_json(
        changed=bool(added),
        added=added,
        diff={
            "before_header": path,
            "after_header": path,
            "before": "",
            "after": "".join("%s\n" % name for name in added),
        },
    )


if __name__ == "__main__":
    main()
