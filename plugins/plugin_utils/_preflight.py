# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The checks of preflight that are not about cables: what the two machines are, and are able to.

Pure: what `preflight_info` and `node_info` found on the nodes comes in, findings go out.  Each
check is a function of its own that yields findings; `figures` says what to show if it yields none.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    INCONCLUSIVE,
    WARNING,
    Finding,
    listed,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._node_checks import check_node
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

Info = t.Mapping[str, t.Any]
Nodes = t.Mapping[str, Info]

LESSER_PERCENT = 80
"""A backup with less than this share of the primary's capacity is clearly lesser."""
FREE_MB_MIN, FREE_MB_WANTED = 50, 200
PYTHON_MIN = (3, 11)
NEEDED = {
    "owner": "nftables tables with an owner",
    "ingress": "nftables at the ingress of a device",
    "egress": "nftables at the egress of a device",
    "nat": "network address translation",
    "conntrack": "the connection table over netlink",
}
"""Features that there is no pair without; tables that outlive their owner are nice to have."""


def node(cluster: Cluster, nodes: Nodes, found: Nodes) -> t.Iterator[Finding]:
    """What deployment would refuse on a node."""
    for host in cluster.nodes:
        if host not in found:
            continue
        problems = Problems()
        check_node(cluster, host, found[host], problems)
        for sentence in problems.sentences:
            yield Finding(
                "node", FAILED, "refused", (), (host,), sentence.rstrip("."),
                "as the sentence says; see docs/deploy.md",
            )  # fmt: skip
    for host in cluster.nodes:
        if host not in nodes:
            yield Finding(
                "node", INCONCLUSIVE, "not looked at", (), (host,),
                f"{host} was not looked at: it cannot be reached, or the run is limited",
                "run it for both nodes",
            )  # fmt: skip


