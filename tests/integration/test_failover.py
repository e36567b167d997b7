# SPDX-License-Identifier: GPL-3.0-or-later
"""Failover, return, switchover and the lease, on real nodes under real traffic.

Two nodes that forward at once are counted in packets on the switch's ports, with a host whose
neighbour entry is pinned to the deposed node: ARP alone would hide a gate that is open.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.integration import steps
from tests.integration.steps import GATE, HEART, SYNC
from tests.lab import Lab
from tests.lab.plan import wire_of
from tests.lab.watch import after
from tests.probes import driver

SHARED = "10.20.1.1"


def answers(lab: Lab, node: str, address: str = SHARED) -> bool:
    """Whether a node answers ARP for an address, whoever else does."""
    mac = wire_of(node, "lan").mac
    done = lab.host("client").run(["arping", "-c", "3", "-w", "1", "-I", "eth0", address])
    return mac.lower() in done.stdout.lower()


def test_power_loss_keeps_every_connection_and_the_return_moves_nothing(pair: Lab) -> None:
    gone = steps.ready(pair)
    with steps.traffic(pair) as probing:
        pair.power_off(gone)
        time.sleep(2)
    result = probing.result
    assert result.udp["silence_ms"] < 1000
    assert result.tcp["connections_survived"] == result.tcp["connections"] == 100
    assert steps.active(pair) == steps.other(gone)
    before = steps.epoch(pair)

    with steps.traffic(pair) as probing:
        pair.boot(gone)
        steps.ready(pair, 60)
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    assert steps.active(pair) == steps.other(gone)
    assert steps.epoch(pair) == before


def test_switchover_there_and_back_loses_nothing(pair: Lab) -> None:
    for _round in range(2):
        giver = steps.ready(pair)
        with steps.traffic(pair) as probing:
            done = pair.node(giver).run([steps.TOOL, "switchover", "--reason", "test"])
            assert done.returncode == 0, done.stderr
            assert steps.active(pair) == steps.other(giver)
            time.sleep(1)
        assert probing.result.udp["packets_lost"] == 0
        assert probing.result.tcp["connections_survived"] == 100


def test_switchover_is_refused_in_words_when_the_spare_is_not_ready(pair: Lab) -> None:
    giver = steps.ready(pair)
    taker = steps.other(giver)
    pair.node(taker).run(["systemctl", "stop", SYNC])
    try:
        steps.until("not ready", lambda: steps.status(pair, giver).get("ready") is False)
        done = pair.node(giver).run([steps.TOOL, "switchover"])
        assert done.returncode == 1
        assert f"the replica on {taker} is" in done.stderr
        assert steps.active(pair) == giver
        passive = pair.node(taker).run([steps.TOOL, "switchover"])
        assert passive.returncode == 1
        assert f"ask {giver}" in passive.stderr
    finally:
        pair.node(taker).run(["systemctl", "start", SYNC])
    assert steps.ready(pair) == giver


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_an_active_without_heart_is_fenced_before_the_peer_forwards(
    pair: Lab, number: signal.Signals
) -> None:
    deposed = steps.ready(pair)
    taker = steps.other(deposed)
    client = pair.host("client")
    client.pin_neighbour(SHARED, wire_of(deposed, "lan").mac)
    try:
        # The pinned client goes on sending to the deposed node; the dmz host follows the new one.
        with (
            driver.echo(pair.host("server")),
            driver.udp(client, steps.SERVER) as pinned,
            driver.udp(pair.host("dmzhost"), steps.SERVER) as free,
            pair.watch() as watch,
        ):
            time.sleep(1)
            pair.node(deposed).kill(HEART, number)
            steps.until("taken over", lambda: steps.status(pair, taker).get("role") == "active", 10)
            time.sleep(1)
            if number == signal.SIGSTOP:
                pair.node(deposed).kill(HEART, signal.SIGCONT)
            time.sleep(1)
            pinned.finish()
            assert free.finish()["silence_ms"] < 1000
    finally:
        client.unpin_neighbour(SHARED)
    forwarded = watch.delivered()
    assert [frame for frame in forwarded if frame.node == taker], "the control: both were seen"
    assert [frame for frame in forwarded if frame.node == deposed]
    assert after(forwarded, deposed, taker) == []
    assert steps.ready(pair) == taker
    assert steps.status(pair, deposed)["role"] == "passive"


def test_restart_of_heart_by_its_supervisor_on_the_active_is_a_switchover(pair: Lab) -> None:
    giver = steps.ready(pair)
    with steps.traffic(pair) as probing:
        pair.node(giver).run(["systemctl", "restart", HEART])
        time.sleep(1)
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    assert steps.ready(pair) == steps.other(giver)


def test_a_stopped_service_on_the_active_hands_over_and_stays_stopped(pair: Lab) -> None:
    holder = steps.ready(pair)
    node = pair.node(holder)
    units = [HEART, "amaranten-ha-active.target", "amaranten-ha-passive.target"]
    try:
        with steps.traffic(pair) as probing:
            done = node.run(["systemctl", "stop", HEART])
            time.sleep(1)
        assert done.returncode == 0, done.stderr
        assert probing.result.udp["packets_lost"] == 0
        assert steps.active(pair) == steps.other(holder)
        # What follows a role must not bring back who has it.
        assert node.run(["systemctl", "is-active", *units]).stdout.split() == ["inactive"] * 3
    finally:
        node.run(["systemctl", "start", HEART])
    assert steps.ready(pair) == steps.other(holder)


@pytest.mark.parametrize("unit", [GATE, SYNC])
def test_death_of_gate_or_sync_moves_no_role_and_loses_no_packet(pair: Lab, unit: str) -> None:
    holder = steps.ready(pair)
    before = steps.epoch(pair)
    with steps.traffic(pair, 20) as probing:
        for node in (holder, steps.other(holder)):
            pair.node(node).kill(unit, signal.SIGKILL)
        time.sleep(2)
    assert probing.result.udp["packets_lost"] == 0
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


def test_flush_ruleset_on_either_node_leaves_the_gate_alone(pair: Lab) -> None:
    holder = steps.ready(pair)
    before = steps.epoch(pair)
    spare = steps.other(holder)
    try:
        for node in (spare, holder):
            pair.node(node).run(["nft", "flush", "ruleset"])
            time.sleep(0.5)
            gate = steps.status(pair, node)["gate"]
            assert gate["intact"]
            assert gate["open"] == (node == holder)
            assert answers(pair, holder)
            assert not answers(pair, spare)
    finally:
        for node in (spare, holder):
            pair.node(node).run(["systemctl", "restart", "amaranten-ha-ruleset.service"])
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


@pytest.mark.parametrize("of_active", [False, True])
def test_a_device_that_is_deleted_and_made_again_is_gated_before_it_has_addresses(
    pair: Lab, of_active: bool
) -> None:
    holder = steps.ready(pair)
    node = holder if of_active else steps.other(holder)
    device = wire_of(node, "lan").device
    pair.unplug(node, "lan")
    steps.until("gone", lambda: not steps.status(pair, node)["links"]["lan"]["carrier"])
    assert steps.roles(pair)[node] == ("active" if of_active else "passive")
    with pair.watch(ethertypes=(0x0806, 0x0800, 0x86DD)) as watch:
        pair.plug(node, "lan")
        steps.until("heard", lambda: steps.status(pair, node)["links"]["lan"]["heard"])
        time.sleep(1)
        assert answers(pair, holder)
        assert not answers(pair, steps.other(holder))
    spare_mac = wire_of(steps.other(holder), "lan").mac
    spoken = [f for f in watch.frames if f.source_mac == spare_mac and f.source == SHARED]
    assert spoken == []
    chains = pair.node(node).run(["nft", "list", "table", "netdev", "amaranten_ha"]).stdout
    assert f'"{device}"' in chains
    assert steps.ready(pair) == holder
    with steps.traffic(pair, 10) as probing:
        pass
    assert probing.result.tcp["connections_survived"] == 10


def test_a_peer_with_another_key_is_not_believed_and_takes_nothing(pair: Lab) -> None:
    holder = steps.ready(pair)
    before = steps.epoch(pair)
    stranger = pair.node(steps.other(holder))
    strange = 'send_key = 1\\n[keys]\\n1 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="\\n'
    keys = "/etc/amaranten-ha/keys.toml"
    stranger.run(["cp", "-p", keys, f"{keys}.kept"])
    try:
        stranger.run(["sh", "-c", f"printf '{strange}' >{keys}; systemctl restart {HEART} {SYNC}"])
        steps.until("refused", lambda: steps.status(pair, holder)["rejected"].get("seal", 0) > 50)
        time.sleep(2)
        assert steps.roles(pair) == {holder: "active", stranger.name: "starting"}
        assert not steps.status(pair, holder)["ready"]
        assert answers(pair, holder)
        assert not answers(pair, stranger.name)
    finally:
        stranger.run(["sh", "-c", f"mv {keys}.kept {keys}; systemctl restart {HEART} {SYNC}"])
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


def test_restart_of_the_network_manager_changes_nothing(pair: Lab) -> None:
    holder = steps.ready(pair)
    with steps.traffic(pair, 20) as probing:
        for node in (holder, steps.other(holder)):
            done = pair.node(node).run(["systemctl", "restart", "systemd-networkd"])
            assert done.returncode == 0, done.stderr
        time.sleep(2)
    assert probing.result.udp["packets_lost"] == 0
    assert steps.ready(pair) == holder


def test_check_speaks_the_language_of_a_monitoring_system(pair: Lab) -> None:
    holder = steps.ready(pair)
    done = pair.node(holder).run([steps.TOOL, "check"])
    assert (done.returncode, done.stdout.split(" - ")[0]) == (0, "OK")
    pair.node(holder).run(["systemctl", "stop", SYNC])
    try:
        steps.until("warned", lambda: pair.node(holder).run([steps.TOOL, "check"]).returncode == 1)
    finally:
        pair.node(holder).run(["systemctl", "start", SYNC])
    steps.ready(pair)
