# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command that mends a difference: one per kind of path.

Pure: a path and what was found come in, one command goes out.  A command for a node begins with
`on NODE: `, one for the controller does not.  Nothing is run here.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.amaranten.ha.plugins.plugin_utils._drift import Value

DEPLOY = "ansible-playbook playbooks/site.yml"


def remedy(path: str, value: Value, devices: t.Mapping[str, str], node: str) -> str:
    """What to run; `...` and `|` stand where a person has to decide first."""
    section, _slash, rest = path.partition("/")
    name, _slash, last = rest.partition("/")
    if section in ("sysctl", "route", "package", "unit") and value.wanted is not None:
        known = ""
    else:
        device = devices.get(name, name)
        known = by_section(section, rest, device, last)
        if section == "sysctl":
            parts = "/".join(devices.get(part, part) for part in rest.split("/"))
            known = f"sysctl -w {parts}=..."
    if section == "unit" and path.endswith("/drop-ins"):
        known = f"systemctl revert {name}"
    elif section == "device" and rest in devices:
        known = f"ip link set {devices[rest]} up"
    elif section == "mac":
        known = f"ip link set {devices.get(name, name)} address {value.wanted}"
    elif section == "route" and value.wanted == "" and value.live:
        known = f"ip route delete {last} dev {devices.get(name, name)}"
    return f"on {node}: {known}" if known else f"{DEPLOY} --limit {node}"


def by_section(section: str, rest: str, device: str, last: str) -> str:
    """The command for what the inventory does not speak of."""
    name = rest.partition("/")[0]
    if section.startswith("route table"):
        return f"ip route delete {last} table {section.rpartition(' ')[2]}"
    known = {
        "table": f"nft delete table {rest}",
        "device": f"ip link delete {rest}",
        "rule": f"ip {rule_words(rest)}",
        "neighbour": f"ip neighbour delete {last} dev {device}",
        "offload": f"ethtool -K {device} {last.rpartition('/')[2]} on|off",
        "management": "ip address show",
        "route": f"ip route delete {last}" + (f" dev {device}" if device != name else ""),
        "package": f"apt-get install --only-upgrade {name}",
        "unit": f"systemctl disable {name}",
        "mtu": f"ip link set {device} mtu ...",
        "shared": "systemctl restart amaranten-ha-heart.service",
        "kernel": KERNEL.get(rest, f"modprobe {last}"),
    }
    return known.get(section, "")


KERNEL = {
    "release": "apt-get dist-upgrade, then reboot while it is passive",
    "conntrack_max": "sysctl -w net.netfilter.nf_conntrack_max=...",
    "timezone": "timedatectl set-timezone ...",
    "clock synchronised": "timedatectl timesync-status",
}


def rule_words(rest: str) -> str:
    """`-4 100: from 10.0.0.0/8 lookup 7` as the words that delete it."""
    family, _space, rule = rest.partition(" ")
    priority, _colon, selector = rule.partition(":")
    return f"{family} rule delete priority {priority} {selector.strip()}".strip()
