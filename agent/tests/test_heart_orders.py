# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator orders of two real hearts: restart, switchover by force, maintenance, faults.

There is no sync here, so the replica is always behind: nothing is handed over unless it is forced.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from gate_bench import run, until
from heart_pair import Node, Pair, running_pair

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair that is settled and stays for all tests of this module."""
    with running_pair(tmp_path_factory.mktemp("orders")) as pair:
        yield pair


def begun_anew(node: Node, asked_s: float) -> None:
    """Wait until a heart answers that has begun after a moment of the monotonic clock."""
    until(
        lambda: 0 < node.status().get("heart_s", 1e9) < time.monotonic() - asked_s,
        "heart has begun anew", 15,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def released(pair: Pair) -> Iterator[None]:
    """Nothing is left held for the next test."""
    yield
    for node in pair.nodes:
        node.ask({"op": "maintenance"})


def hears(node: Node, peer: Node) -> None:
    """Wait until a node hears the passive one."""
    until(lambda: node.status()["reasons"] == [behind(peer)], "only the replica is missing", 5)


def behind(peer: Node) -> str:
    """What is always said here, where nothing is replicated."""
    return f"the replica on {peer.name} is stale"


def restarted(node: Node) -> None:
    """Order an announced restart and wait until it is done."""
    asked_s = time.monotonic()
    assert node.ask({"op": "restart"})["ok"]
    begun_anew(node, asked_s)


def test_an_announced_restart_of_the_active_changes_nothing(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    before, changes = active.status(), len(passive.changes())
    for _round in range(3):
        restarted(active)
        after = active.status()
        assert (after["role"], after["reason"]) == ("active", "resumed")
        assert after["epoch"] == before["epoch"]
        assert after["gate"]["open"]
        time.sleep(0.5)
    assert pair.settled()
    assert len(passive.changes()) == changes
    assert "begins anew: an announced restart" in active.log.read_text()


def test_an_announced_restart_of_the_passive_changes_nothing(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    changes = len(active.changes())
    restarted(passive)
    until(pair.settled, "it is passive again", 5)
    assert pair.active is active
    assert len(active.changes()) == changes


def test_a_node_that_dies_in_its_announced_restart_is_followed(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    assert active.ask({"op": "restart"})["ok"]
    active.signal(signal.SIGKILL)
    until(lambda: passive.role == "active", "the peer has taken over after the lease", 10)
    active.services["heart"].wait(10)
    active.restart_heart()
    until(pair.settled, "it came back as the passive one", 10)
    assert pair.active is passive


def test_a_stop_that_can_hand_over_to_nobody_says_farewell(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    hears(active, passive)
    active.signal(signal.SIGTERM)
    assert active.services["heart"].wait(10) == 0
    until(lambda: passive.role == "active", "the peer has taken over", 5)
    assert passive.status()["reason"] == "peer lost: farewell"
    active.restart_heart()
    until(pair.settled, "it came back as the passive one", 10)


def test_only_force_moves_the_role_to_a_replica_that_is_behind(pair: Pair) -> None:
    for _round in range(4):
        giver, taker = pair.active, pair.passive
        hears(giver, taker)
        refused = giver.ask({"op": "switchover"})
        assert not refused["ok"]
        assert refused["reasons"] == [behind(taker)]
        assert giver.ask({"op": "switchover", "force": True}) == {"ok": True, "reasons": []}
        until(pair.settled, "the role has moved", 5)
        assert pair.active is taker
        assert giver.status()["reason"] == "handed over"


def test_the_peer_says_the_fingerprints_that_its_heart_was_told(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    before = active.status()["digests"]
    trial = {"config": before["config"], "ruleset": "0123456789abcdef"}
    assert passive.ask({"op": "reload", **trial})["ok"]
    until(lambda: active.status()["peer"]["digests"] == trial, "the active knows", 5)
    assert "the two nodes have different rulesets" in active.status()["reasons"]
    assert passive.status()["peer"]["digests"] == active.status()["digests"] == before
    assert passive.ask({"op": "reload", **before})["ok"]
    until(lambda: active.status()["peer"]["digests"] == before, "it is as it was", 5)


def test_a_held_node_takes_over_from_nobody_and_the_flag_ends_by_itself(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    assert passive.ask({"op": "maintenance", "until": time.time() + 6})["ok"]
    assert passive.status()["held"] and passive.status()["held_s"] <= 6
    until(lambda: active.status()["peer"]["held"], "the peer knows", 5)
    forced = active.ask({"op": "switchover", "force": True})
    assert forced["reasons"] == [f"{passive.name} is held in maintenance"]
    active.signal(signal.SIGSTOP)
    time.sleep(2)
    assert passive.role == "passive"
    active.signal(signal.SIGCONT)
    until(lambda: active.role == "active", "it is active again", 5)
    until(lambda: not passive.status()["held"], "maintenance is over", 10)
    events = passive.ask({"op": "events"})["events"]
    texts = [each["text"] for each in events if each["kind"] == "held"]
    assert texts[-1] == "maintenance is over: its time has come"


def test_the_active_is_refused_or_hands_over_first_and_two_held_nodes_freeze(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    hears(active, passive)
    end = time.time() + 60
    refused = active.ask({"op": "maintenance", "until": end})
    assert refused["reasons"] == [behind(passive)]
    assert active.ask({"op": "maintenance", "until": end, "force": True})["ok"]
    assert (active.role, passive.role) == ("passive", "active")
    assert active.status()["held"]
    until(lambda: passive.status()["peer"]["held"], "the peer knows", 5)
    refused = passive.ask({"op": "maintenance", "until": end})
    assert f"{active.name} is held in maintenance" in refused["reasons"]
    assert passive.ask({"op": "maintenance", "until": end, "force": True})["ok"]
    assert passive.status()["held"] and passive.role == "active"
    for node in (active, passive):
        assert node.ask({"op": "maintenance"})["ok"]
        assert not node.status()["held"]


@pytest.mark.parametrize("until_s", ["soon", -5, 1e12, float("inf"), [1]])
def test_an_impossible_end_of_maintenance_is_refused_in_words(pair: Pair, until_s: object) -> None:
    answer = pair.passive.ask({"op": "maintenance", "until": until_s})
    assert not answer["ok"]
    assert "expected until within the next" in answer["reasons"][0]


def test_a_node_that_does_not_forward_is_in_fault_until_it_does(pair: Pair) -> None:
    passive = pair.passive
    sysctl = ["ip", "netns", "exec", passive.namespace, "sysctl", "-qw"]
    run(*sysctl, "net.ipv4.ip_forward=0")
    until(lambda: passive.role == "fault", "it is in fault", 5)
    words = "fault: forwarding is off: net.ipv4.ip_forward is 0"
    assert passive.status()["reason"] == words
    run(*sysctl, "net.ipv4.ip_forward=1")
    until(pair.settled, "the fault is over", 5)


def test_an_active_that_stops_forwarding_hands_over_first(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    sysctl = ["ip", "netns", "exec", active.namespace, "sysctl", "-qw"]
    hears(active, passive)
    run(*sysctl, "net.ipv4.ip_forward=0")
    until(lambda: passive.role == "active", "the peer has the role", 5)
    assert passive.status()["reason"] == "accepted hand-over"
    until(lambda: active.role == "fault", "it is in fault", 5)
    run(*sysctl, "net.ipv4.ip_forward=1")
    until(pair.settled, "the fault is over", 5)


def test_a_passive_without_the_nat_chain_of_the_active_is_in_fault(pair: Pair) -> None:
    active, passive = pair.active, pair.passive
    chain = "add table ip t; add chain ip t c { type nat hook postrouting priority 100 ; }"

    def nft(node: Node, text: str) -> None:
        run("ip", "netns", "exec", node.namespace, "nft", text)

    nft(active, chain)
    until(lambda: passive.role == "fault", "it lacks what the active has", 12)
    assert passive.status()["reason"] == f"fault: no nat chain for IPv4, and {active.name} has one"
    nft(passive, chain)
    until(pair.settled, "both have it", 5)
    nft(active, "delete table ip t")
    until(lambda: passive.role == "active", "the active lost it and handed over", 12)
    nft(passive, "delete table ip t")
    until(pair.settled, "nobody translates: no fault", 5)
