# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance, announced restarts and forced switchovers on real nodes under real traffic.

What outlives a reboot is tried with a reboot. No test leaves a node held: the next would fail.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration import steps
from tests.integration.steps import HEART, SYNC
from tests.lab import Lab
from tests.lab.plan import NODES


@pytest.fixture(autouse=True)
def released(pair: Lab) -> Iterator[None]:
    """Both nodes take part again when a test has ended."""
    yield
    for node in NODES:
        pair.node(node).run([steps.TOOL, "maintenance", "off"])


def test_an_announced_restart_of_either_node_moves_nothing(pair: Lab) -> None:
    holder = steps.ready(pair)
    before = steps.epoch(pair)
    with steps.traffic(pair) as probing:
        for node in (holder, steps.other(holder)):
            done = pair.node(node).run([steps.TOOL, "restart", "--json"])
            assert done.returncode == 0, done.stdout + done.stderr
            time.sleep(1)
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before
    found = steps.status(pair, holder)
    assert found["reason"] == "resumed"
    assert found["target"] == {"name": "amaranten-ha-active.target", "result": "started"}


def test_a_restart_with_a_wrong_file_is_refused_and_nothing_happens(pair: Lab) -> None:
    holder = steps.ready(pair)
    node = pair.node(holder)
    began = steps.status(pair, holder)["heart_s"]
    node.run(["cp", "-p", "/etc/amaranten-ha/agent.toml", "/root/agent.toml"])
    node.run(["sed", "-i", 's/^profile = .*/profile = "tortoise"/', "/etc/amaranten-ha/agent.toml"])
    try:
        done = node.run([steps.TOOL, "restart"])
    finally:
        node.run(["mv", "/root/agent.toml", "/etc/amaranten-ha/agent.toml"])
    assert done.returncode == 2
    assert "cluster.profile is 'tortoise'" in done.stderr
    assert steps.status(pair, holder)["heart_s"] >= began
    assert steps.ready(pair) == holder


def test_maintenance_of_the_active_hands_over_and_outlives_a_reboot(pair: Lab) -> None:
    giver = steps.ready(pair)
    taker = steps.other(giver)
    with steps.traffic(pair) as probing:
        done = pair.node(giver).run([steps.TOOL, "maintenance", "on", "--for", "2h"])
        assert done.returncode == 0, done.stderr
        time.sleep(0.5)
    assert probing.result.udp["packets_lost"] == 0
    assert steps.roles(pair) == {giver: "passive", taker: "active"}
    assert 7000 < steps.status(pair, giver)["held_s"] <= 7200
    check = pair.node(taker).run([steps.TOOL, "check"])
    assert check.returncode == 1
    assert f"{giver} is held in maintenance" in check.stdout

    pair.power_off(giver)
    pair.boot(giver)
    steps.until("it is back", lambda: steps.roles(pair)[giver] == "passive", 60)
    assert steps.status(pair, giver)["held"]
    pair.node(taker).kill(HEART, signal.SIGSTOP)
    time.sleep(3)
    assert steps.status(pair, giver)["role"] == "passive"
    pair.node(taker).kill(HEART, signal.SIGCONT)
    steps.until("it goes on", lambda: steps.roles(pair)[taker] == "active", 10)
    assert pair.node(giver).run([steps.TOOL, "maintenance", "off"]).returncode == 0
    assert steps.events(pair, giver, "held")[-1] == "maintenance is over: the operator ended it"
    assert steps.ready(pair, 60) == taker


@pytest.mark.parametrize("words", [["on"], ["on", "--for", "soon"], ["on", "--for", "31d"], ["up"]])
def test_maintenance_without_a_sensible_end_is_bad_input(pair: Lab, words: list[str]) -> None:
    holder = steps.ready(pair)
    done = pair.node(holder).run([steps.TOOL, "maintenance", *words])
    assert done.returncode == 2
    assert done.stderr
    assert not steps.status(pair, holder)["held"]


def test_only_force_hands_over_to_a_replica_that_is_behind(pair: Lab) -> None:
    giver = steps.ready(pair)
    taker = steps.other(giver)
    pair.node(taker).run(["systemctl", "stop", SYNC])
    try:
        steps.until("not ready", lambda: steps.status(pair, giver).get("ready") is False)
        assert pair.node(giver).run([steps.TOOL, "switchover"]).returncode == 1
        done = pair.node(giver).run([steps.TOOL, "switchover", "--force", "--reason", "test"])
        assert done.returncode == 0, done.stderr
        assert steps.active(pair) == taker
    finally:
        pair.node(taker).run(["systemctl", "start", SYNC])
    assert steps.ready(pair, 60) == taker
