# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node's configuration as one plain document, and the same as path and value.

One shape serves what the roles ask for (their own input), what is on the node's disk, and what the
kernel and systemd have: so that each can be compared with each, and an export with what was
applied.  Paths use logical names, because device names differ between the nodes.  Pure: nothing is
read here, and a key comes as its hash.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json

from ansible_collections.amaranten.ha.plugins.module_utils import _network_files as network_files
from ansible_collections.amaranten.ha.plugins.module_utils._nft import file_text

FINGERPRINT_LENGTH = 16
RULESET_PATH = "/etc/amaranten-ha/ruleset.nft"
RECORD_PATH = "/var/lib/amaranten-ha/deployed.json"
RECORD_VERSION = 1
PRESENT = "present"


def configuration(intent):
    """The document that the roles' input asks for; `intent` is described in node_info."""
    files = dict(intent["files"])
    files.update(network_files.files(intent["networks"], intent["dns"]))
    files[intent["sysctl_path"]] = sysctl_file(intent["sysctls"])
    files[RULESET_PATH] = file_text(intent["ruleset"])
    units = {
        unit["name"]: {
            "content": unit["content"].rstrip("\n") + "\n",
            "enabled": "enabled" if unit.get("enabled") else "",
            "state": "active" if unit.get("enabled") or unit.get("started") else "",
        }
        for unit in intent["units"]
    }
    for name in intent["masked"]:
        units[name] = {"content": "", "enabled": "masked", "state": ""}
    return {
        "packages": dict.fromkeys(intent["packages"], "installed"),
        "sysctls": {name: str(value) for name, value in intent["sysctls"].items()},
        "interfaces": {item["name"]: interface(item) for item in intent["networks"]},
        "units": units,
        "files": files,
        "keys": dict(intent["key_ring"]["ids"], send=str(intent["key_ring"]["send_key"])),
        "release": intent["release"],
    }


def interface(item):
    """One interface: addresses, routes, MTU."""
    placeholder = [network_files.PLACEHOLDER] if item.get("placeholder") else []
    routes = [route_text(r["to"], r["via"]) for r in item.get("routes", [])]
    return {
        "addresses": sorted(canonical_address(a) for a in item["addresses"] + placeholder),
        "routes": sorted(routes + [route_text(n, "") for n in item.get("on_link", [])]),
        "mtu": str(item["mtu"]) if item.get("mtu") else "",
    }


def canonical_address(text):
    """An address with its prefix, written the one way."""
    return str(ipaddress.ip_interface(text))


def route_text(destination, via):
    """A route, written the one way and as `ip route` takes it."""
    network = str(ipaddress.ip_network(destination))
    return "%s via %s" % (network, ipaddress.ip_address(via)) if via else network


def sysctl_file(values):
    """The text of the file of kernel parameters."""
    lines = ["%s = %s\n" % (name, values[name]) for name in sorted(values)]
    return "# Written by Ansible: change it there.\n" + "".join(lines)


def flat(document, devices):
    """Path to value of a document; `devices` is device name to logical name of its node."""
    found = {}
    for name, value in document["packages"].items():
        found["package/" + name] = value
    for name, value in document["sysctls"].items():
        found[sysctl_path(name, devices)] = value
    for name, item in document["interfaces"].items():
        found.update({"address/%s/%s" % (name, a): PRESENT for a in item["addresses"]})
        found.update({"route/%s/%s" % (name, r): PRESENT for r in item["routes"]})
        if item["mtu"]:
            found["mtu/" + name] = item["mtu"]
    for name, unit in document["units"].items():
        if unit["content"]:
            found["unit/%s/file" % name] = unit["content"]
        if unit["enabled"]:
            found["unit/%s/enabled" % name] = unit["enabled"]
        if unit["state"]:
            found["unit/%s/state" % name] = unit["state"]
    for path, text in document["files"].items():
        found["file" + path] = text
    for number, value in document["keys"].items():
        found["key/" + number] = value
    if document["release"]:
        found["agent/release"] = document["release"]
    return found


def sysctl_path(name, devices):
    """The path of a kernel parameter, a device in it under its logical name."""
    parts = name.split("/")
    # net/ipv4/conf/<device>/<parameter>, and the same for neigh.
    if len(parts) == 5 and parts[3] in devices:
        parts[3] = devices[parts[3]]
    return "sysctl/" + "/".join(parts)


def fingerprint(value):
    """A short digest of a value, for the record of what was deployed."""
    data = value.encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:FINGERPRINT_LENGTH]


def record(intent):
    """What a node remembers of a deployment: which values were asked for, as fingerprints."""
    devices = {item["device"]: name for name, item in intent["interfaces"].items()}
    values = flat(configuration(intent), devices)
    return {
        "version": RECORD_VERSION,
        "values": {path: fingerprint(value) for path, value in sorted(values.items())},
    }


def with_keys(text, key_ring):
    """The text of a record with other keys in it, as `describe` of _keys has them; "" of none."""
    if not text:
        return ""
    found = json.loads(text)
    values = {path: v for path, v in found["values"].items() if not path.startswith("key/")}
    keys = dict(key_ring["ids"], send=str(key_ring["send_key"]))
    values.update({"key/" + number: fingerprint(value) for number, value in keys.items()})
    return json.dumps(dict(found, values=values), indent=1, sort_keys=True) + "\n"
