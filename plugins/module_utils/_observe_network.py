# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kernel has of networks: devices, addresses, routes, rules, neighbours, offloads.

`_observe` enters with a `Node`; plain lists and dicts go back, as the kernel says them and not yet
compared with anything.  Works with `ip -j`, /sys and one ioctl; nothing is changed.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import re
import socket
import struct

SIOCETHTOOL = 0x8946
# Those that change what a forwarding node passes on, by the names of `ethtool -k`: ioctl commands
# of linux/ethtool.h that each return one number.
OFFLOADS = {
    "rx-checksumming": 0x14,
    "tx-checksumming": 0x16,
    "scatter-gather": 0x18,
    "tcp-segmentation-offload": 0x1E,
    "generic-segmentation-offload": 0x23,
    "generic-receive-offload": 0x2B,
}
ETHTOOL_GFLAGS = 0x25
FLAGS = {"large-receive-offload": 1 << 15, "rx-vlan-offload": 1 << 8, "tx-vlan-offload": 1 << 7}
# Devices that a module of the kernel makes by itself in every network namespace.
FALLBACK = re.compile(r"(tunl|sit|gre|gretap|erspan|ip_vti|ip6_vti|ip6tnl|ip6gre|teql)0$")
DEFAULT_RULES = ("0: from all lookup local", "32766: from all lookup main")
DEFAULT_RULES += ("32767: from all lookup default",)


def devices(node):
    """Device name to what it is and has; the loopback and the kernel's own fallbacks left out."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for name, link in node.links().items():
            if name == "lo" or FALLBACK.match(name):
                continue
            sys = os.path.join("/sys/class/net", name)
            driver = os.path.join(sys, "device", "driver")
            found[name] = {
                "mac": link.get("address", ""),
                "mtu": str(link.get("mtu", "")),
                "up": "UP" in link.get("flags", []),
                "hardware": os.path.exists(os.path.join(sys, "device")),
                "driver": os.path.basename(os.readlink(driver)) if os.path.islink(driver) else "",
                "addresses": [
                    {
                        "address": "%s/%s" % (item["local"], item["prefixlen"]),
                        "scope": item.get("scope", ""),
                    }
                    for item in link.get("addr_info", [])
                    if "local" in item
                ],
                "offloads": offloads(channel, name),
            }
    return found


def offloads(channel, name):
    """Offload to on or off; those that the driver does not tell are left out."""
    found = {}
    for offload, command in OFFLOADS.items():
        value = ethtool(channel, name, command)
        if value is not None:
            found[offload] = "on" if value else "off"
    flags = ethtool(channel, name, ETHTOOL_GFLAGS)
    if flags is not None:
        found.update({each: "on" if flags & bit else "off" for each, bit in FLAGS.items()})
    return found


def ethtool(channel, name, command):
    """The number that the driver gives for a command, or None."""
    buffer = array.array("B", struct.pack("=II", command, 0))
    request = struct.pack("16sP", name.encode(), buffer.buffer_info()[0])
    try:
        fcntl.ioctl(channel.fileno(), SIOCETHTOOL, request.ljust(40, b"\0"))
    except OSError:
        return None
    return struct.unpack("=II", buffer.tobytes())[1]


def routes(node):
    """Routes of all tables but the kernel's own, each as a dict of words."""
    found = []
    for family in ("-4", "-6"):
        for item in listed(node, ["ip", "-j", family, "route", "show", "table", "all"]):
            table = str(item.get("table", "main"))
            if table == "local" or item.get("type", "unicast") in ("broadcast", "multicast"):
                continue
            # `ip` leaves out the word for routes that a hand has put there.
            protocol = item.get("protocol", "boot")
            if protocol not in ("boot", "static"):
                continue
            hops = item.get("nexthops") or [item]
            for hop in hops:
                destination = item["dst"]
                if destination == "default":
                    destination = "0.0.0.0/0" if family == "-4" else "::/0"
                found.append(
                    {
                        "table": table,
                        "type": item.get("type", "unicast"),
                        "to": destination,
                        "via": hop.get("gateway", hop.get("via", {}).get("host", "")),
                        "device": hop.get("dev", item.get("dev", "")),
                        "protocol": protocol,
                    }
                )
    return found


def rules(node):
    """Policy rules beside those that every kernel begins with."""
    found = []
    for family in ("-4", "-6"):
        for line in node.output(["ip", family, "rule", "show"]).splitlines():
            text = " ".join(line.split())
            if text and text not in DEFAULT_RULES:
                found.append("%s %s" % (family, text))
    return found


def neighbours(node):
    """Permanent neighbour entries: somebody's hand, since no kernel makes them."""
    return [
        {"device": item["dev"], "address": item["dst"], "mac": item.get("lladdr", "")}
        for item in listed(node, ["ip", "-j", "neighbour", "show", "nud", "permanent"])
        if "dev" in item and "dst" in item
    ]


def listed(node, arguments):
    """The list that a command printed as JSON."""
    return json.loads(node.output(arguments) or "[]")
