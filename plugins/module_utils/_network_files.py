# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The text of systemd-networkd's files for the interfaces of the pair.

A pure room: interfaces come in, files go out.  The settings are those under which systemd 252 and
newer leave addresses alone that others have put on a device: with KeepConfiguration=yes neither
a restart nor a reload nor a reconfiguration of networkd takes a shared address away.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

DIRECTORY = "/etc/systemd/network"
# Sorted before what an installer or an image may have left for all devices.
PREFIX = "05-amaranten-ha-"
MANAGER_PATH = "/etc/systemd/networkd.conf.d/amaranten-ha.conf"
# The dummy address of RFC 7600, which no network has.
PLACEHOLDER = "192.0.0.8/32"
HEADER = "# Written by Ansible from ha_cluster: change it there.\n"
MANAGER_TEXT = (
    HEADER
    + """[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
"""
)


def path_of(interface):
    """Where the file of an interface is."""
    return "%s/%s%s.network" % (DIRECTORY, PREFIX, interface["name"])


def text_of(interface, dns):
    """The file of an interface, with its own addresses and without the shared ones."""
    lines = ["[Match]", "Name=%s" % interface["device"], "", "[Link]", "RequiredForOnline=no"]
    if interface.get("mtu"):
        lines.append("MTUBytes=%d" % interface["mtu"])
    lines += ["", "[Network]"]
    lines += ["Address=%s" % address for address in interface["addresses"]]
    if interface.get("carries_dns"):
        lines += ["DNS=%s" % server for server in dns.get("servers", [])]
        if dns.get("search"):
            lines.append("Domains=%s" % " ".join(dns["search"]))
    lines += [
        "LinkLocalAddressing=ipv6",
        "IPv6AcceptRA=no",
        "ConfigureWithoutCarrier=yes",
        "IgnoreCarrierLoss=yes",
        "KeepConfiguration=yes",
    ]
    if interface.get("placeholder"):
        # Keeps the routes below when the shared address goes; never a source with this scope.
        lines += ["", "[Address]", "Address=%s" % PLACEHOLDER, "Scope=host"]
    for network in interface.get("on_link", []):
        lines += ["", "[Route]", "Destination=%s" % network]
        if ":" not in network:
            lines.append("Scope=link")
    for route in interface.get("routes", []):
        lines += ["", "[Route]", "Destination=%s" % route["to"], "Gateway=%s" % route["via"]]
        if route.get("on_link"):
            lines.append("GatewayOnLink=yes")
    return HEADER + "\n".join(lines) + "\n"


def files(interfaces, dns):
    """Path to text, for all interfaces and the manager itself."""
    if not interfaces:
        return {}
    carrier = next(
        (i for i in interfaces if any(r["to"] in ("0.0.0.0/0", "::/0") for r in i["routes"])),
        interfaces[0],
    )
    found = {MANAGER_PATH: MANAGER_TEXT}
    for interface in interfaces:
        found[path_of(interface)] = text_of(dict(interface, carries_dns=interface is carrier), dns)
    return found
