# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From two nodes with keepalived and conntrackd to a proposed `ha_cluster`.

Pure: the text of both files and the addresses of both nodes come in; a proposal goes out, and a
sentence for every line that has no place in it, with what to do instead.  The proposal is for a
person to read and finish: there is a key to make and perhaps an interface to rename.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster_values import NFT_WORDS
from ansible_collections.amaranten.ha.plugins.plugin_utils._keepalived import Statement, parse

Found = t.Mapping[str, t.Any]
KEEPALIVED = "keepalived.conf"
CONNTRACKD = "conntrackd.conf"
KEY = "{{ vault_ha_key }}"
PRIORITY = 100

# What a statement of an instance becomes. Nothing is said of those that need no word.
SILENT = frozenset(
    """interface virtual_router_id priority state virtual_ipaddress virtual_ipaddress_excluded
    virtual_routes version native_ipv6 debug dont_track_primary accept""".split()
)
INSTEAD = {
    "advert_int": "set `profile` (docs/roles.md): it sets beats and detection together",
    "authentication": "heartbeats are sealed with `keys`: make one, as said in docs/inventory.md",
    "nopreempt": "nothing to do: there is no preemption",
    "preempt_delay": "leave it out: there is no preemption, a node that comes back stays passive",
    "track_interface": "a broken interface alone is no reason to move; see docs/limits.md",
    "track_script": "there are no scripts that move the role: let monitoring run "
    "`amaranten-ha switchover`",
    "unicast_peer": "leave it out: heartbeats are frames of their own on every interface",
    "unicast_src_ip": "leave it out: heartbeats are frames of their own on every interface",
    "mcast_src_ip": "leave it out: heartbeats are frames of their own on every interface",
    "use_vmac": "there is no virtual MAC: a take-over is announced (GARP, NA) for three seconds",
    "smtp_alert": "let monitoring run `amaranten-ha check`",
    "virtual_rules": "put the policy rules into the system of both nodes; drift.yml names them",
}
NOTIFY = "hang a unit on amaranten-ha-active.target or amaranten-ha-passive.target"
GARP = "nothing to do: announcements are repeated for three seconds"


@dataclasses.dataclass(slots=True)
class Instance:
    """One vrrp_instance of one node."""

    node: str
    name: str
    line: int
    device: str
    router: str
    priority: int
    shared: list[str]
    routes: list[dict[str, str]]


@dataclasses.dataclass(slots=True)
class Proposal:
    """What could be carried over, and what could not."""

    cluster: dict[str, t.Any]
    notes: list[str]


def propose(nodes: t.Mapping[str, Found]) -> Proposal:
    """The proposal for two nodes, from what `migration_info` found on them."""
    notes: list[str] = []
    instances = [
        instance for node, found in nodes.items() for instance in instances_of(node, found, notes)
    ]
    sync = {node: sync_device(node, found, notes) for node, found in nodes.items()}
    names = list(nodes)
    if len(names) != 2:
        notes.append(f"{len(names)} nodes were read, expected two: this product is a pair.")
    best = {
        node: max((i.priority for i in instances if i.node == node), default=0) for node in names
    }
    order = sorted(names, key=lambda node: -best[node])
    leaders = {
        router: max((i for i in instances if i.router == router), key=lambda i: i.priority).node
        for router in sorted({i.router for i in instances})
    }
    other = [router for router, node in leaders.items() if node != order[0]]
    if other:
        notes.append(
            f"virtual_router_id {', '.join(other)} prefers another node than the others do, as for "
            f"load sharing, expected one active node for all: {order[0]} is the primary here."
        )
    interfaces = interfaces_of(instances, nodes, notes)
    interfaces["sync"] = {"role": "sync", "nodes": {}}
    for node, device in sync.items():
        interfaces["sync"]["nodes"][node] = side(device or "...", nodes[node], set())
    if not all(sync.values()):
        notes.append(
            "no dedicated link of conntrackd was found on each node, expected one interface for "
            "replication: fill in interfaces.sync."
        )
    ids = [int(i.router) for i in instances if i.router.isdigit() and int(i.router)]
    cluster: dict[str, t.Any] = {
        "id": ids[0] if ids else 1,
        "name": "edge",
        "keys": {1: KEY},
        "primary": order[0] if order else "...",
        "backup": order[1] if len(order) > 1 else "...",
        "interfaces": interfaces,
    }
    routes = []
    for instance in instances:
        routes += [route for route in instance.routes if route not in routes]
    if routes:
        cluster["routes"] = routes
    return Proposal(cluster, list(dict.fromkeys(notes)))


