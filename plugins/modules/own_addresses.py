#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Own addresses and routes of a node: systemd-networkd's files, and what the kernel has of them.

The role enters with the interfaces of the node.  Files and kernel are compared each for itself.
The shared addresses are the agent's: they are in no file, and they are neither put on nor taken off
here.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: own_addresses
short_description: Own addresses and routes of a node, by systemd-networkd
description:
  - Writes one file for each interface and lets systemd-networkd apply what changed, in such a way
    that addresses which are not in the files stay where they are.
  - Addresses of a network that the files do not have, put on by hand or by an earlier file, are
    taken off. Shared addresses have the prefix of a single host and stay, as do link-local ones.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  disruptive:
    support: partial
    details: An address or a route that goes takes along what uses it. Shared addresses stay, and
      the other devices are not touched.
options:
  interfaces:
    description: The interfaces whose addresses are managed.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Logical name.
        type: str
        required: true
      device:
        description: Device name.
        type: str
        required: true
      addresses:
        description: Own addresses with their prefixes; may be empty.
        type: list
        elements: str
        default: []
      on_link:
        description: Networks that are on this link although no own address brings their route.
        type: list
        elements: str
        default: []
      placeholder:
        description:
          - Whether the device gets the address V(192.0.0.8/32) with the scope of the host, so that
            the kernel keeps its IPv4 routes when the last other address goes.
        type: bool
        default: false
      routes:
        description: Routes over this interface.
        type: list
        elements: dict
        default: []
        suboptions:
          to:
            description: Destination.
            type: str
            required: true
          via:
            description: Next hop.
            type: str
            required: true
          on_link:
            description: Whether the next hop is a neighbour although no own network has it.
            type: bool
            default: false
      mtu:
        description: MTU of the device.
        type: int
  dns:
    description: C(servers) and C(search) for systemd-resolved, where it runs.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Give the node its own addresses
  amaranten.ha.own_addresses:
    interfaces:
      - name: lan
        device: enp1s0
        addresses: [10.20.1.2/24, "fd20:1::2/64"]
        routes:
          - to: 10.30.0.0/16
            via: 10.20.1.254
"""

RETURN = r"""
reasons:
  description: What differed; empty if nothing changed.
  returned: always
  type: list
  elements: str
  sample: [enp1s0 lacks 10.20.1.2/24]
"""

import glob
import ipaddress
import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _network_files as network_files
from ansible_collections.amaranten.ha.plugins.module_utils._files import read, remove, write
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node, addresses

SERVICE = "systemd-networkd.service"
WAIT_ONLINE = "systemd-networkd-wait-online.service"
SETTLE_S = 15.0
POLL_S = 0.1


class Plan(object):
    """What differs between the files, the kernel and what is wanted."""

    def __init__(self, wanted, found, enabled):
        self.write = {path: text for path, text in wanted.items() if found.get(path) != text}
        self.remove = [path for path in found if path not in wanted]
        self.enable = bool(wanted) and not enabled
        self.missing = []
        self.stale = []
        self.stale_routes = []
        self.reasons = ["%s differs" % path for path in sorted(self.write)]
        self.reasons += ["%s is not wanted any more" % path for path in self.remove]
        if self.enable:
            self.reasons.append("%s is not enabled and running" % SERVICE)

    def judge(self, interface, link, routes, old_text):
        """Compare one interface with the kernel."""
        device = interface["device"]
        have = [ipaddress.ip_interface(address) for address in addresses(link)]
        placeholder = [network_files.PLACEHOLDER] if interface["placeholder"] else []
        wanted = [ipaddress.ip_interface(a) for a in interface["addresses"] + placeholder]
        if "UP" not in link.get("flags", []):
            self.missing.append((device, "up"))
        for address in wanted:
            if address not in have:
                self.missing.append((device, str(address)))
        for address in have:
            ours = "Address=%s" % address in old_text.splitlines()
            single = address.network.prefixlen == address.max_prefixlen
            if address not in wanted and (ours or not single):
                self.stale.append((device, str(address)))
        self.judge_routes(interface, routes)
        self.reasons += ["%s lacks %s" % item for item in self.missing if item[0] == device]
        self.reasons += ["%s has %s" % item for item in self.stale if item[0] == device]
        self.reasons += ["%s has %s" % item for item in self.stale_routes if item[0] == device]

    def judge_routes(self, interface, routes):
        """Compare the routes of one interface with the kernel's."""
        wanted = [(ipaddress.ip_network(r["to"]), r["via"]) for r in interface["routes"]]
        wanted += [(ipaddress.ip_network(network), "") for network in interface["on_link"]]
        for route in wanted:
            if route not in routes:
                self.missing.append((interface["device"], route_text(*route)))
        for route, protocol in routes.items():
            # What other programs have put there is marked with another protocol.
            if protocol == "static" and route not in wanted:
                self.stale_routes.append((interface["device"], route_text(*route)))


def route_text(destination, via):
    """A route as `ip route` takes it."""
    return "%s via %s" % (destination, via) if via else str(destination)


