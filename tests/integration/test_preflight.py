# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on a pair that runs: it disturbs nobody, and finds what only a running pair shows."""

from __future__ import annotations

from tests.integration import steps
from tests.integration.conftest import converged
from tests.integration.preflight import miscabled, preflight
from tests.lab import Lab
from tests.lab.plan import NODES, Wire

A, B = NODES
CLIENT = "10.20.1.100"


def test_a_running_pair_is_fit_and_does_not_notice(pair: Lab) -> None:
    active = converged(pair)
    epoch = steps.epoch(pair)
    lost = {node: steps.status(pair, node)["links"]["lan"]["in"]["lost"] for node in NODES}
    # The two nodes know each other as neighbours, too, by all their addresses.
    for node in NODES:
        for name in ("lan", "sync"):
            device, peer = pair.device(node, name), pair.mac(steps.other(node), name)
            link_local = f"fe80::41:6dff:fe{peer[9:11]}:{peer[12:14]}{peer[15:17]}"
            pair.node(node).run(["ping", "-c", "1", "-W", "2", f"{link_local}%{device}"])
            known = pair.node(node).run(["ip", "-6", "neighbour", "show", "dev", device]).stdout
            assert "lladdr " + peer in known
    run = preflight(pair)
    assert run.code == 0, run.output
    assert run.findings == []
    assert set(run.checks.values()) == {"ok"}
    assert (converged(pair), steps.epoch(pair)) == (active, epoch)
    for node in NODES:
        assert steps.status(pair, node)["links"]["lan"]["in"]["lost"] == lost[node]
        assert not steps.status(pair, node)["rejected"].get("format")


def test_a_host_that_one_node_reaches_a_filter_and_exchanged_cables_are_told_apart(
    pair: Lab,
) -> None:
    active = converged(pair)
    passive = steps.other(active)
    epoch = steps.epoch(pair)
    # The active knows the client by its traffic; nobody has declared it.
    pair.host("client").run(["ping", "-c", "1", "-W", "2", steps.SERVER])
    with miscabled(pair) as patch:
        patch.separate(Wire("client", "lan"), Wire(passive, "lan"))
        patch.block(Wire(active, "dmz"), Wire(passive, "dmz"))
        run = preflight(pair)
    assert run.code == 2, run.output
    assert run.findings == [
        ("failed", "one-way", ("dmz",), (active, passive)),
        ("failed", "only one node reaches", ("lan",), (passive,)),
    ]
    assert f"{CLIENT}" in run.output
    with miscabled(pair) as patch:
        patch.swap(Wire(passive, "lan"), Wire(passive, "dmz"))
        run = preflight(pair)
    # By the hosts that answer the active it is known which node is wrong.
    assert run.findings == [("failed", "swapped", ("dmz", "lan"), (passive,))], run.output
    assert (converged(pair), steps.epoch(pair)) == (active, epoch)
