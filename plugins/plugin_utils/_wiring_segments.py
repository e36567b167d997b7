# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which cable is in which network: from who heard whom to one name for each fault.

Ports that hear each other, in whatever direction, are one segment.  A pair that is wired right has
one segment for each interface, with that interface of both nodes in it.  Every departure is named
once, by its cause: what follows from it (a port that is alone because its twin is elsewhere) is not
named again.
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
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_evidence import misplaced
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_view import Port, View

Segment = frozenset[Port]
CHECK = "wiring"

SPANNING_TREE = (
    "; the interface was brought up for this probe, so if its switch port runs spanning tree and is"
    " no edge port, repeat with preflight_listen_s=45"
)


def judge(view: View) -> list[Finding]:
    """All findings about cables and networks."""
    found = [finding for name in view.links for finding in unusable(view, name)]
    segments = segments_of(view)
    found += leaks(view, segments)
    found += misplugged(view, segments)
    explained = {name for finding in found for name in finding.interfaces}
    found += isolated(view, segments, explained)
    found += tagged(view)
    explained = {name for finding in found for name in finding.interfaces}
    found += one_way(view, explained)
    found += looped(view)
    found += third_parties(view)
    return found


def fault(
    verdict: str,
    interfaces: t.Iterable[str],
    nodes: t.Iterable[str],
    text: str,
    remedy: str,
    status: str = FAILED,
) -> Finding:
    """A finding of this check."""
    return Finding(CHECK, status, verdict, tuple(interfaces), tuple(nodes), text, remedy)


# Ports that cannot be used -----------------------------------------------------------------------


def unusable(view: View, name: str) -> t.Iterator[Finding]:
    """A device that is absent, down, or without carrier: one finding for each cause."""
    causes: dict[tuple[str, str, str, str], list[Port]] = {}
    for port in view.ports(name):
        cause = why_unusable(view, port)
        if cause is not None:
            causes.setdefault(cause, []).append(port)
    for (status, verdict, words, remedy), ports in causes.items():
        where = listed(view.called(port) for port in ports)
        verb = words if len(ports) == 1 else words.replace("is ", "are ").replace("has ", "have ")
        yield fault(verdict, [name], [p.node for p in ports], f"{where} {verb}", remedy, status)


def why_unusable(view: View, port: Port) -> tuple[str, str, str, str] | None:
    """(status, verdict, what is wrong, remedy) of a port that cannot be probed."""
    state = view.state(port)
    if not state["present"]:
        return FAILED, "absent", "is absent", "name a device that `ip link` shows on this node"
    if not state["ethernet"]:
        return (
            FAILED, "no Ethernet", "is no Ethernet device, and heartbeats are Ethernet frames",
            "name a device that carries Ethernet",
        )  # fmt: skip
    if not state["up"] and not state.get("brought_up"):
        why = state.get("left_alone") or "it was not to be brought up"
        status = FAILED if "agent" in why else INCONCLUSIVE
        return status, "down", f"is down, and was left so: {why}", "ip link set dev DEVICE up"
    if not state.get("carrier"):
        return (
            FAILED,
            "no carrier",
            "has no carrier",
            "plug the cable in, or enable the switch port",
        )
    return None


# Segments ----------------------------------------------------------------------------------------


def segments_of(view: View) -> list[Segment]:
    """Ports that hear each other, and those that hear nobody."""
    group = {
        port: frozenset([port])
        for name in view.links
        for port in view.ports(name)
        if view.usable(port)
    }
    for edge in view.edges:
        if edge.vlan and edge.sender.name != edge.receiver.name:
            continue
        joined = group.get(edge.sender, frozenset([edge.sender])) | group.get(
            edge.receiver, frozenset([edge.receiver])
        )
        for port in joined:
            group[port] = joined
    return sorted(set(group.values()), key=sorted)


def intact(view: View, segment: Segment) -> list[str]:
    """The interfaces that a segment has on both nodes."""
    return [name for name in view.links if all(port in segment for port in view.ports(name))]


def strangers(segment: Segment) -> list[Port]:
    """The ports of a segment that are not of the pair."""
    return sorted(port for port in segment if not port.ours)


def leaks(view: View, segments: t.Iterable[Segment]) -> t.Iterator[Finding]:
    """Networks that should be apart and are one."""
    for segment in segments:
        names = intact(view, segment)
        if len(names) > 1:
            yield fault(
                "leak", names, view.nodes,
                f"the networks of {listed(names)} are one: frames of each arrive on the other",
                "take the connection between the two networks out of the switch, or the cable out "
                "that joins them",
            )  # fmt: skip
        elif names and strangers(segment):
            others = listed(view.called(port) for port in strangers(segment))
            yield fault(
                "leak", names, [port.node for port in strangers(segment)],
                f"the network of {names[0]} is also that of {others}, which is not of the pair",
                "put the interface into ha_cluster, or its cable into another network", WARNING,
            )  # fmt: skip


def misplugged(view: View, segments: t.Sequence[Segment]) -> t.Iterator[Finding]:
    """Cables in the wrong network: swapped ones, one in another's, and one in a stranger's."""
    swapped: set[Port] = set()
    for segment in segments:
        names = intact(view, segment)
        extras = sorted(p for p in segment if p.ours and p.name not in names)
        if names:
            for port in extras:
                yield in_network_of(view, port, names[0])
        elif len(extras) > 1:
            if swapped.intersection(extras):
                continue
            first, second = extras[0], extras[1]
            crossed = next((s for s in segments if view.twin(first) in s), frozenset())
            if first.node != second.node and view.twin(second) in crossed:
                swapped.update(crossed)
                yield swap(view, first, second)
            else:
                yield together(view, extras)
        elif extras and strangers(segment):
            others = listed(view.called(port) for port in strangers(segment))
            yield fault(
                "wrong network", [extras[0].name], [extras[0].node],
                f"{view.called(extras[0])} is in the network of {others}, which is not of the pair",
                f"plug the cable of {view.called(extras[0])} into the network of {extras[0].name}",
            )  # fmt: skip


