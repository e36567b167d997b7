# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has to be undone on a node so that it is as the record of before the first change says.

The module `removal` enters with the record; steps go out, in the order that is safe: nothing is
forwarded any more before the gate and the ruleset go, and the record itself goes last.  A look
changes nothing; each step compares the node with the record, never with what an earlier run did.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import glob
import ipaddress
import json
import os
import re

from ansible_collections.amaranten.ha.plugins.module_utils import _network_files as network_files
from ansible_collections.amaranten.ha.plugins.module_utils._files import read

STATE = "/var/lib/amaranten-ha"
RECORD = STATE + "/before.json"
SERVICES = (
    "amaranten-ha-heart.service",
    "amaranten-ha-sync.service",
    "amaranten-ha-gate.service",
    "amaranten-ha-ruleset.service",
)
UNITS = "/etc/systemd/system"
OURS = ("/usr/sbin/amaranten-ha", "/etc/amaranten-ha", "/usr/lib/amaranten-ha")
RUN = "/run/amaranten-ha*"
GATE_TABLE = "netdev amaranten_ha"
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
NETWORKD = "systemd-networkd.service"


class Step(object):
    """One thing to undo: what it is, and the commands or the function that do it.

    What a step before it has undone as well may fail; whatever is left is found afterwards.
    """

    def __init__(self, what, commands=(), call=None, may_fail=False):
        self.what = what
        self.commands = [list(words) for words in commands]
        self.call = call
        self.may_fail = may_fail


