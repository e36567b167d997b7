#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Debian packages on a node that may reach an archive, or nothing at all.

The action plugin of the same name enters: first to let the node's own apt try, then, if apt reaches
nothing, with files that it has brought from the controller.  Packages are installed if they are
missing; this room never upgrades and never removes one.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Debian packages, from the node's own apt or from the controller
description:
  - Installs the packages that are missing, with the node's own apt if it reaches an archive, else
    from C(.deb) files in a directory of the controller, of which only the missing ones are copied.
  - What comes along with them is marked as automatically installed, in both cases.
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
  names:
    description: The packages.
    type: list
    elements: str
    required: true
  directory:
    description:
      - A directory of the controller with C(.deb) files, those of the packages and of all that a
        node lacks beside them; or with a directory of such files for each release, as in
        V(bookworm).
      - Ignored where it does not exist.
    type: path
  offered:
    description: Files in O(directory), relative to it. Filled in by the action plugin.
    type: list
    elements: str
    default: []
  files:
    description: Files that the action plugin has copied to the node.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Install what the firewall needs, without the internet
  amaranten.ha.packages:
    names: [nftables, conntrack]
    directory: "{{ playbook_dir }}/packages"
"""

RETURN = r"""
missing:
  description: The packages that were missing.
  returned: always
  type: list
  elements: str
  sample: [nftables]
needed:
  description: Files of those offered that the node lacks.
  returned: when apt reaches no archive
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

APT = [
    "apt-get",
    "--quiet",
    "--yes",
    "--no-install-recommends",
    "-o", "Acquire::Retries=0",
    "-o", "Acquire::http::Timeout=10",
    "-o", "Acquire::https::Timeout=10",
    "-o", "DPkg::Lock::Timeout=120",
    "-o", "Dpkg::Options::=--force-confold",
]  # fmt: skip
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def apt(module, arguments):
    """(whether it went well, its last complaint)."""
    code, out, error = module.run_command(APT + arguments, environ_update=ENVIRONMENT)
    complaints = [line for line in (error + out).splitlines() if line.startswith(("E:", "W:"))]
    return code == 0, complaints[-1] if complaints else " ".join((error or out).split())[-200:]


def from_archive(module, names):
    """Install with the node's own apt; the complaint, or nothing."""
    done, complaint = apt(module, ["install"] + names)
    if not done:
        apt(module, ["update"])
        done, complaint = apt(module, ["install"] + names)
    return "" if done else complaint


def needed(module, node):
    """Files of those offered whose package the node lacks."""
    architecture = node.output(["dpkg", "--print-architecture"]).strip()
    release = node.release() + "/"
    offered = [name for name in module.params["offered"] if name.startswith(release)]
    if not offered:
        offered = [name for name in module.params["offered"] if "/" not in name]
    packages = {}
    for name in offered:
        parts = name[: -len(".deb")].split("/")[-1].split("_")
        if len(parts) == 3 and parts[2] in ("all", architecture):
            packages[name] = parts[0]
    installed = node.packages(sorted(set(packages.values())))
    return sorted(name for name, package in packages.items() if not installed[package])


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "directory": {"type": "path"},
            "offered": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    node = Node(module.run_command)
    names = module.params["names"]
    missing = [name for name, version in node.packages(names).items() if not version]
    result = {"changed": bool(missing), "missing": missing}
    result["diff"] = {"before": "", "after": "".join("%s\n" % name for name in missing)}
    if not missing or module.check_mode:
        module.exit_json(**result)
    if module.params["files"]:
        before = set(node.installed())
        done, complaint = apt(module, ["install"] + module.params["files"])
        still = [name for name, version in node.packages(missing).items() if not version]
        if done and not still:
            # What apt is given as a file it takes for wanted by itself, unlike what it fetches.
            brought = set(node.installed()) - before - set(names)
            if brought:
                module.run_command(["apt-mark", "auto"] + sorted(brought))
        else:
            module.fail_json(
                msg="The copied packages cannot be installed, expected files that bring %s and all "
                "that the node lacks beside them: %s" % (", ".join(still or missing), complaint)
            )
        module.exit_json(**result)
    complaint = from_archive(module, missing)
    if complaint:
        result.update(changed=False, needed=needed(module, node), complaint=complaint)
        module.exit_json(**result)
    still = [name for name, version in node.packages(missing).items() if not version]
    if still:
        module.fail_json(msg="apt said that it installed %s, and dpkg does not have it." % still[0])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