# keepalived ------------------------------------------------------------------------------------


def instances_of(node: str, found: Found, notes: list[str]) -> t.Iterator[Instance]:
    """The instances of one node; what else is in the file goes to the notes."""
    for statement in parse(found.get("keepalived") or ""):
        where = f"{node} {KEEPALIVED} line {statement.line}"
        name = statement.name.lower()
        if name == "vrrp_instance":
            yield instance_of(node, statement, notes)
        elif name == "global_defs":
            for child in statement.block or ():
                if child.name.startswith(("smtp", "notification", "script", "enable_script")):
                    place = f"{node} {KEEPALIVED} line {child.line}"
                    notes.append(f"{place}: `{child.name}` is not carried over.")
        elif name == "vrrp_sync_group":
            notes.append(f"{where}: all interfaces move together, nothing to do for `{name}`.")
            for child in statement.block or ():
                if child.name.startswith("notify"):
                    place = f"{node} {KEEPALIVED} line {child.line}"
                    notes.append(f"{place}: `{child.name}` is not carried over: {NOTIFY}.")
        elif name in ("virtual_server", "virtual_server_group"):
            notes.append(
                f"{where}: `{name}` is load balancing, which this product does not do, expected "
                "it to stay with another program."
            )
        elif name == "vrrp_script":
            notes.append(f"{where}: `{name}` is not carried over: {INSTEAD['track_script']}.")
        elif name == "include":
            notes.append(
                f"{where}: `include {statement.value}` was not read: put it in, run again."
            )
        else:
            notes.append(f"{where}: `{statement.name}` is not known here and is not carried over.")


def instance_of(node: str, statement: Statement, notes: list[str]) -> Instance:
    """One instance."""
    found = Instance(node, statement.value, statement.line, "", "", PRIORITY, [], [])
    for child in statement.block or ():
        where = f"{node} {KEEPALIVED} line {child.line}"
        name = child.name.lower()
        if name == "interface":
            found.device = child.value
        elif name == "virtual_router_id":
            found.router = child.value
        elif name == "priority" and child.value.isdigit():
            found.priority = int(child.value)
        elif name.startswith("virtual_ipaddress"):
            for line in child.block or ():
                shared_of(found, line, notes)
        elif name == "virtual_routes":
            for line in child.block or ():
                route_of(found, line, notes)
        elif name not in SILENT:
            notes.append(f"{where}: `{child.name}` is not {fate(name)}.")
    return found


def fate(name: str) -> str:
    """What is said of a statement of an instance that the proposal has no place for."""
    if name.startswith("notify"):
        return f"carried over: {NOTIFY}"
    if name.startswith("garp_"):
        return f"carried over: {GARP}"
    if name in INSTEAD:
        return f"carried over: {INSTEAD[name]}"
    return "known here and is not carried over"


def shared_of(instance: Instance, line: Statement, notes: list[str]) -> None:
    """One shared address; those of another device go to a note."""
    where = f"{instance.node} {KEEPALIVED} line {line.line}"
    text = line.name
    words = dict(zip(line.words[1::2], line.words[2::2], strict=False))
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        notes.append(f"{where}: `{' '.join(line.words)}` is no address and is not carried over.")
        return
    if words.get("dev", instance.device) != instance.device:
        notes.append(
            f"{where}: {text} is on {words['dev']}, another device than its instance's: add it to "
            "`shared` of that interface."
        )
        return
    left = [word for word in words if word not in ("dev", "brd", "scope")]
    if left:
        notes.append(f"{where}: `{' '.join(left)}` of {text} is not carried over.")
    instance.shared.append(str(address) if "/" in text else str(address.ip))


