# SPDX-License-Identifier: GPL-3.0-or-later
"""New keys for a pair in service: no heartbeat lost or refused, wherever the run is interrupted."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.integration import steps
from tests.integration.deployment import Run, deploy, play, varied
from tests.lab import Lab
from tests.lab.plan import NODES

Counts = dict[str, tuple[int, int]]
STEPS = ("Accept the new key as well", "Seal with it", "Drop what the inventory does not have")


def counts(lab: Lab) -> Counts:
    """By node: beats lost on the way, and frames that were not believed."""
    found = {}
    for node in NODES:
        said = steps.status(lab, node)
        lost = sum(link["in"]["lost"] for link in said["links"].values())
        found[node] = (lost, sum(said["rejected"].values()))
    return found


def keys(lab: Lab, node: str) -> Any:
    """The ids of a node's keys, as it says them."""
    return steps.status(lab, node)["health"]["keys"]


def only(number: int, key: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """A change of the inventory to one key."""

    def change(_hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        pair["keys"], pair["send_key"] = {number: key}, number

    return change


def test_a_key_is_changed_in_three_steps_that_may_each_be_the_last(pair: Lab) -> None:
    holder = steps.ready(pair)
    key = base64.b64encode(bytes(range(32))).decode()
    inventory = varied(pair, "rotated", only(2, key))
    # A reboot forgets what the services were started with; heart must not be taken for an old one.
    pair.node(steps.other(holder)).run(["rm", "/run/amaranten-ha-deployed.json"])
    before, epoch = counts(pair), steps.epoch(pair)
    runs: list[Run] = []

    def run(*arguments: str, **options: Any) -> Run:
        runs.append(play(pair, "rotate_key", "--diff", *arguments, inventory=inventory, **options))
        return runs[-1]

    checked = run("--check")
    assert (checked.code, checked.changed) == (0, dict.fromkeys(NODES, 3)), checked.end()
    with steps.traffic(pair) as probing:
        # The controller dies when a step begins: what the one before it did is all that is there.
        run(die_at=STEPS[1])
        assert all(keys(pair, node)[node] == [1, 2] for node in NODES)
        assert all(keys(pair, node)["send"] == 1 for node in NODES)
        run(die_at=STEPS[2])
        assert all(keys(pair, node)["send"] == keys(pair, node)["heard"] == 2 for node in NODES)
        assert all(keys(pair, node)[node] == [1, 2] for node in NODES)
        last = run()
    assert last.code == 0, last.end()
    assert all(keys(pair, node)[name] == [2] for node in NODES for name in NODES)
    again = run()
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()
    # The inventory says what the nodes have, so a deployment has nothing to do.
    site = deploy(pair, "--diff", inventory=inventory)
    assert (site.code, site.changed_on_nodes) == (0, 0), site.end()
    assert counts(pair) == before
    assert (steps.ready(pair), steps.epoch(pair)) == (holder, epoch)
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    old_key = (pair.inventory.parent / "cluster_key").read_text().strip()
    assert not [each for each in runs if key in each.output or old_key in each.output]
    assert "+key 2: hash " in checked.output
    clash = play(pair, "rotate_key", inventory=varied(pair, "clash", only(2, old_key)))
    assert clash.code == 2
    assert "expected a new id for a new key" in clash.output
    back = play(pair, "rotate_key")
    assert back.code == 0, back.end()
    assert all(keys(pair, node)[node] == [1] for node in NODES)
    assert steps.ready(pair) == holder
