# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the parts of the pair must fit together.

Enters a `Cluster` whose values are each right by themselves; leaves sentences about those that
contradict each other.  Every check is a function of its own and looks at the whole pair; none
changes anything, and none needs a node.
"""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import (
    Address,
    Cluster,
    Interface,
    Network,
    Route,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems


def check(cluster: Cluster, problems: Problems) -> None:
    """All checks, from the coarse to the fine."""
    check_timers(cluster, problems)
    check_roles(cluster, problems)
    check_devices(cluster, problems)
    for interface in cluster.interfaces:
        check_own_addresses(cluster, interface, problems)
        check_shared_addresses(interface, problems)
    check_networks_disjoint(cluster, problems)
    check_no_address_twice(cluster, problems)
    check_routes(cluster, problems)
    check_neighbours(cluster, problems)


def check_timers(cluster: Cluster, problems: Problems) -> None:
    """The inequalities between own durations; the agent's core/timing.py has the same ones."""
    if not cluster.timers:
        return
    beat, dead, lease = (cluster.timers[key] for key in ("beat_ms", "dead_ms", "lease_ms"))
    for key, lowest, why in (
        ("dead_ms", 2 * beat + 4, "2 beats and 4 ms for the probes"),
        ("lease_ms", max(dead, 2 * beat + 1), "dead_ms, and more than 2 beats"),
    ):
        if cluster.timers[key] < lowest:
            problems.add(
                f"ha_cluster.timers.{key}", cluster.timers[key], f"at least {lowest} ({why})"
            )
    if beat > 1000:
        problems.add("ha_cluster.timers.beat_ms", beat, "at most 1000")


def check_roles(cluster: Cluster, problems: Problems) -> None:
    """At least one service interface with a shared address, and one sync interface."""
    services = [i for i in cluster.interfaces if i.role == "service"]
    syncs = [i for i in cluster.interfaces if i.role == "sync"]
    if not any(i.shared for i in services):
        problems.say(
            "ha_cluster.interfaces has no service interface with a shared address, expected at "
            "least one."
        )
    if len(syncs) != 1:
        names = " and ".join(i.name for i in syncs) or "none"
        problems.say(
            f"ha_cluster.interfaces has {names} with the role sync, expected exactly one "
            "(for the replication between the two nodes)."
        )
    for interface in syncs:
        if interface.shared:
            problems.add(
                f"{interface.path}.shared", interface.shared[0],
                "nothing, because nobody but the two nodes is on a sync interface",
            )  # fmt: skip
        if not all(side.addresses for side in interface.sides.values()):
            problems.say(
                f"{interface.path} has no own addresses on both nodes, expected one on each "
                "for the replication."
            )


def check_devices(cluster: Cluster, problems: Problems) -> None:
    """No device serves two interfaces of a node."""
    for node in cluster.nodes:
        users: dict[str, str] = {}
        for interface in cluster.interfaces:
            device = interface.sides[node].device
            if device in users:
                problems.add(
                    f"{interface.path}.nodes.{node}.device", device,
                    f"another device than that of {users[device]}",
                )  # fmt: skip
            users.setdefault(device, interface.name)


def check_own_addresses(cluster: Cluster, interface: Interface, problems: Problems) -> None:
    """Both nodes are in the same networks, at different addresses."""
    if not interface.shared and not any(s.addresses for s in interface.sides.values()):
        if interface.role == "service":
            problems.say(f"{interface.path} has neither shared nor own addresses, expected some.")
        return
    for node in cluster.nodes:
        peer = cluster.peer_of(node)
        theirs = interface.sides[peer].addresses
        for index, own in enumerate(interface.sides[node].addresses):
            path = f"{interface.path}.nodes.{node}.addresses[{index}]"
            if own.ip.is_link_local:
                problems.add(path, own, "no link-local address, the kernel gives each node its own")
            elif own.ip in [other.ip for other in theirs]:
                if node == cluster.backup:
                    problems.add(path, own, f"another address than that of {peer}")
            elif own.network not in [other.network for other in theirs]:
                problems.add(path, own, wanted_network(peer, own, theirs))


def wanted_network(peer: str, own: Address, theirs: t.Iterable[Address]) -> str:
    """What a node's address should have been, seen from its peer's."""
    networks = [str(other.network) for other in theirs if other.version == own.version]
    if networks:
        return f"an address in {' or '.join(networks)}, where {peer} is"
    return f"{peer} to have an own address in {own.network} as well"


