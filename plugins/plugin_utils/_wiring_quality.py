# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What passes on a network that is wired right: sizes, kinds of frames, and at which speed.

Only interfaces enter here of which nothing is wrong with the cable: on the others every one of
these questions has the cable's fault for an answer.
"""

from __future__ import annotations

import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    INCONCLUSIVE,
    WARNING,
    Finding,
    listed,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_view import Port, View

SIZED = ("probe", "ip")
KINDS = {"arp": "ARP", "ip": "IPv4", "ip6": "IPv6"}
VERSION_OF = {"arp": 4, "ip": 4, "ip6": 6}


def directions(view: View, name: str) -> tuple[tuple[Port, Port], tuple[Port, Port]]:
    """Both ways over an interface."""
    first, second = view.ports(name)
    return (first, second), (second, first)


# Size --------------------------------------------------------------------------------------------


def sizes(view: View, name: str) -> t.Iterator[Finding]:
    """Full-size frames pass both ways, and the two ends agree on what full size is."""
    ports = view.ports(name)
    sent = {port: int(view.state(port)["sent_mtu"]) for port in ports}
    wanted = int(view.state(ports[0])["wanted_mtu"])
    small = [port for port in ports if sent[port] < (wanted or max(sent.values()))]
    if small:
        yield too_small(view, name, small, sent, wanted)
        return
    short = []
    for sender, receiver in directions(view, name):
        arrived = largest(view, sender, receiver)
        if arrived < sent[sender]:
            short.append((sender, receiver, arrived))
    if short:
        ways = " and ".join(f"from {s.node} to {r.node}" for s, r, _size in short)
        arrived = min(size for _sender, _receiver, size in short)
        full = sent[short[0][0]]
        best = f", those of {arrived} do" if arrived else ""
        yield Finding(
            "mtu", FAILED, "MTU", (name,), tuple(s.node for s, _r, _size in short),
            f"packets of {full} bytes do not pass {ways} on {name}{best}",
            f"set the MTU of every switch port of {name} to {full}, or declare the `mtu` of {name}",
        )  # fmt: skip


def largest(view: View, sender: Port, receiver: Port) -> int:
    """The largest packet that was sent at its full length and arrived."""
    edges = view.between(sender, receiver)
    return max((edge.size for edge in edges if edge.kind in SIZED), default=0)


def too_small(
    view: View, name: str, small: t.Sequence[Port], sent: t.Mapping[Port, int], wanted: int
) -> Finding:
    """A device whose own MTU is below what was declared, or below that of its twin."""
    words = listed(f"{view.called(port)} has an MTU of {sent[port]}" for port in small)
    nodes = tuple(port.node for port in small)
    if not wanted:
        other = view.twin(small[0])
        return Finding(
            "mtu", FAILED, "MTU", (name,), nodes,
            f"{words}, and {view.called(other)} one of {sent[other]}",
            f"set both to the same, or declare the `mtu` of {name}",
        )  # fmt: skip
    why = listed(dict.fromkeys(view.state(port).get("left_alone") or "unknown" for port in small))
    if "agent" in why:
        return Finding(
            "mtu", FAILED, "MTU", (name,), nodes, f"{words}, and {wanted} is declared",
            f"run site.yml, which sets the MTU of {name}",
        )  # fmt: skip
    return Finding(
        "mtu", INCONCLUSIVE, "MTU not proved", (name,), nodes,
        f"{words}, {wanted} is declared, and it was not raised for the probe: {why}",
        f"ip link set dev DEVICE mtu {wanted}, and repeat; or run preflight after site.yml",
    )  # fmt: skip


# Kinds -------------------------------------------------------------------------------------------


def kinds(view: View, name: str) -> t.Iterator[Finding]:
    """IP and ARP pass both ways, in the families that the network has."""
    networks = view.state(view.ports(name)[0])["networks"]
    versions = {6 if ":" in network else 4 for network in networks} or {4, 6}
    for sender, receiver in directions(view, name):
        heard = {edge.kind for edge in view.between(sender, receiver)}
        lost = [k for k in KINDS if VERSION_OF[k] in versions and k not in heard]
        if lost:
            what = listed(KINDS[kind] for kind in lost)
            yield Finding(
                "wiring", FAILED, "filtered", (name,), (sender.node, receiver.node),
                f"{what} of {view.called(sender)} does not reach {view.called(receiver)}, other "
                "frames do",
                f"look for a filter between the two that drops {what}",
            )  # fmt: skip


def heartbeats(view: View, names: t.Sequence[str]) -> list[Finding]:
    """Frames of the heartbeats' EtherType pass both ways, at least on one interface."""
    deaf: dict[str, list[str]] = {}
    for name in names:
        for sender, receiver in directions(view, name):
            if "beat" not in {edge.kind for edge in view.between(sender, receiver)}:
                deaf.setdefault(name, []).append(f"from {sender.node} to {receiver.node}")
    none_left = len(deaf) == len(names)
    return [
        Finding(
            "heartbeat",
            FAILED if none_left else WARNING,
            "no heartbeats",
            (name,),
            view.nodes,
            f"frames of the heartbeats' EtherType 0x88B5 do not pass {listed(ways)} on {name}, "
            "IP and ARP do",
            "let EtherType 0x88B5 and the group 03:41:6d:48:41:01 pass in the switch or hypervisor"
            + ("; without them there is no pair" if none_left else "; heartbeats go over the rest"),
        )
        for name, ways in deaf.items()
    ]


# Speed -------------------------------------------------------------------------------------------


def speeds(view: View, name: str) -> t.Iterator[Finding]:
    """Equal speed on both ends, and full duplex, where the kernel knows them."""
    ports = view.ports(name)
    known = {port: int(view.state(port).get("speed") or 0) for port in ports}
    if all(known.values()) and len(set(known.values())) > 1:
        words = listed(f"{view.called(port)} has {known[port]} Mbit/s" for port in ports)
        yield Finding(
            "speed", WARNING, "speed differs", (name,), view.nodes, words,
            "look at the slower one's cable and switch port; a failover may cost throughput",
        )  # fmt: skip
    half = [port for port in ports if view.state(port).get("duplex") == "half"]
    if half:
        yield Finding(
            "speed", WARNING, "half duplex", (name,), tuple(port.node for port in half),
            f"{listed(view.called(port) for port in half)} runs at half duplex",
            "set both ends of the cable to negotiate",
        )  # fmt: skip
