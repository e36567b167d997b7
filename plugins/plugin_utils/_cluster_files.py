# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the pair looks like to the template, to the agent and to the roles.

Enters a checked `Cluster`, leaves text and plain dicts.  Everything is a pure function of the pair,
so that both nodes and two runs agree; no key's value comes through here.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster_checks import route_interface
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster, Interface

DIGEST_LENGTH = 16
OUTSIDE_NAMES = ("wan", "outside", "internet", "uplink", "external", "public", "untrust")


def digest(value: object) -> str:
    """A short fingerprint of plain data."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def number_of(cluster: Cluster, node: str) -> int:
    """1 for the primary, 2 for the backup."""
    return 1 if node == cluster.primary else 2


def config_digest(cluster: Cluster) -> str:
    """The fingerprint of the pair's configuration, the same on both nodes.

    Without the keys: they change in service, step by step, and the nodes compare them apart.
    """
    return digest(
        {
            "id": cluster.id,
            "name": cluster.name,
            "profile": [cluster.profile, cluster.timers] if cluster.timers else cluster.profile,
            "nodes": cluster.nodes,
            "interfaces": [
                [i.name, i.role, sorted(map(str, i.shared)), i.manage_addresses, i.mtu, i.monitor]
                + [
                    [node, i.sides[node].device, sorted(map(str, i.sides[node].addresses))]
                    for node in cluster.nodes
                ]
                for i in cluster.interfaces
            ],
            "routes": [[str(r.to), str(r.via), r.interface] for r in cluster.routes],
            "dns": [cluster.dns.servers, cluster.dns.search],
            "port": cluster.replication_port,
            "start": [cluster.wait_for_peer, cluster.damping],
        }
        | ({"sets": cluster.replicate_sets} if cluster.replicate_sets else {})
    )


def context(cluster: Cluster, node: str) -> dict[str, t.Any]:
    """The variable `ha` of the operator's template."""
    peer = cluster.peer_of(node)
    return {
        "cluster": {
            "id": cluster.id,
            "name": cluster.name,
            "profile": cluster.profile,
            "replication_port": cluster.replication_port,
        },
        "node": {"name": node, "number": number_of(cluster, node)},
        "peer": {"name": peer, "number": number_of(cluster, peer)},
        "interfaces": {i.name: interface_context(cluster, i, node) for i in cluster.interfaces},
        "outside": outside(cluster),
    }


def outside(cluster: Cluster) -> str | None:
    """The interface that leads to the internet: by a default route, else by its name."""
    services = [i.name for i in cluster.interfaces if i.role == "service"]
    for route in cluster.routes:
        interface = route_interface(cluster, route)
        if route.is_default and interface is not None and interface.name in services:
            return interface.name
    return next((name for name in OUTSIDE_NAMES if name in services), None)


def interface_context(cluster: Cluster, interface: Interface, node: str) -> dict[str, t.Any]:
    """One interface as the template sees it: addresses without and networks with their prefix."""
    peer = cluster.peer_of(node)
    behind = [
        r.to
        for r in cluster.routes
        if not r.is_default and route_interface(cluster, r) is interface
    ]
    shared = [a for a in interface.shared if not a.ip.is_link_local]
    own = interface.sides[node].addresses
    theirs = interface.sides[peer].addresses
    found: dict[str, t.Any] = {"name": interface.name, "role": interface.role}
    found["device"] = interface.sides[node].device
    for version in (4, 6):
        found[f"shared{version}"] = [str(a.ip) for a in shared if a.version == version]
        found[f"own{version}"] = [str(a.ip) for a in own if a.version == version]
        found[f"peer{version}"] = [str(a.ip) for a in theirs if a.version == version]
        networks = (*interface.networks(), *behind)
        found[f"networks{version}"] = [str(n) for n in networks if n.version == version]
    return found


def defines(cluster: Cluster, node: str) -> str:
    """The lines that come before the operator's ruleset: `define lan = "enp1s0"`."""
    return "".join(f'define {i.name} = "{i.sides[node].device}"\n' for i in cluster.interfaces)


def ruleset_digest(cluster: Cluster, rulesets: t.Mapping[str, str]) -> str:
    """The fingerprint of the rendered rulesets of both nodes, the same on both nodes."""
    return digest([rulesets[node] for node in cluster.nodes])


def digests_toml(cluster: Cluster, rulesets: t.Mapping[str, str]) -> str:
    """digests.toml, the same on both nodes: the agents compare them in every heartbeat."""
    return (
        "# Written by Ansible from ha_cluster: change it there.\n"
        f"config = {quoted(config_digest(cluster))}\n"
        f"ruleset = {quoted(ruleset_digest(cluster, rulesets))}\n"
    )