class Network(object):
    """The node's network."""

    def __init__(self, module):
        self.module = module
        self.interfaces = module.params["interfaces"]
        self.node = Node(module.run_command)
        self.wanted = network_files.files(self.interfaces, module.params["dns"])

    def plan(self):
        """Look, and decide."""
        pattern = "%s/%s*.network" % (network_files.DIRECTORY, network_files.PREFIX)
        paths = set(glob.glob(pattern)) | {network_files.MANAGER_PATH}
        found = {
            path: text for path, text in ((p, read(p)) for p in sorted(paths)) if text is not None
        }
        unit = self.node.unit(SERVICE)
        enabled = unit["UnitFileState"].startswith("enabled") and unit["ActiveState"] == "active"
        plan = Plan(self.wanted, found, enabled)
        links = self.node.links()
        for interface in self.interfaces:
            device = interface["device"]
            old_text = found.get(network_files.path_of(interface), "")
            plan.judge(interface, links.get(device, {}), self.routes(device), old_text)
        plan.diff = diff(self.wanted, found, plan)
        return plan

    def routes(self, device):
        """(destination, next hop or nothing) to the protocol that marks the route."""
        found = {}
        for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            listing = self.node.output(["ip", "-j", family, "route", "show", "dev", device])
            for item in json.loads(listing or "[]"):
                destination = everywhere if item["dst"] == "default" else item["dst"]
                found[(ipaddress.ip_network(destination), item.get("gateway", ""))] = item.get(
                    "protocol", ""
                )
        return found

    def apply(self, plan):
        """Write, have networkd do its part, then take off what is left over."""
        for path, text in plan.write.items():
            write(path, text, 0o644)
        for path in plan.remove:
            remove(path)
        if plan.enable:
            self.command(["systemctl", "enable", SERVICE])
            # It comes along and would hold up the boot of a node with a cable pulled.
            self.command(["systemctl", "disable", WAIT_ONLINE])
        if plan.enable or network_files.MANAGER_PATH in plan.write:
            self.command(["systemctl", "restart", SERVICE])
        elif plan.write or plan.remove:
            self.command(["networkctl", "reload"])
        changed = [i["device"] for i in self.interfaces if network_files.path_of(i) in plan.write]
        for device in sorted({device for device, dummy in plan.missing} - set(changed)):
            self.command(["networkctl", "reconfigure", device])
        left = self.settle()
        for device, address in dict.fromkeys(plan.stale + left.stale):
            # systemd-networkd may have taken it off itself; what is left is found below.
            self.module.run_command(["ip", "address", "del", address, "dev", device])
        for device, route in left.stale_routes:
            family = "-6" if ":" in route else "-4"
            self.command(
                ["ip", family, "route", "del"] + route.split() + ["dev", device, "proto", "static"]
            )
        left = self.settle()
        if left.reasons:
            self.module.fail_json(
                msg="systemd-networkd did not bring the own addresses within %d s: %s."
                % (SETTLE_S, ", ".join(left.reasons))
            )

    def settle(self):
        """Wait until nothing is missing, or until the time is over."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            plan = self.plan()
            if not plan.missing or time.monotonic() > deadline:
                return plan
            time.sleep(POLL_S)

    def command(self, arguments):
        """Run a command, or end the module with its complaint."""
        code, out, error = self.module.run_command(arguments)
        if code != 0:
            self.module.fail_json(
                msg="`%s` failed: %s." % (" ".join(arguments), " ".join((error or out).split()))
            )


def diff(wanted, found, plan):
    """Files and addresses, before and after."""
    parts = [
        {
            "before_header": path,
            "after_header": path,
            "before": found.get(path, ""),
            "after": wanted.get(path, ""),
        }
        for path in sorted(list(plan.write) + plan.remove)
    ]
    stale = plan.stale + plan.stale_routes
    if plan.missing or stale:
        parts.append(
            {
                "before_header": "kernel",
                "after_header": "kernel",
                "before": "".join("%s %s\n" % item for item in stale),
                "after": "".join("%s %s\n" % item for item in plan.missing),
            }
        )
    return parts


def main():
    """Entry point of the module."""
    strings = {"type": "list", "elements": "str", "default": []}
    route = {
        "to": {"type": "str", "required": True},
        "via": {"type": "str", "required": True},
        "on_link": {"type": "bool", "default": False},
    }
    interface = {
        "name": {"type": "str", "required": True},
        "device": {"type": "str", "required": True},
        "addresses": strings,
        "on_link": strings,
        "placeholder": {"type": "bool", "default": False},
        "routes": {"type": "list", "elements": "dict", "default": [], "options": route},
        "mtu": {"type": "int"},
    }
    module = AnsibleModule(
        argument_spec={
            "interfaces": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": interface,
            },
            "dns": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    network = Network(module)
    plan = network.plan()
    if plan.reasons and not module.check_mode:
        network.apply(plan)
    module.exit_json(changed=bool(plan.reasons), reasons=plan.reasons, diff=plan.diff)


if __name__ == "__main__":
    main()
