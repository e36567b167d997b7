# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the nodes are what the inventory says, judged before anything is changed on either.

Enters what `node_info` found on the nodes, leaves sentences.  A node that was not looked at,
because the play is limited to the other, is not judged.  No key comes here, only their hashes.
"""

from __future__ import annotations

import ipaddress
import os
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster, Interface
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

Found = t.Mapping[str, t.Any]
OUR_FILES = "/etc/systemd/network/05-amaranten-ha-"


def check_node(cluster: Cluster, node: str, found: Found, problems: Problems) -> None:
    """All that one node must be."""
    if not found.get("systemd"):
        problems.say(f"{node} does not run systemd, expected a Debian system that does.")
    if found.get("distribution", {}).get("id") not in ("debian", "ubuntu", "raspbian"):
        name = found.get("distribution", {}).get("id") or "unknown"
        problems.say(f"{node} runs {name}, expected Debian 12 or 13.")
    for interface in cluster.interfaces:
        check_device(interface, node, found, problems)
    check_strangers(cluster, node, found, problems)
    check_connection(cluster, node, found, problems)


def check_device(interface: Interface, node: str, found: Found, problems: Problems) -> None:
    """The device exists, and nobody else gives it addresses."""
    path = f"{interface.path}.nodes.{node}.device"
    name = interface.sides[node].device
    devices = found.get("devices", {})
    device = devices.get(name)
    if device is None:
        known = ", ".join(sorted(d for d in devices if d != "lo"))
        problems.add(path, name, f"a device of {node}, which has {known}")
        return
    if device.get("ppp"):
        problems.add(
            path, name, "no PPPoE device: its address belongs to one machine, not to a pair"
        )
    manager, file = device.get("manager"), device.get("manager_file", "")
    if manager == "systemd-networkd" and file.startswith(OUR_FILES):
        return
    where = f"{manager}{f' in {file}' if file else ''}"
    if device.get("dynamic"):
        problems.add(
            path, name,
            f"a device with fixed addresses, and this one gets them by DHCP from {where} "
            f"on {node}: take it out there, because DHCP gives an address to one machine, "
            "not to a pair",
        )  # fmt: skip
    elif manager in ("ifupdown", "NetworkManager") and interface.manage_addresses:
        remedy = (
            f"delete its stanza in {file}"
            if manager == "ifupdown"
            else f"run `nmcli device set {name} managed no`, for good in NetworkManager.conf"
        )
        problems.add(
            path, name,
            f"a device that {manager} leaves alone on {node}: {remedy}, or set "
            f"{interface.path}.manage_addresses to false",
        )  # fmt: skip
    elif manager == "systemd-networkd" and interface.manage_addresses:
        if os.path.basename(file) < os.path.basename(OUR_FILES):
            problems.add(
                path, name,
                f"a device for which no file of systemd-networkd comes before ours, and {file} "
                f"does on {node}: narrow its [Match], or give it a name that begins with 10",
            )  # fmt: skip


def check_strangers(cluster: Cluster, node: str, found: Found, problems: Problems) -> None:
    """No other device of the node is in a network of the pair."""
    ours = {interface.sides[node].device for interface in cluster.interfaces}
    for name, device in sorted(found.get("devices", {}).items()):
        if name in ours or name == "lo":
            continue
        for text in device.get("addresses", []):
            address = ipaddress.ip_interface(text)
            for interface in cluster.interfaces:
                if any(
                    n.version == address.version and address.ip in n for n in interface.networks()
                ):
                    problems.say(
                        f"{node} has {text} on {name}, expected no address of the network of "
                        f"{interface.path} on a device that is not in ha_cluster."
                    )


def check_connection(cluster: Cluster, node: str, found: Found, problems: Problems) -> None:
    """The controller does not come in by an address that the role would take off."""
    text = found.get("connection_address")
    if not text:
        return
    address = ipaddress.ip_address(text.split("%")[0])
    for interface in cluster.interfaces:
        side = interface.sides[node]
        listed = found.get("devices", {}).get(side.device, {}).get("addresses", [])
        here = address in [ipaddress.ip_interface(a).ip for a in listed]
        own = address in [a.ip for a in side.addresses]
        if interface.manage_addresses and here and not own:
            problems.say(
                f"The controller reaches {node} at {address} on {side.device}, expected "
                f"that address among {interface.path}.nodes.{node}.addresses, because all others "
                "are taken off."
            )


def check_timers(cluster: Cluster, node: str, found: Found, problems: Problems) -> None:
    """Timers get no shorter than what the running agent has measured allows.

    Slower ones than the present are welcome, even if they are still too fast.
    """
    margin, present = found.get("margin") or {}, found.get("timers") or {}
    wanted = cluster.timers or (margin.get("profiles") or {}).get(cluster.profile)
    if not wanted or not present or not margin.get("floor"):
        return
    if all(wanted[key] >= present[key] for key in ("dead_ms", "lease_ms")):
        return
    floor = margin["floor"]
    for key, lowest, why in (
        ("dead_ms", floor["dead_ms"], "3 times the worst answer to a probe"),
        ("dead_ms", wanted["beat_ms"] + floor["delay_ms"], "a beat and the worst delay of beats"),
        ("lease_ms", floor["lease_ms"], "3 times the worst lateness of heart"),
    ):
        if wanted[key] < lowest:
            path = f"timers.{key}" if cluster.timers else "profile"
            problems.say(
                f"ha_cluster.{path} makes {key} {wanted[key]}, expected at least {lowest:g}, "
                f"because {node} measured that ({why}); or set ha_force_timers."
            )


def check_keys(
    cluster: Cluster, wanted: Found, found: t.Mapping[str, Found], problems: Problems
) -> None:
    """A node never sends with a key that its peer does not have yet.

    Nodes are restarted one after the other: until the second one is, one of them works with the
    deployed keys and the other with the wanted ones.  Where one node has them already, the other
    has drifted or was left behind by a run that died, and is mended.
    """
    ring = {"ids": dict(wanted), "send_key": cluster.send_key}
    if any(state.get("key_ring") == ring for state in found.values()):
        return
    for node, state in found.items():
        deployed = state.get("key_ring") or {}
        old = deployed.get("ids") or {}
        if not old:
            continue
        send, old_send = str(cluster.send_key), str(deployed.get("send_key"))
        if old.get(send) != wanted.get(send):
            problems.say(
                f"ha_cluster.send_key is {send}, which {node} does not have yet, expected a key "
                "that it accepts already: add the new key first, deploy, and then send with it."
            )
        elif old_send in old and wanted.get(old_send) != old[old_send]:
            problems.say(
                f"ha_cluster.keys lacks the key {old_send} that {node} still sends with, expected "
                "it to stay until the new one has been deployed as send_key."
            )
