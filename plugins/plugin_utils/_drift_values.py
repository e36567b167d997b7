# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was observed on a node, as values by path that can be compared.

Pure: enters what `node_info` returned for one node, leaves `Value`s whose paths have logical names
and are therefore the same on both nodes.  What may differ between two sound nodes (their own
addresses, another brand of network card, counters) is given no value here.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    PRESENT,
    RULESET_PATH,
    fingerprint,
    flat,
    sysctl_path,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift import ABSENT, Value
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_remedies import DEPLOY, remedy

Found = t.Mapping[str, t.Any]
GATE = "netdev amaranten_ha"
TOGETHER = ("ip_forward", "conf/all/forwarding")


def values(found: Found, node: str, release: str) -> dict[str, Value]:
    """All values of one node; `release` is the agent's version that would be deployed."""
    pair = _Pair(found, node)
    result = dict(configured(pair, release))
    result.update(rulesets(pair))
    result.update(addresses(pair))
    result.update(strangers(pair))
    result.update(hardware(pair))
    result.update(kernel(pair))
    result.update(services(pair))
    return {
        path: value
        if value.remedy
        else Value(
            value.wanted, value.disk, value.live, value.as_deployed, value.stale,
            remedy(path, value, pair.devices_by_name, node), value.note,
        )
        for path, value in result.items()
    }  # fmt: skip


class _Pair:
    """What all functions of this room look at."""

    def __init__(self, found: Found, node: str) -> None:
        self.found = found
        self.node = node
        self.facts: Found = found["facts"]
        self.interfaces: t.Mapping[str, Found] = found["interfaces"]
        self.devices_by_name = {name: item["device"] for name, item in self.interfaces.items()}
        self.names = {device: name for name, device in self.devices_by_name.items()}
        recorded = self.facts.get("deployed") or {}
        self.record: Found | None = recorded.get("values") if recorded else None
        self.macs: Found = recorded.get("macs", {}) if recorded else {}

    def as_deployed(self, path: str, has: str) -> bool | None:
        """Whether the node has what the last deployment asked for."""
        if self.record is None:
            return None
        if path not in self.record:
            return has == ABSENT
        return has != ABSENT and fingerprint(has) == self.record[path]


def configured(pair: _Pair, release: str) -> t.Iterator[tuple[str, Value]]:
    """Everything that the roles' input has, on the disk and running."""
    wanted = flat(dict(pair.found["wanted"], release=release), pair.names)
    disk = flat(pair.found["disk"], pair.names)
    live = flat(pair.found["live"], pair.names)
    for path in sorted({*wanted, *disk, *live}):
        section = path.split("/")[0]
        if section == "file" and covered(path, pair):
            continue
        if section == "mtu" and path not in wanted:
            yield path, Value(live=live.get(path))
            continue
        has_file = section in ("sysctl", "address", "route", "file", "key", "mtu", "agent")
        has_file = has_file or (section == "unit" and not path.endswith("/state"))
        on_disk = disk.get(path, ABSENT) if has_file else None
        runs = section in ("package", "sysctl", "address", "route", "mtu")
        running = live.get(path, ABSENT) if runs else None
        if section == "unit" and path.endswith("/state"):
            # The file of a unit that should run says so, if it is enabled.
            name = path.split("/")[1]
            enabled = f"unit/{name}/enabled"
            running = live.get(path, ABSENT)
            # Whether it starts at the next boot is told there.
            on_disk = "active" if running or disk.get(enabled) == wanted.get(enabled) else ABSENT
            if path not in wanted:
                continue
        has = on_disk if on_disk is not None else running
        yield (
            path,
            Value(
                wanted=wanted.get(path, ABSENT),
                disk=on_disk,
                live=running,
                as_deployed=pair.as_deployed(path, has or ABSENT),
            ),
        )


