# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A node as it is, in the shape of what it should be.

`node_info` enters with the roles' input; what is on the disk and what the kernel and systemd have
come back as documents of the same shape (see `_configuration`), with those facts beside them of
which no input speaks.  Reads only: a ruleset is loaded in a namespace of its own.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import glob
import json
import os
import re
import stat
import time

from ansible_collections.amaranten.ha.plugins.module_utils import _network_files as network_files
from ansible_collections.amaranten.ha.plugins.module_utils import _observe_network as network
from ansible_collections.amaranten.ha.plugins.module_utils import _observe_ruleset as rulesets
from ansible_collections.amaranten.ha.plugins.module_utils._agent import (
    CURRENT,
    Services,
    fingerprint,
    status,
)
from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    RECORD_PATH,
    RECORD_VERSION,
    RULESET_PATH,
    canonical_address,
    configuration,
    route_text,
)
from ansible_collections.amaranten.ha.plugins.module_utils._files import read
from ansible_collections.amaranten.ha.plugins.module_utils._keys import describe, parse

KEYS_TOML = "/etc/amaranten-ha/keys.toml"
AGENT_TOML = "/etc/amaranten-ha/agent.toml"
RESOLVER = "/etc/resolv.conf"
UNITS = "/etc/systemd/system"
RUNNING = ("active", "activating", "reloading")
# Compared between the nodes. Counters, secrets, and what follows from the machine's memory are not.
SETTINGS = (
    "net/ipv4/conf/*/*",
    "net/ipv6/conf/*/*",
    "net/netfilter/nf_conntrack_*",
    "net/ipv4/ip_*",
    "net/ipv4/icmp_*",
    "net/ipv4/fib_*",
    "net/ipv6/icmp/*",
)
# The MTU has a value of its own.
NO_SETTINGS = re.compile(
    r"/mtu$|secret|_key|_count$|forwarding|_buckets$|_max$|base_reachable|ip_local"
)
MODULES = re.compile(r"(?m)^((?:nf_conntrack|nf_nat)_\w+) ")


