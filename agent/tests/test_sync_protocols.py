# SPDX-License-Identifier: GPL-3.0-or-later
"""Each protocol, family and kind of translation, in the middle of a flow, through the second node.

After the switch it is the far end that speaks first: an answer from outside passes only where its
connection is known, so the same flows without their copies are the control case.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from sync_netns import Namespace, Talk, tcp, udp, wait_for
from sync_pair import CLIENT, CLIENT6, NOBODY, SERVER, SERVER6, SHARED_WAN, SHARED_WAN6, Node, Pair
from sync_raw import PROTOCOLS, RawFlow

from amaranten_ha import replica_tool
from amaranten_ha.io.desk import ask

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

SECOND = "10.71.1.101"
"""Another address of the client, for two flows that want the same port."""
SHARED_LAN = "10.71.1.1"

MORE_RULES = f"""
table inet more {{
    chain first {{
        type filter hook prerouting priority raw;
        iifname lan udp dport 7300 ct zone set 7
        iifname wan udp sport 7300 ct zone set 7
        iifname lan udp dport 7301 ct original zone set 8
    }}
    chain marks {{
        type filter hook prerouting priority 0;
        udp dport 7200 ct state new ct mark set 0x2a
        udp dport 7201 ct state new ct label set 5
    }}
    chain labelled {{
        type filter hook forward priority 0;
        iifname wan ct label 5 counter
    }}
    chain before {{
        type nat hook prerouting priority dstnat - 1;
        iifname lan ip daddr {SHARED_LAN} tcp dport 7100 dnat ip to {SERVER}:7101
        iifname wan ip daddr {SHARED_WAN} udp dport 7110 dnat ip to {CLIENT}:7111
        iifname wan ip6 daddr {SHARED_WAN6} udp dport 7110 dnat ip6 to [{CLIENT6}]:7111
    }}
}}
"""


def both(node: Node) -> None:
    node.run("nft", "delete", "table", "inet", "more", check=False)
    node.run("nft", "-f", "-", stdin=MORE_RULES)


@pytest.fixture(scope="module")
def wired(wired: Pair) -> Pair:
    wired.client.run("ip", "address", "add", f"{SECOND}/24", "dev", "lan")
    return wired


@pytest.fixture
def pair(wired: Pair) -> Pair:
    wired.begin()
    for node in (wired.a, wired.b):
        both(node)
    return wired


def switch(pair: Pair) -> None:
    """The copy becomes active, and the traffic moves to it."""
    pair.settle()
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)


def without_copies(pair: Pair) -> None:
    """The traffic moves to a node that knows nothing."""
    pair.settle()
    pair.b.kill()
    pair.b.run("conntrack", "-F", check=False)
    pair.activate(pair.b)


@pytest.fixture
def flows(pair: Pair) -> Iterator[dict[str, RawFlow]]:
    """One flow of each protocol and family, translated, begun through A."""
    made = {}
    for name, begin in PROTOCOLS.items():
        made[name] = begin(pair.client, pair.server, (CLIENT, SERVER))
        made[f"{name} 6"] = begin(pair.client, pair.server, (CLIENT6, SERVER6))
    for name, flow in made.items():
        assert flow.open() == (SHARED_WAN6 if name.endswith("6") else SHARED_WAN), name
        assert flow.answered(), name
    yield made
    for flow in made.values():
        flow.close()


def test_each_protocol_goes_on_through_the_other_node(
    pair: Pair, flows: dict[str, RawFlow]
) -> None:
    switch(pair)
    assert {name: flow.answered() for name, flow in flows.items()} == dict.fromkeys(flows, True)
    assert pair.b.drops() == []


def test_without_the_copies_no_protocol_goes_on(pair: Pair, flows: dict[str, RawFlow]) -> None:
    without_copies(pair)
    alive = {name: flow.answered(0.2) for name, flow in flows.items()}
    assert alive == dict.fromkeys(flows, False)


class Translated:
    """A UDP flow or TCP connection between two ends; the far end speaks in the middle."""

    def __init__(self, talk: Talk, seen: tuple[str, int]) -> None:
        self.talk, self.seen = talk, seen

    def answered(self, timeout_s: float = 3) -> bool:
        """Let the far end speak."""
        self.talk.near.settimeout(timeout_s)
        try:
            self.talk.far.send(b"from the far end")
            return self.talk.near.recv(64) == b"from the far end"
        except OSError:
            return False


def _tcp(pair: Pair, to: str, listen: str, port: int, dport: int = 0) -> Translated:
    talk = tcp(pair.client, pair.server, to, listen, port, dport)
    return Translated(talk, talk.far.getpeername()[:2])


def _udp(
    ends: tuple[Namespace, Namespace],
    to: str,
    listen: tuple[str, int],
    port: int,
    source: tuple[str, int] = ("", 0),
) -> Translated:
    near, far = ends
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    client = near.socket(family, socket.SOCK_DGRAM)
    server = far.socket(family, socket.SOCK_DGRAM)
    server.bind(listen)
    client.bind(source)
    client.connect((to, port))
    client.send(b"first")
    seen = server.recvfrom(64)[1][:2]
    server.connect(seen)
    return Translated(Talk(client, server), seen)


@pytest.fixture
def translated(pair: Pair) -> Iterator[dict[str, Translated]]:
    """One flow of each kind of translation, and of each thing that an entry carries."""
    out, back = (pair.client, pair.server), (pair.server, pair.client)
    made = {
        "dnat and snat": _tcp(pair, SHARED_LAN, SERVER, 7101, 7100),
        "dnat": _udp(back, SHARED_WAN, (CLIENT, 7111), 7110),
        "dnat 6": _udp(back, SHARED_WAN6, (CLIENT6, 7111), 7110),
        "mark": _udp(out, SERVER, (SERVER, 7200), 7200),
        "label": _udp(out, SERVER, (SERVER, 7201), 7201),
        "zone": _udp(out, SERVER, (SERVER, 7300), 7300),
        "zone of one direction": _udp(out, SERVER, (SERVER, 7301), 7301),
    }
    # Two flows that want the same port at the shared address: the second one gets another.
    first = _udp(out, SERVER, (SERVER, 7400), 7400, (CLIENT, 4444))
    first.talk.far.close()
    made["clash"] = _udp(out, SERVER, (SERVER, 7400), 7400, (SECOND, 4444))
    assert made["clash"].seen != first.seen == (SHARED_WAN, 4444)
    assert made["dnat and snat"].seen[0] == SHARED_WAN
    for name, flow in made.items():
        assert flow.answered(), name
    yield made
    for flow in (first, *made.values()):
        flow.talk.close()


def test_each_translation_goes_on_through_the_other_node(
    pair: Pair, translated: dict[str, Translated]
) -> None:
    switch(pair)
    alive = {name: flow.answered() for name, flow in translated.items()}
    assert alive == dict.fromkeys(translated, True)
    assert {name: flow.talk.exchange() for name, flow in translated.items()} == alive
    assert pair.b.drops() == []
    carried = {port: pair.b.entries_to(port)[0] for port in (7200, 7201, 7300, 7301)}
    assert "mark=42" in carried[7200] and "mark=0" in carried[7201]
    assert "zone=7" in carried[7300] and "zone-orig=8" in carried[7301]
    # Two answers of the flow that has the label, and none of another.
    assert "packets 2 " in pair.b.run("nft", "list", "chain", "inet", "more", "labelled")


def test_without_the_copies_no_translation_goes_on(
    pair: Pair, translated: dict[str, Translated]
) -> None:
    without_copies(pair)
    alive = {name: flow.answered(0.2) for name, flow in translated.items()}
    assert alive == dict.fromkeys(alive, False)


def test_status_says_x_of_y_and_why_the_others_would_not_survive(pair: Pair) -> None:
    half_open = pair.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    half_open.setblocking(False)
    half_open.connect_ex((NOBODY, 7500))
    talks = [
        tcp(pair.client, pair.server, SERVER, SERVER, 7501),
        tcp(pair.client, pair.a, "10.71.1.2", "10.71.1.2", 7502),
        udp(pair.client, pair.server, SERVER, 99)[0],
    ]
    pair.settle()
    # A comparison counts at once; else the next survey of the whole table does.
    assert ask(pair.b.folder / "sync.sock", {"op": "deep"}, 20, "sync")["same"]

    def counted(node: Node) -> bool:
        answer = ask(node.folder / "sync.sock", {"op": "status"}, 10, "sync")
        found = answer["connections"]
        own = found["not"].get("own", 0)
        # The agent's own session is tracked as well.
        if own < 2 or found["not"] != {"own": own, "masquerade": 1, "half-open": 1}:
            return False
        line = f"1 of {3 + own} connections would survive a switch now; not: {own} of the nodes"
        assert (found["survive"], found["of"]) == (1, 3 + own)
        return any(line in each for each in replica_tool.lines({"problem": ""} | answer))

    for node in (pair.a, pair.b):
        wait_for(lambda node=node: counted(node), 15, f"{node.name} counts")
    for talk in talks:
        talk.close()
    half_open.close()
