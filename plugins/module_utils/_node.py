# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node is and has, read from the kernel and from files.

Works on a bare Debian: /sys, `ip -j`, systemctl and dpkg-query, and each of them may be missing.
Reads only; whoever wants something changed goes elsewhere.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import glob
import json
import os
import re

from ansible_collections.amaranten.ha.plugins.module_utils._files import read

ARPHRD_PPP = "512"
UNIT_PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "NeedDaemonReload")


class Node(object):
    """This machine, through a module's `run_command`."""

    def __init__(self, run_command):
        self._run = run_command

    def output(self, arguments):
        """The output of a command, or nothing if it failed or is not installed."""
        try:
            code, out, dummy = self._run(arguments, handle_exceptions=False)
        except OSError:
            return ""
        return out if code == 0 else ""

    def answer(self, arguments):
        """The output of a command that tells by its exit code as well; nothing if there is none."""
        try:
            return self._run(arguments, handle_exceptions=False)[1]
        except OSError:
            return ""

    def distribution(self):
        """The node's system in three words."""
        text = read("/etc/os-release") or read("/usr/lib/os-release") or ""
        found = dict(re.findall(r'(?m)^([A-Z_]+)="?([^"\n]*)"?$', text))
        return {
            "id": found.get("ID", ""),
            "version": found.get("VERSION_ID", ""),
            "codename": found.get("VERSION_CODENAME", ""),
        }

    def release(self):
        """The codename of the node's system."""
        return self.distribution()["codename"]

    def links(self):
        """Device name to what `ip` says about its link and addresses."""
        found = json.loads(self.output(["ip", "-j", "address", "show"]) or "[]")
        return {item["ifname"]: item for item in found if "ifname" in item}

    def unit(self, name):
        """LoadState, UnitFileState and ActiveState of a unit."""
        out = self.output(["systemctl", "show", name, "--property=" + ",".join(UNIT_PROPERTIES)])
        found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {key: found.get(key, "") for key in UNIT_PROPERTIES}

    def packages(self, names):
        """Package name to its installed version, or to nothing."""
        installed = self.installed()
        return {name: installed.get(name, "") for name in names}

    def installed(self):
        """Each installed package with its version."""
        out = self.output(
            ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\\n"]
        )
        installed = {}
        for line in out.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[2].startswith("ii"):
                installed[parts[0].split(":")[0]] = parts[1]
        return installed

    def device(self, name, link):
        """Who looks after a device, and how it gets its addresses."""
        sys = os.path.join("/sys/class/net", name)
        found = {
            "mac": (read(os.path.join(sys, "address")) or "").strip(),
            "ppp": (read(os.path.join(sys, "type")) or "").strip() == ARPHRD_PPP,
            "addresses": addresses(link),
        }
        found["manager"], found["manager_file"], found["dynamic"] = self.manager(name)
        return found

    def manager(self, name):
        """(who manages the device, in which file, whether it asks for its addresses)."""
        for path, method in ifupdown(name):
            return "ifupdown", path, method not in ("static", "manual", "loopback")
        state = self.output(["nmcli", "-g", "GENERAL.STATE", "device", "show", name])
        if state and not state.startswith(("10 ", "20 ")):
            return "NetworkManager", "", False
        status = self.output(["networkctl", "--no-pager", "status", name])
        match = re.search(r"Network File: (\S+)", status)
        if match and match.group(1) != "n/a":
            path = match.group(1)
            parts = [path] + sorted(
                glob.glob("/etc/systemd/network/%s.d/*.conf" % os.path.basename(path))
            )
            text = "\n".join(read(part) or "" for part in parts)
            dynamic = re.search(r"(?im)^\s*DHCP\s*=\s*(yes|true|1|on|ipv4|ipv6|v4|v6)\s*$", text)
            return "systemd-networkd", path, dynamic is not None
        if client_runs(name):
            return "a DHCP client", "", True
        return "", "", False


def connection_address():
    """This machine's address at which SSH came in, or nothing.

    Asked of the processes above this one, because `sudo` keeps the variable to itself.
    """
    process = os.getpid()
    while process > 1:
        for item in (read("/proc/%d/environ" % process) or "").split("\0"):
            words = item.partition("=")[2].split() if item.startswith("SSH_CONNECTION=") else []
            if len(words) == 4:
                return words[2]
        status = dict(
            line.split(":", 1)
            for line in (read("/proc/%d/status" % process) or "").splitlines()
            if ":" in line
        )
        process = int(status.get("PPid", "0"))
    return ""


def addresses(link):
    """A device's addresses with prefixes, link-local ones left out."""
    return [
        "%s/%s" % (item["local"], item["prefixlen"])
        for item in link.get("addr_info", [])
        if "local" in item and item.get("scope") != "link"
    ]


def ifupdown(name):
    """(file, method) of each stanza of ifupdown for a device, if ifupdown is installed."""
    if not (os.path.exists("/sbin/ifup") or os.path.exists("/usr/sbin/ifup")):
        return
    paths = ["/etc/network/interfaces"] + sorted(glob.glob("/etc/network/interfaces.d/*"))
    for path in paths:
        for line in (read(path) or "").splitlines():
            words = line.split()
            if len(words) >= 4 and words[0] == "iface" and words[1] == name:
                yield path, words[3]


def client_runs(name):
    """Whether a DHCP client runs for a device."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        words = (read(path) or "").split("\0")
        program = os.path.basename(words[0])
        if program in ("dhclient", "dhcpcd", "udhcpc") and name in words[1:]:
            return True
    return False