def in_network_of(view: View, port: Port, name: str) -> Finding:
    """A port that is in the intact network of another interface."""
    return fault(
        "wrong network", [port.name], [port.node],
        f"{view.called(port)} is plugged into the network of {name}",
        f"plug the cable of {view.called(port)} into the network of {port.name}",
    )  # fmt: skip


def swap(view: View, first: Port, second: Port) -> Finding:
    """Two interfaces that are exchanged on one of the nodes."""
    names = sorted([first.name, second.name])
    pairs = (
        f"{view.called(first)} is with {view.called(second)}, and "
        f"{view.called(view.twin(second))} with {view.called(view.twin(first))}"
    )
    wrong = misplaced(view, names)
    if wrong:
        text = f"{listed(names)} are swapped on {wrong}: {pairs}"
        devices = [view.device(Port(wrong, name)) for name in names]
        return fault(
            "swapped", names, [wrong], text,
            f"exchange the cables of {listed(devices)} on {wrong}, or their devices in ha_cluster",
        )  # fmt: skip
    return fault(
        "swapped", names, view.nodes,
        f"{listed(names)} are swapped on one of the two nodes: {pairs}",
        f"exchange the two cables on the node that is wrong, or its devices in ha_cluster; a "
        f"`neighbours` entry for {names[0]} or {names[1]} tells which node that is",
    )  # fmt: skip


def together(view: View, extras: t.Sequence[Port]) -> Finding:
    """Ports of different interfaces that are in one network, which is none of theirs for sure."""
    names = list(dict.fromkeys(port.name for port in extras))
    nodes = list(dict.fromkeys(port.node for port in extras))
    return fault(
        "wrong network", names, nodes,
        f"{listed(view.called(port) for port in extras)} are in one network",
        f"plug each cable of {listed(names)} into the network of its interface",
    )  # fmt: skip


def isolated(
    view: View, segments: t.Iterable[Segment], explained: t.Collection[str]
) -> t.Iterator[Finding]:
    """Interfaces that have carrier on both nodes and hear nothing of each other."""
    single = {port for segment in segments if len(segment) == 1 for port in segment}
    for name in view.links:
        ports = view.ports(name)
        if name in explained or not all(port in single for port in ports):
            continue
        raised = any(view.state(port).get("brought_up") for port in ports)
        yield fault(
            "isolated", [name], view.nodes,
            f"{listed(view.called(port) for port in ports)} hear nothing of each other",
            "look for the switch ports of both: one is in no network, in another one, or filtered"
            + (SPANNING_TREE if raised else ""),
        )  # fmt: skip


def one_way(view: View, explained: t.Collection[str]) -> t.Iterator[Finding]:
    """Interfaces on which only one node hears the other."""
    for name in view.links:
        first, second = view.ports(name)
        if name in explained:
            continue
        for sender, receiver in ((first, second), (second, first)):
            there, back = view.between(sender, receiver), view.between(receiver, sender)
            if back and not there:
                yield fault(
                    "one-way", [name], [sender.node, receiver.node],
                    f"nothing that {view.called(sender)} sends reaches {view.called(receiver)}, "
                    "and the other way everything does",
                    "look for a filter or a broken fibre between the two, and at the counters of "
                    "the ports",
                )  # fmt: skip


def looped(view: View) -> t.Iterator[Finding]:
    """Networks in which a node's own frames come back to it."""
    for name in view.links:
        back = [p for p in view.ports(name) if any(not e.vlan for e in view.between(p, p))]
        if back:
            yield fault(
                "looped", [name], [port.node for port in back],
                f"what {listed(view.called(port) for port in back)} sent came back",
                "look for a loop in the network, or for a port of the switch that mirrors",
            )  # fmt: skip


def tagged(view: View) -> t.Iterator[Finding]:
    """Frames that were sent without a VLAN tag and arrive with one."""
    for receiver in sorted({e.receiver for e in view.edges if e.vlan and e.receiver.ours}):
        edges = [e for e in view.edges if e.vlan and e.receiver == receiver]
        tags = sorted({edge.vlan for edge in edges})
        senders = sorted({edge.sender for edge in edges})
        own = [port for port in senders if port.name == receiver.name]
        yield fault(
            "VLAN tag seen", [receiver.name], [receiver.node],
            f"what {listed(view.called(port) for port in own or senders)} sends arrives at "
            f"{view.called(receiver)} with the VLAN tag {listed(tags)}",
            "make the switch port an access port of this network, or name the VLAN's own device "
            "in ha_cluster",
            FAILED if own else WARNING,
        )  # fmt: skip


def third_parties(view: View) -> t.Iterator[Finding]:
    """Frames of this run that somebody else has sent on."""
    for name in view.links:
        wrong = [
            edge
            for edge in view.edges
            if edge.sender.name == name and edge.mac != view.state(edge.sender).get("mac")
        ]
        if wrong:
            edge = wrong[0]
            yield fault(
                "third party", [name], [edge.receiver.node],
                f"frames of {view.called(edge.sender)} come to {view.called(edge.receiver)} from "
                f"the hardware address {edge.mac}, which is not its own",
                "find the machine with this hardware address: it answers in a node's place",
            )  # fmt: skip