def route_of(instance: Instance, line: Statement, notes: list[str]) -> None:
    """One virtual route: a route of both nodes, because the passive one does not forward."""
    where = f"{instance.node} {KEEPALIVED} line {line.line}"
    words = [word for word in line.words if word != "src"]
    via = words[words.index("via") + 1] if "via" in words[:-1] else ""
    if not via:
        notes.append(f"{where}: a route without `via` is not carried over.")
        return
    route = {"via": via}
    if words[0] not in ("default", "0.0.0.0/0", "::/0", "via"):
        route["to"] = words[0]
    instance.routes.append(route)


# conntrackd ------------------------------------------------------------------------------------


def sync_device(node: str, found: Found, notes: list[str]) -> str:
    """The device over which connections are copied, or nothing."""
    device = ""
    for statement in parse(found.get("conntrackd") or "", comments="#"):
        if statement.name.lower() == "sync":
            for child in statement.block or ():
                for line in child.children("interface"):
                    device = device or line.value
        for name, line in filters(statement):
            notes.append(
                f"{node} {CONNTRACKD} line {line}: `{name}` is not carried over: all connections "
                "are copied but those that end on the node."
            )
    return device


def filters(statement: Statement) -> t.Iterator[tuple[str, int]]:
    """Name and line of each filter below a statement."""
    for child in statement.block or ():
        if child.name.lower() in ("address", "protocol", "state"):
            yield " ".join(child.words), child.line
        else:
            yield from filters(child)


# Interfaces ------------------------------------------------------------------------------------


def interfaces_of(
    instances: t.Sequence[Instance], nodes: t.Mapping[str, Found], notes: list[str]
) -> dict[str, t.Any]:
    """Interfaces by logical names: instances with one router id are one interface."""
    found: dict[str, t.Any] = {}
    placed: dict[tuple[str, str], str] = {}
    for instance in instances:
        same = [i for i in instances if i.router == instance.router]
        name = next(
            (placed[i.node, i.device] for i in same if (i.node, i.device) in placed),
            placed.get((instance.node, instance.device), ""),
        )
        name = name or logical_name(instance, found)
        placed[instance.node, instance.device] = name
        interface = found.setdefault(name, {"shared": [], "nodes": {}})
        every = {address for i in instances for address in i.shared}
        interface["nodes"][instance.node] = side(instance.device, nodes[instance.node], every)
        for address in instance.shared:
            whole = with_prefix(address, interface["nodes"][instance.node]["addresses"])
            if whole not in interface["shared"]:
                interface["shared"].append(whole)
    for name, interface in found.items():
        for node in nodes:
            if node not in interface["nodes"]:
                notes.append(
                    f"{node} has no instance for {name}, expected the same router ids on both: "
                    f"fill in interfaces.{name}.nodes.{node}."
                )
                interface["nodes"][node] = {"device": "...", "addresses": []}
    return found


def logical_name(instance: Instance, taken: t.Container[str]) -> str:
    """A logical name from the instance's: `VI_LAN` becomes lan."""
    name = re.sub(r"^(vi|vrrp|v)[_-]?", "", instance.name.lower())
    name = re.sub(r"[^a-z0-9_-]", "", re.sub(r"[_-]?(v?4|v?6|ipv4|ipv6)$", "", name)).lstrip("_-")
    if not re.match(r"[a-z]", name) or name in NFT_WORDS or name in taken:
        name = "net" + re.sub(r"[^a-z0-9]", "", instance.device.lower())
    return name


def side(device: str, found: Found, shared: t.Collection[str]) -> dict[str, t.Any]:
    """One node's part of an interface: its own addresses are what is there beside the shared."""
    ours = {address.split("/")[0] for address in shared}
    listed = found.get("addresses", {}).get(device, [])
    return {"device": device, "addresses": [a for a in listed if a.split("/")[0] not in ours]}


def with_prefix(address: str, own: t.Sequence[str]) -> str:
    """An address with the prefix of the own network that it is in; keepalived's is often /32."""
    ip = ipaddress.ip_interface(address)
    if "/" in address and ip.network.prefixlen != ip.max_prefixlen:
        return address
    for other in map(ipaddress.ip_interface, own):
        if other.version == ip.version and ip.ip in other.network:
            return f"{ip.ip}/{other.network.prefixlen}"
    return f"{ip.ip}/{ip.network.prefixlen}"
