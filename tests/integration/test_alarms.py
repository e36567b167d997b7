# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs somebody's hand is said on real nodes, costs no packet, and moves no role.

Each cause is made at the switch, in service, and ends: the alarm must begin, and be over.
"""

from __future__ import annotations

from tests.integration import steps
from tests.integration.preflight import miscabled
from tests.lab import Lab
from tests.lab.plan import NETWORKS, NODES, Wire


def test_cables_exchanged_in_service_are_named_and_move_nothing(pair: Lab) -> None:
    holder = steps.ready(pair)
    spare, before = steps.other(holder), steps.epoch(pair)
    assert not tells(pair, spare, "wiring", ""), "the control: nobody has said it before"
    with steps.traffic(pair) as probing, miscabled(pair) as patch:
        patch.swap(Wire(spare, "lan"), Wire(spare, "dmz"))
        for here, peer in ((spare, holder), (holder, spare)):
            for of, on in (("lan", "dmz"), ("dmz", "lan")):
                said = f"alarm: a heartbeat of {peer} for {of} arrives here on {on}: "
                steps.until(said, lambda here=here, said=said: tells(pair, here, "wiring", said))
        # fe80::1 is shared on both networks: the spare meets the other network's on this one.
        roles = {holder: "active", spare: "fault"}
        steps.until("fault", lambda: steps.roles(pair) == roles)
        assert "answers for fe80::1" in steps.status(pair, spare)["reason"]
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    for here in NODES:
        steps.until("over", lambda here=here: tells(pair, here, "wiring", "over: "))
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


def test_heartbeats_that_something_drops_move_nothing_while_the_peer_answers(pair: Lab) -> None:
    holder = steps.ready(pair)
    spare, before = steps.other(holder), steps.epoch(pair)
    assert not tells(pair, spare, "forwarding", ""), "the control: nobody has said it before"
    with steps.traffic(pair) as probing, miscabled(pair) as patch:
        for network in NETWORKS:
            for one, other in (NODES, NODES[::-1]):
                patch.block(Wire(one, network), Wire(other, network), "ether type 0x88b5")
        steps.until("deaf", lambda: tells(pair, spare, "forwarding", "alarm: "))
        assert steps.roles(pair) == {holder: "active", spare: "passive"}
        assert not steps.status(pair, holder)["ready"]
    assert probing.result.udp["packets_lost"] == 0
    steps.until("over", lambda: tells(pair, spare, "forwarding", "over: "))
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


def tells(lab: Lab, node: str, kind: str, begin: str) -> bool:
    """Whether a node has told something of one kind that begins like this."""
    return any(text.startswith(begin) for text in steps.events(lab, node, kind))
