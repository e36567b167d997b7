#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""systemd units of ours: their files, whether they are enabled, and whether they run.

The roles enter with the whole text of each unit.  Files, systemd's memory of them and what runs are
compared each for itself, so that a run that died in between is finished by the next.  A running
unit is never restarted here: that is a matter of both nodes.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Unit files, enabled and started, without ever a restart
description:
  - Writes unit files to C(/etc/systemd/system), has systemd read them, enables and starts the
    units.
  - Masks units of other packages, without stopping them, so that their C(ExecStop) does not run.
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
  units:
    description: The units.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name with its suffix.
        type: str
        required: true
      content:
        description: The whole file.
        type: str
        required: true
      enabled:
        description: Whether it starts at boot.
        type: bool
        default: false
      started:
        description: Whether it is started if it does not run.
        type: bool
        default: false
  masked:
    description: Units that nothing may start any more.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Load the ruleset at boot
  amaranten.ha.units:
    masked: [nftables.service]
    units:
      - name: example-ruleset.service
        content: |
          [Service]
          Type=oneshot
          ExecStart=/usr/sbin/nft --file /etc/example.nft
          [Install]
          WantedBy=sysinit.target
        enabled: true
"""

RETURN = r"""
reasons:
  description: What differed; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [amaranten-ha-heart.service is not enabled]
sha256:
  description: Path to the digest of each unit file as it is to be.
  returned: always
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._agent import digest
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, remove, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

DIRECTORY = "/etc/systemd/system"
MASK = "/dev/null"


class Plan(object):
    """What differs."""

    def __init__(self, parameters, node):
        self.node = node
        self.mask = [name for name in parameters["masked"] if not is_mask(path_of(name))]
        self.write, self.enable, self.start, self.reload, self.diff = [], [], [], [], []
        for unit in parameters["units"]:
            self.judge(unit)
        for name in parameters["masked"]:
            if name not in self.mask and node.unit(name)["LoadState"] != "masked":
                self.reload.append(name)

    def judge(self, unit):
        """Compare one unit with its file, with systemd's memory, and with what runs."""
        name = unit["name"]
        old = read(path_of(name))
        state = self.node.unit(name)
        if old != unit["content"]:
            self.write.append(unit)
            self.diff.append(
                {
                    "before_header": path_of(name),
                    "after_header": path_of(name),
                    "before": old or "",
                    "after": unit["content"],
                }
            )
        elif state["NeedDaemonReload"] == "yes" or state["LoadState"] == "not-found":
            self.reload.append(name)
        if unit["enabled"] and state["UnitFileState"] != "enabled":
            self.enable.append(name)
        if unit["started"] and state["ActiveState"] not in ("active", "activating", "reloading"):
            self.start.append(name)

    def reasons(self):
        """All differences in words."""
        return [
            "the file of %s differs" % unit["name"] for unit in self.write
        ] + self.other_reasons()

    def other_reasons(self):
        """Those that no difference of files shows."""
        found = ["%s is not masked" % name for name in self.mask]
        found += ["systemd has not read the file of %s" % name for name in self.reload]
        found += ["%s is not enabled" % name for name in self.enable]
        found += ["%s is not running" % name for name in self.start]
        return found


def path_of(name):
    """Where the file of a unit is."""
    return os.path.join(DIRECTORY, name)


def is_mask(path):
    """Whether a unit's file is a mask."""
    return os.path.islink(path) and os.readlink(path) == MASK


def apply(module, plan):
    """Files first, then systemd's memory, then what runs."""
    for name in plan.mask:
        remove(path_of(name))
        os.symlink(MASK, path_of(name))
    for unit in plan.write:
        write(path_of(unit["name"]), unit["content"], 0o644)
    if plan.mask or plan.write or plan.reload:
        systemctl(module, ["daemon-reload"])
    if plan.enable:
        systemctl(module, ["enable", "--quiet"] + plan.enable)
    if plan.start:
        systemctl(module, ["start"] + plan.start)


def systemctl(module, arguments):
    """systemctl, or the end with its complaint."""
    code, out, error = module.run_command(["systemctl"] + arguments)
    if code != 0:
        module.fail_json(
            msg="`systemctl %s` failed: %s"
            % (" ".join(arguments), " ".join((error or out).split()))
        )


def main():
    """Entry point of the module."""
    unit = {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "required": True},
        "enabled": {"type": "bool", "default": False},
        "started": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "dict", "default": [], "options": unit},
            "masked": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    for item in module.params["units"]:
        item["content"] = item["content"].rstrip("\n") + "\n"
    plan = Plan(module.params, Node(module.run_command))
    reasons = plan.reasons()
    if reasons and not module.check_mode:
        apply(module, plan)
        left = Plan(module.params, Node(module.run_command)).reasons()
        if left:
            module.fail_json(
                msg="systemd did not take all of it, expected nothing left: %s." % "; ".join(left)
            )
    module.exit_json(
        changed=bool(reasons),
        reasons=reasons,
        sha256={path_of(item["name"]): digest(item["content"]) for item in module.params["units"]},
        diff=plan.diff
        + [{"before": "", "after": "".join("%s\n" % r for r in plan.other_reasons())}],
    )


if __name__ == "__main__":
    main()