def covered(path: str, pair: _Pair) -> bool:
    """Whether other values say more about a file than that its text differs."""
    name = path[len("file") :]
    wanted, disk = pair.found["wanted"]["files"].get(name), pair.found["disk"]["files"].get(name)
    if wanted == disk:
        return False
    if name == RULESET_PATH:
        tables = pair.found["ruleset"]
        return bool(disk) and tables["wanted"]["tables"] != tables["disk"]["tables"]
    if wanted is None or disk is None:
        return False
    if name == pair.found["sysctl_path"]:
        return pair.found["wanted"]["sysctls"] != pair.found["disk"]["sysctls"]
    if name.endswith(".network"):
        interface = re.sub(r".*05-amaranten-ha-(.*)\.network", r"\1", name)
        mine = pair.found["wanted"]["interfaces"].get(interface)
        return bool(mine != pair.found["disk"]["interfaces"].get(interface))
    return False


def rulesets(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """Each table as this kernel lists it: wanted, of the file, and the one that filters."""
    found = pair.found["ruleset"]
    if found["wanted"]["problem"]:
        yield (
            "ruleset",
            Value(wanted="a ruleset that this kernel takes", live=found["wanted"]["problem"]),
        )
        return
    wanted, live = found["wanted"]["tables"], found["live"]["tables"]
    disk = found["disk"]["tables"]
    text = pair.found["disk"]["files"].get(RULESET_PATH, ABSENT)
    as_deployed = pair.as_deployed("file" + RULESET_PATH, text)
    for table in sorted({*wanted, *disk}):
        yield (
            f"ruleset/{table}",
            Value(
                wanted=wanted.get(table, ABSENT),
                disk=disk.get(table, ABSENT),
                live=live.get(table, ABSENT),
                as_deployed=as_deployed,
            ),
        )
    for table in sorted(set(live) - {*wanted, *disk, GATE}):
        yield f"table/{table}", Value(wanted=ABSENT, live=live[table])


def addresses(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """The shared addresses: all on an active node, none on any other."""
    role = pair.facts["role"]
    if role not in ("active", "passive", "starting", "fault"):
        return
    for name, item in pair.interfaces.items():
        device = pair.facts["devices"].get(item["device"], {})
        have = {
            entry["address"].split("/")[0]
            for entry in device.get("addresses", [])
            if entry["address"].endswith(("/32", "/128"))
        }
        for shared in item["shared"]:
            ip = shared.split("/")[0]
            wanted = PRESENT if role == "active" else ABSENT
            note = f"is {role} and {'lacks' if wanted else 'has'} the shared address {ip}"
            yield (
                f"shared/{name}/{ip}",
                Value(
                    wanted=wanted,
                    disk=wanted,
                    live=PRESENT if ip in have else ABSENT,
                    note=note,
                ),
            )


def strangers(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """Devices, routes, rules and neighbours that nobody asked for."""
    management = management_device(pair)
    for device, item in pair.facts["devices"].items():
        if device in pair.names or device == management:
            continue
        spare = item["hardware"] and not any(a["scope"] != "link" for a in item["addresses"])
        if not (spare and not item["up"]):
            listed = " ".join(a["address"] for a in item["addresses"] if a["scope"] != "link")
            state = "up" if item["up"] else "down"
            yield f"device/{device}", Value(wanted=ABSENT, live=f"{state} {listed}".strip())
    outside: dict[str, int] = {}
    for entry in pair.facts["devices"].get(management, {}).get("addresses", []):
        if entry["scope"] != "link":
            family = "ipv6" if ":" in entry["address"] else "ipv4"
            outside[family] = outside.get(family, 0) + 1
    for family, count in outside.items():
        yield f"management/{family} addresses", Value(live=str(count))
    for route in pair.facts["routes"]:
        text = " ".join(
            part
            for part in (
                route["type"] if route["type"] != "unicast" else "",
                route["to"],
                f"via {route['via']}" if route["via"] else "",
            )
            if part
        )
        name = pair.names.get(route["device"], "")
        managed = name and pair.interfaces[name]["managed"]
        if route["table"] == "main" and managed and route["type"] == "unicast":
            continue
        where = name or ("management" if route["device"] == management else route["device"])
        if route["table"] != "main":
            yield f"route table {route['table']}/{where}/{text}", Value(wanted=ABSENT, live=PRESENT)
        else:
            yield f"route/{where}/{text}", Value(live=PRESENT)
    for rule in pair.facts["rules"]:
        yield f"rule/{rule}", Value(wanted=ABSENT, live=PRESENT)
    for entry in pair.facts["neighbours"]:
        name = pair.names.get(entry["device"], "management")
        yield f"neighbour/{name}/{entry['address']}", Value(wanted=ABSENT, live=entry["mac"])


def management_device(pair: _Pair) -> str:
    """The device outside the pair by which the controller comes in, if it can be told."""
    address = pair.found["node"]["connection_address"].split("%")[0]
    for device, item in pair.facts["devices"].items():
        if address and device not in pair.names:
            if address in [entry["address"].split("/")[0] for entry in item["addresses"]]:
                return device
    return ""


def hardware(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """Hardware addresses as they were deployed, and offloads where both have the same driver."""
    for name, device in pair.devices_by_name.items():
        item = pair.facts["devices"].get(device)
        yield f"device/{name}", Value(wanted="up", live=device_state(item))
        if item is None:
            continue
        if pair.macs.get(device):
            yield (
                f"mac/{name}",
                Value(wanted=pair.macs[device], disk=pair.macs[device], live=item["mac"]),
            )
        for offload, state in item["offloads"].items():
            yield f"offload/{name}/{item['driver'] or 'virtual'}/{offload}", Value(live=state)


def device_state(item: Found | None) -> str:
    """A device of the pair in one word."""
    if item is None:
        return ABSENT
    return "up" if item["up"] else "down"


def kernel(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """What the kernels have beside the roles' parameters; compared with each other."""
    facts = pair.facts
    forwarding: t.Mapping[str, str] = facts["forwarding"] if facts["role"] else {}
    whole = [name for name in forwarding if name.endswith(TOGETHER)]
    off = any(forwarding[name] != "1" for name in whole)
    for name, value in forwarding.items():
        if name in whole or not off:
            yield (
                sysctl_path(name, pair.names),
                Value(
                    wanted="1",
                    disk="1",
                    live=value,
                    note=f"has {value} in the kernel, expected 1: the agent sets it at its start",
                    remedy=f"on {pair.node}: sysctl -w {name}=1",
                ),
            )
    configured_too = {*pair.found["wanted"]["sysctls"], *forwarding}
    for name, value in facts["settings"].items():
        parts = name.split("/")
        if name in configured_too:
            continue
        if len(parts) == 5 and parts[2] == "conf" and parts[3] not in ("all", "default", "lo"):
            if parts[3] not in pair.names:
                continue
        yield sysctl_path(name, pair.names), Value(live=value)
    yield "kernel/release", Value(live=facts["kernel"])
    yield "kernel/conntrack_max", Value(live=facts["conntrack_max"])
    yield "kernel/timezone", Value(live=facts["timezone"])
    yield "kernel/clock synchronised", Value(live=facts["clock_synchronised"])
    for name in facts["modules"]:
        yield f"kernel/module/{name}", Value(live="loaded")


def services(pair: _Pair) -> t.Iterator[tuple[str, Value]]:
    """Versions, units beside ours, drop-ins, the keys' mode, and what runs with older files."""
    facts = pair.facts
    for name, version in facts["versions"].items():
        if version:
            yield f"package/{name}/version", Value(live=version)
    if facts["version"]:
        yield "agent/running version", Value(live=facts["version"])
    if facts["keys_mode"]:
        yield "key/mode", Value(wanted="0600", disk=facts["keys_mode"])
    ours = pair.found["wanted"]["units"]
    for name in facts["enabled_units"]:
        if name not in ours:
            yield f"unit/{name}/enabled", Value(live="enabled")
    for name in facts["failed_units"]:
        yield f"unit/{name}/failed", Value(wanted=ABSENT, live="failed", remedy=_failed(pair, name))
    for name, paths in facts["drop_ins"].items():
        yield f"unit/{name}/drop-ins", Value(wanted=ABSENT, disk=paths)
    for name, text in facts["stale"]:
        yield f"agent/{name}", Value(stale=text, remedy=DEPLOY)


def _failed(pair: _Pair, name: str) -> str:
    return f"on {pair.node}: systemctl status {name}"