def check_shared_addresses(interface: Interface, problems: Problems) -> None:
    """Shared addresses lie inside the networks of the own ones, where there are own ones."""
    own = [a for side in interface.sides.values() for a in side.addresses]
    for index, shared in enumerate(interface.shared):
        path = f"{interface.path}.shared[{index}]"
        networks = list(dict.fromkeys(a.network for a in own if a.version == shared.version))
        if shared.ip.is_link_local:
            if shared.version == 4:
                problems.add(path, shared, "no IPv4 link-local address, nobody routes to it")
        elif networks and shared.network not in networks:
            within = " or ".join(str(network) for network in networks)
            problems.add(path, shared, f"an address in {within}, the network of the own addresses")


def check_networks_disjoint(cluster: Cluster, problems: Problems) -> None:
    """Two interfaces are two networks."""
    for one, other in itertools.combinations(cluster.interfaces, 2):
        for mine, theirs in itertools.product(one.networks(), other.networks()):
            if overlap(mine, theirs):
                problems.add(
                    other.path, theirs, f"networks apart from {mine}, which is on {one.name}"
                )


def overlap(one: Network, other: Network) -> bool:
    """Whether two networks have an address in common."""
    return one.version == other.version and one.overlaps(other)  # type: ignore[arg-type]


def check_no_address_twice(cluster: Cluster, problems: Problems) -> None:
    """Each address has one place; only a link-local one may be on several interfaces."""
    seen: dict[object, str] = {}
    for interface in cluster.interfaces:
        for path, address in placed(interface):
            key = (interface.name, address.ip) if address.ip.is_link_local else address.ip
            if key in seen and not twins(seen[key], path):
                problems.add(path, address, f"an address that is not also {seen[key]}")
            seen.setdefault(key, path)


def twins(one: str, other: str) -> bool:
    """Whether both are own addresses of one interface, which the check above names better."""
    return (
        ".nodes." in one
        and ".nodes." in other
        and one.split(".nodes.", maxsplit=1)[0] == other.split(".nodes.", maxsplit=1)[0]
        and one.rsplit(".", 1)[0] != other.rsplit(".", 1)[0]
    )


def placed(interface: Interface) -> t.Iterator[tuple[str, Address]]:
    """Every address of an interface with the place where it was written."""
    for index, address in enumerate(interface.shared):
        yield f"{interface.path}.shared[{index}]", address
    for node, side in interface.sides.items():
        for index, address in enumerate(side.addresses):
            yield f"{interface.path}.nodes.{node}.addresses[{index}]", address


def check_routes(cluster: Cluster, problems: Problems) -> None:
    """A next hop is a neighbour on one interface, and none of our own addresses."""
    ours = {a.ip for interface in cluster.interfaces for _path, a in placed(interface)}
    for route in cluster.routes:
        if route.via in ours:
            problems.add(f"{route.path}.via", route.via, "another machine than the pair itself")
        elif route_interface(cluster, route) is None:
            if route.interface is not None:
                names = " or ".join(i.name for i in cluster.interfaces)
                problems.add(f"{route.path}.interface", route.interface, f"one of {names}")
            else:
                problems.add(
                    f"{route.path}.via", route.via,
                    "an address in the network of one of the interfaces, or an `interface` beside "
                    "it",
                )  # fmt: skip


def check_neighbours(cluster: Cluster, problems: Problems) -> None:
    """A neighbour is in a network of its interface, where that has networks, and not ours."""
    ours = {a.ip for interface in cluster.interfaces for _path, a in placed(interface)}
    for interface in cluster.interfaces:
        for index, address in enumerate(interface.neighbours):
            path = f"{interface.path}.neighbours[{index}]"
            networks = [n for n in interface.networks() if n.version == address.version]
            if address in ours:
                problems.add(path, address, "another machine than the pair itself")
            elif not address.is_link_local and not any(address in n for n in networks):
                problems.add(path, address, f"an address in a network of {interface.name}")


def route_interface(cluster: Cluster, route: Route) -> Interface | None:
    """The interface over which a route leads."""
    for interface in cluster.interfaces:
        if route.interface is not None:
            if route.interface == interface.name:
                return interface
        elif any(route.via in n for n in interface.networks() if n.version == route.via.version):
            return interface
    return None