def kernel(_cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """The kernel takes the parts of the gate, and shows the connection table."""
    for host, info in nodes.items():
        why = info["features_unknown"]
        if why:
            yield Finding(
                "kernel", INCONCLUSIVE, "not tried", (), (host,),
                f"the kernel of {host} could not be tried: {why}", "run it as root",
            )  # fmt: skip
        lost = [
            f"{words} ({info['features'][name]})"
            for name, words in NEEDED.items()
            if info["features"].get(name)
        ]
        if lost:
            yield Finding(
                "kernel", FAILED, "kernel lacks", (), (host,),
                f"the kernel of {host} ({info['versions']['kernel']}) lacks {listed(lost)}",
                "boot Debian's own kernel, 6.1 or newer, with its modules",
            )  # fmt: skip


def versions(_cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """The same software on both, and a Python that the agent runs on."""
    for host, info in nodes.items():
        version = info["versions"]["python"]
        if tuple(int(part) for part in version.split(".")[:2]) < PYTHON_MIN:
            yield Finding(
                "versions", FAILED, "old Python", (), (host,),
                f"{host} has Python {version}", "Debian 12 or 13 has 3.11 or newer",
            )  # fmt: skip
    if len(nodes) < 2:
        return
    for what in ("system", "kernel", "python", "nftables", "conntrack", "agent"):
        found = {host: info["versions"].get(what, "") for host, info in nodes.items()}
        if all(found.values()) and len(set(found.values())) > 1:
            words = listed(f"{host} has {what} {version}" for host, version in found.items())
            remedy = "run site.yml" if what == "agent" else "upgrade the older one"
            yield Finding("versions", WARNING, "versions differ", (), tuple(found), words, remedy)


def capacity(cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """A backup that is clearly lesser would be slower when it matters."""
    if len(nodes) < 2:
        return
    primary, backup = nodes[cluster.primary]["capacity"], nodes[cluster.backup]["capacity"]
    for what, unit in (("cpus", "CPUs"), ("memory_mb", "MB of memory")):
        if backup[what] * 100 < primary[what] * LESSER_PERCENT:
            yield Finding(
                "capacity", WARNING, "lesser backup", (), (cluster.backup,),
                f"{cluster.backup} has {backup[what]} {unit}, {cluster.primary} has "
                f"{primary[what]}",
                "size the backup for the same load, or accept that a failover costs throughput",
            )  # fmt: skip
    limits = {host: info["capacity"]["conntrack_max"] for host, info in nodes.items()}
    if all(limits.values()) and len(set(limits.values())) > 1:
        smaller = min(limits, key=limits.__getitem__)
        yield Finding(
            "capacity", WARNING, "conntrack_max differs", (), (smaller,),
            f"nf_conntrack_max is {listed(f'{limit} on {host}' for host, limit in limits.items())}",
            f"set nf_conntrack_max of {smaller} to that of the other: a full table loses "
            "connections",
        )  # fmt: skip


def disk(_cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """Room for two versions of the agent and for the journal."""
    for host, info in nodes.items():
        for path, free in info["free_mb"].items():
            if free < FREE_MB_WANTED:
                yield Finding(
                    "disk", FAILED if free < FREE_MB_MIN else WARNING, "little room", (), (host,),
                    f"{host} has {free} MB free in {path}, {FREE_MB_WANTED} are wanted",
                    "make room: `apt-get clean`, `journalctl --vacuum-size=100M`",
                )  # fmt: skip


def conflicts(_cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """Other software that owns shared addresses, or rules."""
    for host, info in nodes.items():
        for name, unit in sorted(info["units"].items()):
            if unit["active"]:
                yield Finding(
                    "conflicts", FAILED, "conflicting software", (), (host,),
                    f"{name} runs on {host}",
                    f"systemctl disable --now {name}: it does part of what this pair does itself",
                )  # fmt: skip
            elif unit["enabled"]:
                yield Finding(
                    "conflicts", WARNING, "conflicting software", (), (host,),
                    f"{name} is enabled on {host}, and would run after the next boot",
                    f"systemctl disable {name}",
                )  # fmt: skip


def ssh(cluster: Cluster, nodes: Nodes) -> t.Iterator[Finding]:
    """The controller comes in by a way that a switch of roles does not take from it."""
    for host, info in nodes.items():
        text = info["connection"]["address"]
        if not text:
            continue
        address = ipaddress.ip_address(text.split("%")[0])
        for interface in cluster.interfaces:
            if address in [a.ip for a in interface.shared]:
                yield Finding(
                    "ssh", FAILED, "shared address", (interface.name,), (host,),
                    f"the controller reaches {host} at {address}, a shared address of "
                    f"{interface.name}, which moves to the other node",
                    "set ansible_host to an address that stays with the node",
                )  # fmt: skip
            back = info["connection"]["device"]
            own = {a.version for a in interface.sides[host].addresses}
            if back == interface.sides[host].device and address.version not in own:
                yield Finding(
                    "ssh", WARNING, "way back", (interface.name,), (host,),
                    f"{host} answers the controller over {interface.name}, where it has no own "
                    f"IPv{address.version} address",
                    "add a route to the controller over the management interface, or own addresses",
                )  # fmt: skip


CHECKS: dict[str, t.Callable[[Cluster, Nodes], t.Iterator[Finding]]] = {
    "kernel": kernel,
    "versions": versions,
    "capacity": capacity,
    "disk": disk,
    "conflicts": conflicts,
    "ssh": ssh,
}


def both(values: t.Mapping[str, object]) -> str:
    """One value if both nodes have the same, else each with its node."""
    if len(set(values.values())) == 1:
        found = next(iter(values.values()))
        return f"{found} on {'both' if len(values) > 1 else next(iter(values))}"
    return listed(f"{value} on {host}" for host, value in values.items())


def figures(nodes: Nodes) -> dict[str, str]:
    """What to say of each check that found nothing."""
    if not nodes:
        return {}
    sizes = {h: i["capacity"] for h, i in nodes.items()}
    persist = all(not info["features"].get("persist", "?") for info in nodes.values())
    return {
        "node": f"{listed(nodes)} can be deployed to",
        "kernel": "the gate's parts were made in a namespace; its table "
        + ("outlives its owner" if persist else "needs its owner"),
        "versions": both(
            {
                h: f"{i['versions']['system']}, kernel {i['versions']['kernel']}, "
                f"Python {i['versions']['python']}"
                for h, i in nodes.items()
            }
        ),
        "capacity": both(
            {
                h: f"{s['cpus']} CPUs, {s['memory_mb']} MB, nf_conntrack_max "
                f"{s['conntrack_max'] or 'not loaded'}"
                for h, s in sizes.items()
            }
        ),
        "disk": both(
            {h: f"at least {min(i['free_mb'].values())} MB free" for h, i in nodes.items()}
        ),
        "conflicts": "no other software that owns addresses or rules",
        "ssh": both({h: i["connection"]["address"] or "not by SSH" for h, i in nodes.items()}),
    }