class Undo(object):
    """The node against its record."""

    def __init__(self, node, devices):
        self.node = node
        self.devices = devices
        text = read(RECORD)
        self.record = json.loads(text) if text else {}
        state = read(STATE + "/ruleset.json")
        self.tables = json.loads(state).get("tables", []) if state else []

    def steps(self):
        """All that differs but what is our own, in the order in which it is undone."""
        found = self.services()
        found += self.sysctls(FORWARDING)
        found += self.loaded_tables()
        found += self.unit_files()
        found += self.network()
        rest = [name for name in self.record.get("sysctls", {}) if name not in FORWARDING]
        found += self.sysctls(rest)
        found += self.files()
        return found + self.units()

    def services(self):
        """Heart first: it takes the shared addresses off, and its gate closes."""
        found = []
        for name in SERVICES:
            if self.node.unit(name)["ActiveState"] not in ("inactive", "failed", ""):
                found.append(Step("%s runs" % name, [["systemctl", "stop", name]]))
        return found

    def sysctls(self, names):
        """Kernel parameters that are not as they were, where the kernel has them."""
        found = []
        for name in names:
            old = self.record.get("sysctls", {}).get(name)
            path = os.path.join("/proc/sys", name)
            now = read(path)
            if old is not None and now is not None and now.strip() != old:
                found.append(
                    Step("%s is %s, was %s" % (name, now.strip(), old), call=(put, path, old))
                )
        return found

    def loaded_tables(self):
        """The gate's table, those of the ruleset, and what was loaded before and is gone."""
        live = self.live_tables()
        found = [
            Step(
                "table %s is loaded" % table,
                [["nft", "delete", "table"] + table.split(" ", 1)],
                may_fail=True,
            )
            for table in [GATE_TABLE] + self.tables
            if table in live
        ]
        before = blocks(self.record.get("network", {}).get("ruleset") or "")
        if self.node.output(["nft", "--version"]):
            for table, text in before.items():
                if table not in live or table in self.tables:
                    found.append(Step("table %s was loaded" % table, call=(self.load, text)))
        return found

    def live_tables(self):
        """The tables of the kernel, as "family name"."""
        listing = self.node.output(["nft", "list", "tables"])
        return [line[len("table ") :].strip() for line in listing.splitlines()]

    def load(self, text):
        """Load one table as it was listed."""
        path = STATE + "/restored.nft"
        put(path, text)
        self.node.output(["nft", "--file", path])
        os.unlink(path)

    def unit_files(self):
        """Our own units, and what enabled them."""
        paths = sorted(glob.glob(UNITS + "/amaranten-ha-*.service"))
        paths += sorted(glob.glob(UNITS + "/amaranten-ha-*.target"))
        found = []
        for path in paths:
            name = os.path.basename(path)
            found.append(
                Step(
                    "%s is installed" % name,
                    [["systemctl", "disable", "--quiet", name]] if path.endswith("service") else [],
                    (remove_path, path),
                )
            )
        if found:
            found.append(Step("systemd knows them", [["systemctl", "daemon-reload"]]))
        return found

    # Network --------------------------------------------------------------------------------

    def network(self):
        """Files of systemd-networkd, then addresses, routes and links as they were."""
        paths = sorted(glob.glob("%s/%s*" % (network_files.DIRECTORY, network_files.PREFIX)))
        if os.path.exists(network_files.MANAGER_PATH):
            paths.append(network_files.MANAGER_PATH)
        found = [Step("%s is there" % path, call=(remove_path, path)) for path in paths]
        if paths:
            # A reload takes nothing off that was configured with KeepConfiguration=yes.
            found.append(Step("networkd has read them", [["systemctl", "restart", NETWORKD]]))
        links = self.node.links()
        old_links = {
            link["ifname"]: link for link in self.record.get("network", {}).get("links", [])
        }
        for device in self.devices:
            if device in links and device in old_links:
                found += self.device(device, links[device], old_links[device])
        return found

    def device(self, name, link, old):
        """One device: its addresses, and whether it is up."""
        now, before = listed(link), listed(old)
        found = []
        for address in [each for each in now if each not in before]:
            words = ["ip", "address", "del", address, "dev", name]
            found.append(Step("%s has %s" % (name, address), [words], may_fail=True))
        for address in [each for each in before if each not in now]:
            words = ["ip", "address", "add", address, "dev", name]
            found.append(Step("%s lacks %s" % (name, address), [words], may_fail=True))
        if link.get("mtu") != old.get("mtu"):
            words = ["ip", "link", "set", name, "mtu", str(old["mtu"])]
            found.append(Step("the MTU of %s is %s" % (name, link.get("mtu")), [words]))
        if "UP" in link.get("flags", []) and "UP" not in old.get("flags", []):
            found.append(Step("%s is up" % name, [["ip", "link", "set", name, "down"]]))
        else:
            found += self.routes(name)
        return found

    def routes(self, name):
        """Static routes of a device that was up before."""
        recorded = self.record.get("network", {}).get("routes", [])
        before = [route_words(each) for each in recorded if each.get("dev") == name]
        found = []
        for family in ("-4", "-6"):
            listing = self.node.output(["ip", "-j", family, "route", "show", "dev", name])
            for each in json.loads(listing or "[]"):
                words = route_words(each)
                if each.get("protocol") == "static" and words not in before:
                    command = ["ip", family, "route", "del"] + words + ["dev", name]
                    what = "%s has a route to %s" % (name, words[0])
                    found.append(Step(what, [command], may_fail=True))
        return found

    # Files ----------------------------------------------------------------------------------

    def files(self):
        """Files that the record knows; one that a package brought since stays."""
        found = []
        for path, old in sorted(self.record.get("files", {}).items()):
            if old is None:
                owned = self.node.output(["dpkg-query", "-S", path])
                if os.path.lexists(path) and not owned:
                    found.append(Step("%s is there" % path, call=(remove_path, path)))
            elif "link" in old:
                if not os.path.islink(path) or os.readlink(path) != old["link"]:
                    found.append(Step("%s was a link" % path, call=(link, path, old["link"])))
            elif "content" in old and read(path) != old["content"]:
                mode = int(old["mode"], 8)
                found.append(Step("%s differs" % path, call=(put, path, old["content"], mode)))
        return found

    def units(self):
        """Units of others that were masked, enabled or stopped for the pair."""
        found = []
        for name, old in sorted(self.record.get("units", {}).items()):
            now = self.node.unit(name)
            masked = os.path.islink(os.path.join(UNITS, name)) and now["LoadState"] == "masked"
            if masked and old["LoadState"] != "masked":
                now = dict(now, UnitFileState="disabled")
                found.append(Step("%s is masked" % name, [["systemctl", "daemon-reload"]]))
            if old["UnitFileState"] == "enabled" and now["UnitFileState"] != "enabled":
                words = ["systemctl", "enable", "--quiet", name]
                found.append(Step("%s was enabled" % name, [words]))
            if old["UnitFileState"] == "disabled" and now["UnitFileState"] == "enabled":
                words = ["systemctl", "disable", "--quiet", name]
                found.append(Step("%s was disabled" % name, [words]))
            if old["ActiveState"] == "active" and now["ActiveState"] != "active":
                found.append(Step("%s ran" % name, [["systemctl", "start", name]]))
            if old["ActiveState"] == "inactive" and now["ActiveState"] == "active":
                found.append(Step("%s did not run" % name, [["systemctl", "stop", name]]))
        return found

    def directories(self):
        """The agent, its configuration, what it kept; the record of before goes with it, last."""
        paths = [path for path in OURS if os.path.lexists(path)] + sorted(glob.glob(RUN))
        folder = os.path.dirname(network_files.MANAGER_PATH)
        if os.path.isdir(folder) and set(os.listdir(folder)) <= {"amaranten-ha.conf"}:
            paths.append(folder)
        if os.path.exists(STATE):
            paths.append(STATE)
        return [Step("%s is there" % path, call=(remove_path, path)) for path in paths]


def blocks(ruleset):
    """ "family name" to the text of each table of a listing."""
    found = {}
    for match in re.finditer(r"(?ms)^table (\S+) (\S+) \{.*?^\}\n?", ruleset):
        found["%s %s" % match.group(1, 2)] = match.group(0)
    return found


def listed(link):
    """A device's addresses with prefixes, link-local ones left out."""
    return [
        str(ipaddress.ip_interface("%s/%s" % (item["local"], item["prefixlen"])))
        for item in link.get("addr_info", [])
        if "local" in item and item.get("scope") != "link"
    ]


def route_words(route):
    """A route as `ip route` takes it, without its device."""
    return [route["dst"]] + (["via", route["gateway"]] if route.get("gateway") else [])


def put(path, text, mode=None):
    """Write a file in place: parameters of the kernel know no other way."""
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    if mode is not None:
        os.chmod(path, mode)


def link(path, target):
    """Make a symbolic link in the place of whatever is there."""
    remove_path(path)
    os.symlink(target, path)


def remove_path(path):
    """Remove a file, a link or a whole directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            remove_path(os.path.join(path, name))
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)