def agent_toml(cluster: Cluster, node: str) -> str:
    """agent.toml of a node: all that its agent knows about the pair, without secrets."""
    peer = cluster.peer_of(node)
    lines = [
        "# Written by Ansible from ha_cluster: change it there.",
        "",
        "[cluster]",
        f"id = {cluster.id}",
        f"name = {quoted(cluster.name)}",
        f"profile = {quoted(cluster.profile)}",
        f"wait_for_peer = {boolean(cluster.wait_for_peer)}",
        f"damping = {boolean(cluster.damping)}",
    ]
    if cluster.timers:
        lines += ["", "[timers]", *(f"{key} = {value}" for key, value in cluster.timers.items())]
    for table, name in (("node", node), ("peer", peer)):
        lines += [
            "",
            f"[{table}]",
            f"name = {quoted(name)}",
            f"number = {number_of(cluster, name)}",
        ]
    for interface in cluster.interfaces:
        lines += [
            "",
            "[[interface]]",
            f"name = {quoted(interface.name)}",
            f"link = {interface.link}",
            f"role = {quoted(interface.role)}",
            f"device = {quoted(interface.sides[node].device)}",
            f"own = {quoted([str(a) for a in interface.sides[node].addresses])}",
            f"peer_own = {quoted([str(a) for a in interface.sides[peer].addresses])}",
            f"shared = {quoted([str(a) for a in interface.shared])}",
            f"monitor = {boolean(interface.monitor)}",
        ]
    gateways = list(dict.fromkeys(str(r.via) for r in cluster.routes if r.is_default))
    lines += ["", "[replication]", f"port = {cluster.replication_port}"]
    if cluster.replicate_sets:
        lines.append(f"sets = {quoted(list(cluster.replicate_sets))}")
    lines += ["", "[network]", f"gateways = {quoted(gateways)}"]
    return "\n".join(lines) + "\n"


def quoted(value: str | list[str]) -> str:
    """A TOML string or list of strings; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=True)


def boolean(value: bool) -> str:
    """A TOML boolean."""
    return "true" if value else "false"


def networks_of(cluster: Cluster, node: str) -> list[dict[str, t.Any]]:
    """What the role writes for the network manager: one entry per managed interface."""
    found = []
    for interface in cluster.interfaces:
        if not interface.manage_addresses:
            continue
        own = [str(a) for a in interface.sides[node].addresses]
        versions = {a.version for a in interface.sides[node].addresses}
        # Shared addresses are put on as /32 and /128: where no own address brings the network's
        # route, the file does.
        on_link = [
            str(a.network)
            for a in interface.shared
            if a.version not in versions and not a.ip.is_link_local
        ]
        routes = [
            {"to": str(r.to), "via": str(r.via), "on_link": r.via.version not in versions}
            for r in cluster.routes
            if route_interface(cluster, r) is interface
        ]
        found.append(
            {
                "name": interface.name,
                "device": interface.sides[node].device,
                "addresses": own,
                "on_link": list(dict.fromkeys(on_link)),
                # Without an own IPv4 address the shared one is the last of its device when it goes,
                # and the kernel takes all IPv4 routes of such a device away.
                "placeholder": 4 not in versions and any(":" not in n for n in on_link),
                "routes": routes,
                "mtu": interface.mtu,
            }
        )
    return found


def wiring_of(cluster: Cluster, node: str) -> list[dict[str, t.Any]]:
    """What the wire probe needs of each interface: one entry each, gateways among neighbours."""
    found = []
    for interface in cluster.interfaces:
        gateways = [r.via for r in cluster.routes if route_interface(cluster, r) is interface]
        found.append(
            {
                "name": interface.name,
                "link": interface.link,
                "device": interface.sides[node].device,
                "mtu": interface.mtu,
                "own": [str(a) for a in interface.sides[node].addresses],
                "peer_own": [str(a) for a in interface.sides[cluster.peer_of(node)].addresses],
                "shared": [str(a) for a in interface.shared],
                "networks": [str(n) for n in interface.networks()],
                "neighbours": [str(a) for a in dict.fromkeys((*interface.neighbours, *gateways))],
            }
        )
    return found


def facts(cluster: Cluster, node: str) -> dict[str, t.Any]:
    """The normalised pair for the roles' tasks, seen from a node; empty for the controller."""
    devices = {n: [i.sides[n].device for i in cluster.interfaces] for n in cluster.nodes}
    found: dict[str, t.Any] = {
        "id": cluster.id,
        "name": cluster.name,
        "profile": cluster.profile,
        "key_ids": list(cluster.key_ids),
        "send_key": cluster.send_key,
        "primary": cluster.primary,
        "backup": cluster.backup,
        "nodes": list(cluster.nodes),
        "devices": devices,
        "service_interfaces": [i.name for i in cluster.interfaces if i.role != "sync"],
        "own_addresses": [
            str(a.ip)
            for i in cluster.interfaces
            for n in cluster.nodes
            for a in i.sides[n].addresses
        ],
        "config_digest": config_digest(cluster),
        "dns": {"servers": list(cluster.dns.servers), "search": list(cluster.dns.search)},
        "replication_port": cluster.replication_port,
    }
    if node in cluster.nodes:
        found["node"] = node
        found["number"] = number_of(cluster, node)
        found["wiring"] = wiring_of(cluster, node)
        found["peer"] = cluster.peer_of(node)
        found["networks"] = networks_of(cluster, node)
        found["interfaces"] = {
            i.name: {
                "device": i.sides[node].device,
                "addresses": [str(a) for a in i.sides[node].addresses],
                "shared": [str(a) for a in i.shared],
                "managed": i.manage_addresses,
            }
            for i in cluster.interfaces
        }
        found["ha"] = context(cluster, node)
    return found
