# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths that the session may take: what the rulesets let through, a cut, and the way back.

Two real routers with the real service. Their rulesets let the session pass on the sync interface
only, until a test puts another interface into the set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sync_netns import tcp, wait_for
from sync_pair import SERVER, Node, Pair

from amaranten_ha.io.desk import ask

pytestmark = pytest.mark.live


@pytest.fixture
def pair(wired: Pair) -> Iterator[Pair]:
    wired.begin()
    yield wired
    wired.switch.run("ip", "link", "set", "sync", "up")


def said(node: Node) -> dict[str, dict[str, Any]]:
    """What a node says of each path."""
    answer = ask(node.folder / "sync.sock", {"op": "status"}, 5, "sync")
    return {each.pop("interface"): each for each in answer["paths"]}


def passing(node: Node) -> dict[str, object]:
    return {link: each["passes"] for link, each in said(node).items()}


def in_use(node: Node) -> list[str]:
    return [link for link, each in said(node).items() if each["in_use"]]


def wait_passing(pair: Pair, **wanted: bool) -> None:
    for node in (pair.a, pair.b):
        wait_for(lambda node=node: passing(node) == wanted, 20, f"{node.name} knows {wanted}")


def let_through(pair: Pair, link: str, *nodes: Node) -> None:
    for node in nodes or (pair.a, pair.b):
        node.run("nft", "add", "element", "inet", "fw", "paths", f"{{ {link} }}")


def wait_copied(pair: Pair, *ports: int) -> None:
    """Wait until the passive holds these connections, no other, and both say that it is so."""
    same = {"entries": len(ports), "missing": 0, "stale": 0, "share_permille": 1000}
    for node in (pair.a, pair.b):
        node.wait_report(state="synced", **same)
    found = {port for port in range(5301, 5306) if pair.b.entries_to(port)}
    assert found == set(ports)


def test_both_nodes_name_the_links_where_the_ruleset_lets_nothing_through(pair: Pair) -> None:
    wait_passing(pair, sync=True, lan=False, wan=False)
    assert said(pair.b)["lan"] == {"in_use": False, "passes": False, "reason": "no answer"}
    assert said(pair.a)["lan"]["reason"] == "the peer gets no connection through"
    # Who listens is who has to let it in: only there the change matters, and it is tried at once.
    let_through(pair, "lan", pair.a)
    wait_passing(pair, sync=True, lan=True, wan=False)
    assert in_use(pair.a) == in_use(pair.b) == ["sync"]
    pair.a.run("nft", "delete", "element", "inet", "fw", "paths", "{ lan }")
    wait_passing(pair, sync=True, lan=False, wan=False)


def test_a_cut_switches_the_path_and_the_sync_interface_is_gone_back_to(pair: Pair) -> None:
    let_through(pair, "wan")
    wait_passing(pair, sync=True, lan=False, wan=True)
    talks = [tcp(pair.client, pair.server, SERVER, SERVER, 5301)]
    ended = [tcp(pair.client, pair.server, SERVER, SERVER, port) for port in (5304, 5305)]
    pair.settle()
    pair.switch.run("ip", "link", "set", "sync", "down")
    talks.append(tcp(pair.client, pair.server, SERVER, SERVER, 5302))
    pair.a.run("conntrack", "-D", "-p", "tcp", "--dport", "5304")
    for node in (pair.a, pair.b):
        wait_for(lambda node=node: in_use(node) == ["wan"], 20, f"{node.name} is over wan")
    talks.append(tcp(pair.client, pair.server, SERVER, SERVER, 5303))
    pair.settle()
    wait_copied(pair, 5301, 5302, 5303, 5305)
    pair.a.run("conntrack", "-D", "-p", "tcp", "--dport", "5305")
    pair.switch.run("ip", "link", "set", "sync", "up")
    for node in (pair.a, pair.b):
        wait_for(lambda node=node: in_use(node) == ["sync"], 30, f"{node.name} is over sync")
    pair.settle()
    wait_copied(pair, 5301, 5302, 5303)
    wait_passing(pair, sync=True, lan=False, wan=True)
    pair.roles("starting", "active", 2)
    pair.activate(pair.b)
    assert all(talk.exchange() for talk in talks)
    for talk in talks + ended:
        talk.close()


def test_without_a_further_path_a_cut_is_said(pair: Pair) -> None:
    """The control: nothing but the ruleset decides."""
    wait_passing(pair, sync=True, lan=False, wan=False)
    pair.switch.run("ip", "link", "set", "sync", "down")
    for node in (pair.a, pair.b):
        wait_for(lambda node=node: not in_use(node), 15, "the session is given up")
        node.wait_report(5, state="disconnected")
    wait_for(lambda: "on lan" in str(pair.b.report["reason"]), 20, "the others were tried, too")
    assert not in_use(pair.a) and not in_use(pair.b)
