# SPDX-License-Identifier: GPL-3.0-or-later
"""After both nodes were active: the loser's connections live on through the winner.

Two real routers with the real service. The sync cable is cut, both are told to be active, and each
carries the traffic of the hosts that reach it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import CLIENT, SERVER, Pair

from amaranten_ha.io.desk import ask

pytestmark = pytest.mark.live


@pytest.fixture
def pair(wired: Pair) -> Iterator[Pair]:
    wired.begin()
    yield wired
    wired.switch.run("ip", "link", "set", "sync", "up")


def split(pair: Pair) -> tuple[Talk, Talk, Talk]:
    """Both become active; returns one connection from before, one of A and one of B."""
    before = tcp(pair.client, pair.server, SERVER, SERVER, 5301)
    assert before.exchange()
    pair.settle()
    pair.switch.run("ip", "link", "set", "sync", "down")
    for node in (pair.a, pair.b):
        node.wait_report(10, state="disconnected")
    pair.b.heart.role("active", 2)
    of_a = tcp(pair.client, pair.server, SERVER, SERVER, 5302)
    assert of_a.exchange()
    pair.activate(pair.b)
    of_b = tcp(pair.client, pair.server, SERVER, SERVER, 5303)
    assert of_b.exchange() and before.exchange()
    return before, of_a, of_b


def heal(pair: Pair) -> None:
    """The cable is back, B yields, and the traffic is A's again."""
    pair.b.heart.role("passive", 2)
    pair.a.heart.role("active", 3)
    pair.switch.run("ip", "link", "set", "sync", "up")
    pair.settle()
    pair.activate(pair.a)


def test_what_began_on_the_loser_goes_on_through_the_winner(pair: Pair) -> None:
    talks = split(pair)
    # What ended on the winner meanwhile does not come back.
    pair.a.run("conntrack", "-D", "-p", "tcp", "--dport", "5302", check=False)
    heal(pair)
    assert [talk.exchange(each) for talk, each in zip(talks, (5, 1, 5), strict=True)] == [
        True,
        False,
        True,
    ]
    shipped, taken = (
        ask(node.folder / "sync.sock", {"op": "status"}, 3, "sync")["counters"]
        for node in (pair.b, pair.a)
    )
    assert (shipped["delta_shipped"], taken["delta_taken"]) == (1, 1)
    wait_for(lambda: len(_copies(pair)) == 2, 15, "B is a copy of A again")
    for talk in talks:
        talk.close()


def test_a_loser_that_has_forgotten_ships_nothing(pair: Pair) -> None:
    """The control: without the delta the connection is swept, and does not go on."""
    talks = split(pair)
    pair.b.kill()
    pair.b.heart.role("passive", 2)
    pair.b.start()
    heal(pair)
    assert [talk.exchange(each) for talk, each in zip(talks, (5, 5, 1), strict=True)] == [
        True,
        True,
        False,
    ]
    for talk in talks:
        talk.close()


def _copies(pair: Pair) -> list[str]:
    return [line for line in pair.b.entries("-p", "tcp") if f"src={CLIENT} " in line]