class Observation(object):
    """One look at this machine."""

    def __init__(self, module, node, intent, asked_at):
        self.clock = {"asked_at": asked_at, "said": time.time()}
        self.module = module
        self.node = node
        self.intent = intent
        self.wanted = configuration(intent)
        if os.path.islink(RESOLVER):
            self.wanted["files"].pop(RESOLVER, None)
        self.devices = network.devices(node)
        self.status = status(node)
        self.units = self.unit_states()

    def result(self):
        """All of it, as plain values."""
        return {
            "interfaces": self.intent["interfaces"],
            "sysctl_path": self.intent["sysctl_path"],
            "wanted": self.wanted,
            "disk": self.disk(),
            "live": self.live(),
            "ruleset": self.ruleset(),
            "facts": self.facts(),
        }

    # What is on the disk -----------------------------------------------------------------------

    def disk(self):
        """The document as the files have it; a section that no file has is absent."""
        patterns = "%s/%s*.network" % (network_files.DIRECTORY, network_files.PREFIX)
        paths = set(self.wanted["files"]) | set(glob.glob(patterns))
        files = {path: read(path) for path in paths}
        sysctls = files.get(self.intent["sysctl_path"]) or ""
        keys = describe(*parse(read(KEYS_TOML) or ""))
        interfaces = {}
        for item in self.intent["networks"]:
            interfaces[item["name"]] = network_file(files.get(network_files.path_of(item)) or "")
        return {
            "packages": {},
            "sysctls": dict(re.findall(r"(?m)^(\S+) = (.*)$", sysctls)),
            "interfaces": interfaces,
            "units": {name: self.unit_file(name) for name in self.wanted["units"]},
            "files": {path: text for path, text in files.items() if text is not None},
            "keys": dict(keys["ids"], send=str(keys["send_key"])) if keys["ids"] else {},
            "release": os.path.basename(os.readlink(CURRENT)) if os.path.islink(CURRENT) else "",
        }

    def unit_file(self, name):
        """A unit's file, and what is said of it for the next boot."""
        path = os.path.join(UNITS, name)
        masked = os.path.islink(path) and os.readlink(path) == "/dev/null"
        state = self.units.get(name, {})
        enabled = state.get("UnitFileState", "")
        kept = enabled.replace("-runtime", "") if enabled.startswith(("enabled", "masked")) else ""
        return {
            "content": "" if masked else read(path) or "",
            "enabled": "masked" if masked else kept,
            "state": "",
        }

    # What runs ---------------------------------------------------------------------------------

    def live(self):
        """The document as the kernel, systemd and the package manager have it."""
        packages = self.node.packages(self.intent["packages"])
        sysctls = {name: sysctl(name) for name in self.wanted["sysctls"]}
        return {
            "packages": {name: "installed" for name, version in packages.items() if version},
            "sysctls": {name: value for name, value in sysctls.items() if value is not None},
            "interfaces": {item["name"]: self.interface(item) for item in self.intent["networks"]},
            "units": {
                name: {
                    "content": "",
                    "enabled": "",
                    "state": "active" if state.get("ActiveState") in RUNNING else "",
                }
                for name, state in self.units.items()
            },
            "files": {},
            "keys": {},
            "release": "",
        }

    def interface(self, item):
        """What the kernel has on one interface, the shared addresses left to the facts."""
        device = self.devices.get(item["device"], {})
        shared = [a.split("/")[0] for a in self.intent["interfaces"][item["name"]]["shared"]]
        addresses = []
        for entry in device.get("addresses", []):
            ip, prefix = entry["address"].split("/")
            single = prefix == ("128" if ":" in ip else "32")
            if entry["scope"] == "link" or (ip in shared and single):
                continue
            addresses.append(canonical_address(entry["address"]))
        return {
            "addresses": sorted(addresses),
            "routes": sorted(
                route_text(r["to"], r["via"])
                for r in network.routes(self.node)
                if r["table"] == "main" and r["device"] == item["device"] and r["type"] == "unicast"
            ),
            "mtu": device.get("mtu", ""),
        }

    def ruleset(self):
        """The tables that are wanted, those of the file for the next boot, those of the kernel."""
        devices = [item["device"] for item in self.intent["interfaces"].values()]
        text = self.wanted["files"][RULESET_PATH]
        found = {"live": rulesets.live(self.module).as_dict()}
        found["wanted"] = rulesets.loaded(self.module, text, devices).as_dict()
        on_disk = read(RULESET_PATH)
        if on_disk == text:
            found["disk"] = found["wanted"]
        elif on_disk is None:
            found["disk"] = rulesets.Listing({}, "there is no file").as_dict()
        else:
            found["disk"] = rulesets.loaded(self.module, on_disk, devices).as_dict()
        return found

    # What no input speaks of -------------------------------------------------------------------

    def facts(self):
        """The rest, for the comparison of the nodes with each other."""
        deployed = json.loads(read(RECORD_PATH) or "{}")
        return {
            "clock": self.clock,
            "clock_synchronised": self.synchronised(),
            "timezone": timezone(),
            "kernel": os.uname().release,
            "modules": sorted(MODULES.findall(read("/proc/modules") or "")),
            "conntrack_max": sysctl("net/netfilter/nf_conntrack_max") or "",
            "forwarding": self.forwarding(),
            "versions": self.node.packages(self.intent["packages"]),
            "settings": settings(),
            "devices": self.devices,
            "routes": network.routes(self.node),
            "rules": network.rules(self.node),
            "neighbours": network.neighbours(self.node),
            "enabled_units": self.enabled_units(),
            "failed_units": self.failed_units(),
            "drop_ins": {
                name: state["DropInPaths"]
                for name, state in self.units.items()
                if state.get("DropInPaths")
            },
            "role": self.status.get("role", ""),
            "version": self.status.get("version", ""),
            "stale": self.stale(),
            "keys_mode": mode(KEYS_TOML),
            "deployed": deployed if deployed.get("version") == RECORD_VERSION else {},
        }

    def unit_states(self):
        """Unit to its properties, asked of systemd at once."""
        names = sorted(self.wanted["units"]) + ["systemd-networkd.service"]
        properties = "Id,LoadState,UnitFileState,ActiveState,NeedDaemonReload,DropInPaths"
        out = self.node.output(["systemctl", "show", "--property=" + properties] + names)
        found = {}
        for block in out.split("\n\n"):
            state = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if state.get("Id"):
                found[state["Id"]] = state
        return found

    def enabled_units(self):
        """Units that the next boot starts."""
        out = self.node.output(
            ["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--no-pager"]
        )
        return sorted(line.split()[0] for line in out.splitlines() if line.strip())

    def failed_units(self):
        """Units that systemd calls failed."""
        out = self.node.output(
            ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
        )
        return sorted(line.split()[0] for line in out.splitlines() if line.strip())

    def forwarding(self):
        """Whether the kernel forwards, in all and on each device of the pair; the agent sets it."""
        names = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]
        for item in self.intent["interfaces"].values():
            pattern = "net/%%s/conf/%s/forwarding" % item["device"]
            names += [pattern % family for family in ("ipv4", "ipv6")]
        found = {name: sysctl(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def stale(self):
        """Sentences about services that run with something else than what is on the disk."""
        found = []
        paths = [KEYS_TOML, AGENT_TOML]
        paths += [os.path.join(UNITS, name) for name in Services.names]
        services = Services(self.node)
        now = {path: fingerprint(path) for path in paths + [CURRENT] if os.path.lexists(path)}
        for name, file in services.outdated(now):
            found.append([name, "%s runs with an older %s than is on the disk" % (name, file)])
        for name, state in sorted(self.units.items()):
            if state.get("NeedDaemonReload") == "yes":
                found.append([name, "systemd has not read the file of %s" % name])
        known = self.status.get("digests")
        text = read("/etc/amaranten-ha/digests.toml") or ""
        asked = dict(re.findall(r'(?m)^(config|ruleset) = "([0-9a-f]+)"$', text))
        if known and asked and any(known.get(name) != value for name, value in asked.items()):
            found.append(["digests", "heart compares other fingerprints than digests.toml has"])
        return found

    def synchronised(self):
        """Whether the kernel's clock is kept by a time service, in systemd's words."""
        out = self.node.output(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
        return out.strip()


def network_file(text):
    """What a file of systemd-networkd gives an interface, as far as our own files go."""
    sections = re.split(r"(?m)^\[(\w+)\]$", text)[1:]
    addresses, routes, mtu = [], [], ""
    for index in range(0, len(sections) - 1, 2):
        name, body = sections[index : index + 2]
        values = dict(re.findall(r"(?m)^(\w+)=(.*)$", body))
        if name in ("Network", "Address"):
            addresses += re.findall(r"(?m)^Address=(\S+)$", body)
        elif name == "Route" and values.get("Destination"):
            routes.append((values["Destination"], values.get("Gateway", "")))
        elif name == "Link":
            mtu = values.get("MTUBytes", "")
    found = {"addresses": [], "routes": [], "mtu": mtu}
    for write_down, items, place in (
        (canonical_address, [(a,) for a in addresses], found["addresses"]),
        (route_text, routes, found["routes"]),
    ):
        for item in items:
            try:
                place.append(write_down(*item))
            except ValueError:
                place.append(" via ".join(part for part in item if part))
    return {key: sorted(value) if key != "mtu" else value for key, value in found.items()}


def sysctl(name):
    """The value of a kernel parameter, or None."""
    try:
        text = read(os.path.join("/proc/sys", name))
    except OSError:
        return None
    return None if text is None else " ".join(text.split())


def settings():
    """Kernel parameter to value, of those that two nodes should have alike."""
    found = {}
    for pattern in SETTINGS:
        for path in glob.glob(os.path.join("/proc/sys", pattern)):
            name = path[len("/proc/sys/") :]
            if NO_SETTINGS.search(name) or not os.path.isfile(path):
                continue
            value = sysctl(name)
            if value is not None:
                found[name] = value
    return found


def mode(path):
    """A file's mode as four digits, or nothing."""
    try:
        return "%04o" % stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return ""


def timezone():
    """The zone in which the node writes its log."""
    path = "/etc/localtime"
    target = os.path.realpath(path) if os.path.islink(path) else ""
    if target:
        return target.rsplit("/zoneinfo/", maxsplit=1)[-1]
    return (read("/etc/timezone") or "").strip()
