# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's services as processes: the gate across crashes, and a pair that fails over.

Everything runs as on a node, with the release's own Python and cryptography; the check stands in
for systemd. What is waited for has generous limits: an emulated machine is slow.
"""

from __future__ import annotations

import signal

from amaranten_ha.io.gate import GateReader, GateState
from amaranten_ha.settings import load

from ..guest.net import Net, until
from ..guest.pair import LAN_HOST, LATE_S, WAN_HOST, WAN_SHARED, Node, Pair, Service
from ..guest.talk import Ear, Mouth


def _lonely() -> Node:
    """A node with its three devices and nobody at the other ends."""
    node, far = Node("a"), Net.new()
    lines = []
    for device in ("lan0", "wan0", "sync0"):
        lines.append(f"link add {device} type veth peer name {device} netns {far.path}")
        lines.append(f"link set {device} up")
    node.net.ip(*lines)
    return node


def _look(node: Node) -> GateState:
    etc = node.behind("/etc/amaranten-ha")
    with node.net:
        reader = GateReader(load(etc / "agent.toml", etc / "keys.toml"))
        state = reader.check()
        reader.close()
    return state


def check_killed_gate_service_leaves_no_gap() -> None:
    """The table's owner is a socket that the supervisor keeps: the fallback of 6.1."""
    node = _lonely()
    first = Service(node, "gate").ready()
    assert first.kept is not None, "the service gave no descriptor to keep"
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    state = _look(node)
    assert state.intact and state.owned, state
    node.net.run("nft", "flush", "ruleset")
    assert _look(node).intact, "a stranger's flush took the gate of a killed service"
    second = Service(node, "gate", first.kept).ready()
    assert "adopted the socket" in second.log.read_text(), second.log.read_text()
    assert _look(node).intact


def check_stopped_gate_service_leaves_a_closed_gate() -> str:
    node = _lonely()
    service = Service(node, "gate").ready()
    assert service.end(signal.SIGTERM) == 0, service.log.read_text()
    state = _look(node)
    assert state.intact and not state.open_lease, state
    return service.log.read_text().splitlines()[-2]


def check_second_gate_service_is_refused() -> None:
    node = _lonely()
    Service(node, "gate").ready()
    other = node.call("gate")
    assert other.code == 1, other
    assert "belongs to another socket" in other.text, other


def check_stage_clears_up_and_lets_the_kernel_forward() -> None:
    node = _lonely()
    Service(node, "gate").ready()
    assert node.net.get("net/ipv4/ip_forward") == "0"
    node.net.ip("addr add 10.20.1.1/32 dev lan0")
    staged = node.call("stage")
    assert staged.code == 0, staged
    assert node.net.get("net/ipv4/ip_forward") == "1"
    assert node.net.get("net/ipv6/conf/all/forwarding") == "1"
    assert "10.20.1.1" not in node.net.run("ip", "addr", "show", "dev", "lan0")


def _roles(pair: Pair) -> dict[str, str]:
    return {name: node.role() for name, node in pair.nodes.items()}


def _until_roles(pair: Pair, **wanted: str) -> None:
    until(f"roles {wanted}", lambda: _roles(pair) == wanted, LATE_S)


class _Probe:
    """A host on lan that talks to a host on wan through whichever node is active."""

    def __init__(self, pair: Pair) -> None:
        self._ear, self._mouth = Ear(pair.wan), Mouth(pair.lan, LAN_HOST)

    def passes(self, text: bytes) -> None:
        def heard() -> bool:
            self._mouth.says(text, WAN_HOST)
            return self._ear.heard(text)

        until(f"{text!r} through the pair", heard, LATE_S)
        assert self._ear.sources[text] == WAN_SHARED, self._ear.sources
        print(text.decode())


def check_pair_fails_over_and_switches_over() -> None:
    """Election, death of heart by SIGKILL, return without preempt, planned switchover back."""
    pair = Pair()
    services = {name: pair.start(name) for name in pair.nodes}
    until("an election", lambda: set(_roles(pair).values()) == {"active", "passive"}, LATE_S)
    first = next(name for name, role in _roles(pair).items() if role == "active")
    second = "b" if first == "a" else "a"
    probe = _Probe(pair)
    probe.passes(b"passed after the election")

    services[first]["heart"].end(signal.SIGKILL)
    until("the other took over", lambda: pair.nodes[second].role() == "active", LATE_S)
    probe.passes(b"passed after the failover")

    services[first] |= pair.start_heart(first)
    _until_roles(pair, **{first: "passive", second: "active"})
    until("the spare is ready", pair.nodes[second].is_ready, LATE_S)

    def switched() -> bool:
        """Refused with a reason while the emulated spare falls behind: then asked again."""
        done = pair.nodes[second].call("operator", "switchover")
        assert done.code in (0, 1), done
        return done.code == 0

    until("the switchover", switched, LATE_S)
    _until_roles(pair, **{first: "active", second: "passive"})
    probe.passes(b"passed after the switchover")
