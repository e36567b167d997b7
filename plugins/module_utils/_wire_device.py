# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The devices that a wire probe speaks on: what the kernel knows of them, and lending them.

A device that is down and that nobody uses is brought up for the probe and put back as it was, by
a guard that also does so when the probe is killed.  A device that is in use, in whatever way, is
never changed, and no address is ever put on or taken off.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import json
import os
import select
import signal

from ansible_collections.amaranten.ha.plugins.module_utils._files import read

SYS = "/sys/class/net"
HEART = "/run/amaranten-ha/heart.sock"
ETHERNET = "1"
GUARD_S_MAX = 180


class Devices(object):
    """All devices of the node, as `ip` described them once."""

    def __init__(self, run_command):
        code, out, err = run_command(["ip", "-j", "-d", "address", "show"])
        if code != 0:
            raise OSError("ip -j -d address show failed: %s" % err.strip())
        self.links = {item["ifname"]: item for item in json.loads(out) if "ifname" in item}

    def facts(self, name):
        """What is known of a device; only `present` if it does not exist."""
        link = self.links.get(name)
        if link is None:
            return {"device": name, "present": False}
        folder = os.path.join(SYS, name)
        driver = os.path.join(folder, "device", "driver")
        return {
            "device": name,
            "present": True,
            "mac": (read(os.path.join(folder, "address")) or "").strip(),
            "ethernet": (read(os.path.join(folder, "type")) or "").strip() == ETHERNET,
            "up": "UP" in link.get("flags", []),
            "mtu": link.get("mtu", 0),
            "master": link.get("master", ""),
            "driver": os.path.basename(os.readlink(driver)) if os.path.islink(driver) else "",
            "kind": link.get("linkinfo", {}).get("info_kind", ""),
        }

    def addresses(self, name):
        """Addresses of a device with their scope and flags."""
        return self.links.get(name, {}).get("addr_info", [])

    def vlans(self, name):
        """The VLAN numbers that have devices of their own on this one."""
        return {
            link["linkinfo"]["info_data"]["id"]
            for link in self.links.values()
            if link.get("link") == name and link.get("linkinfo", {}).get("info_kind") == "vlan"
        }

    def in_use(self, name):
        """Why nothing about the device may be changed, or an empty text."""
        addresses = [a for a in self.addresses(name) if "local" in a and a.get("scope") != "link"]
        if os.path.exists(HEART):
            return "the agent runs on this node"
        if any(a.get("family") == "inet" for a in self.addresses(name)) or addresses:
            return "it has addresses, for which it would answer"
        if self.links[name].get("master"):
            return "it belongs to %s" % self.links[name]["master"]
        if any(link.get("link") == name for link in self.links.values()):
            return "other devices stand on it"
        return ""


def carrier(name):
    """Whether a device that is up has a carrier."""
    try:
        return (read(os.path.join(SYS, name, "carrier")) or "").strip() == "1"
    except OSError:
        return False  # what the kernel says of a device that is down


def speed(name):
    """(megabits per second or 0, duplex or nothing), where the kernel knows them."""
    try:
        found = int((read(os.path.join(SYS, name, "speed")) or "0").strip())
        duplex = (read(os.path.join(SYS, name, "duplex")) or "").strip()
    except (OSError, ValueError):
        return 0, ""
    return max(found, 0), "" if duplex == "unknown" else duplex


class Loan(object):
    """Devices that are up, or take larger frames, only while the probe runs."""

    def __init__(self, run_command):
        self.run = run_command
        self.back = []
        self.guard = 0
        self.pipe = -1

    def ready(self, name, up, mtu, facts):
        """Bring a device up and let it take frames of `mtu`, where it is asked for."""
        setting = "/proc/sys/net/ipv6/conf/%s/disable_ipv6" % name
        if up and (read(setting) or "").strip() == "0":
            # Up without a word: no address of its own, no router asked, nothing autoconfigured.
            self.back.append((setting, "0"))
        if mtu:
            self.back.append(["ip", "link", "set", "dev", name, "mtu", str(facts["mtu"])])
        if up:
            self.back.append(["ip", "link", "set", "dev", name, "down"])

    def begin(self, names, mtus):
        """Change the devices; from the first moment the guard knows how to undo it."""
        if not self.back:
            return
        self.watch()
        for step in self.back:
            if isinstance(step, tuple):
                put(step[0], "1")
        for name, mtu in mtus.items():
            self.run(["ip", "link", "set", "dev", name, "mtu", str(mtu)])
        for name in names:
            self.run(["ip", "link", "set", "dev", name, "up"])

    def watch(self):
        """Leave a process behind that puts everything back when this one is gone, however."""
        reading, self.pipe = os.pipe()
        self.guard = os.fork()
        if self.guard:
            os.close(reading)
            return
        try:
            os.setsid()
            # Whoever started this one waits for the end of its output.
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            os.close(self.pipe)
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            select.select([reading], [], [], GUARD_S_MAX)
            self.undo()
        finally:
            os._exit(0)

    def undo(self):
        """Put everything back, the last change first."""
        for step in reversed(self.back):
            if isinstance(step, tuple):
                put(*step)
            else:
                self.run(step)

    def end(self):
        """Have the guard put everything back, and wait until it has."""
        if self.guard:
            os.close(self.pipe)
            os.waitpid(self.guard, 0)
            self.guard = 0


def put(path, value):
    """Write a kernel parameter; the device may be gone, and then there is nothing to put back."""
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError:
        return False
    return True
