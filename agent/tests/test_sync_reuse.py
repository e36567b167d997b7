# SPDX-License-Identifier: GPL-3.0-or-later
"""The same ports, another connection: the passive's kernel holds one that is translated otherwise.

Two real routers with the real service. The kernel translates an entry when it is created and never
again, so a copy whose original is held already has to be made anew; `conntrack` is the oracle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import CLIENT, SERVER, SHARED_WAN, Node, Pair

pytestmark = pytest.mark.live

PORT, SPORT, OTHER_PORT = 5010, 7010, 9010


@pytest.fixture
def talks() -> Iterator[list[Talk]]:
    made: list[Talk] = []
    yield made
    for talk in made:
        talk.close()


def begin(pair: Pair) -> Talk:
    return tcp(pair.client, pair.server, SERVER, SERVER, PORT, sport=SPORT)


def held(node: Node) -> list[tuple[str, list[str]]]:
    """The state and both tuples of the test's connections."""
    return [
        (line.split()[3], re.findall(r"(?:src|dst|sport|dport)=\S+", line))
        for line in node.entries_to(PORT)
    ]


def is_a_copy(passive: Node, active: Node) -> None:
    """Both hold the same one, with the other port. The time is less than until the next survey."""

    def same() -> bool:
        return held(passive) == held(active)

    wait_for(same, 5, f"the copy {held(passive)} is like {held(active)}")
    [(state, tuples)] = held(active)
    assert state == "ESTABLISHED"
    assert tuples[-1] == f"dport={OTHER_PORT}"


def test_ports_that_are_used_anew_through_the_other_node(pair: Pair, talks: list[Talk]) -> None:
    talks.append(begin(pair))
    pair.settle()
    talks[0].finish()
    wait_for(
        lambda: [each[0] for node in (pair.a, pair.b) for each in held(node)] == ["TIME_WAIT"] * 2,
        5,
        "closed on both",
    )
    pair.b.translate_to(OTHER_PORT, of=PORT)
    pair.b.heart.role("active", 2)
    pair.activate(pair.b)
    talks.append(begin(pair))
    # A, which was away meanwhile, keeps what is closed, and is told of the other one by a bulk.
    pair.a.heart.role("passive", 2)
    pair.settle()
    is_a_copy(pair.a, pair.b)
    assert pair.a.report["reason"] == ""
    pair.roles("active", "passive", 3)
    pair.activate(pair.a)
    assert talks[1].exchange()


def begin_with_another_in_the_way(pair: Pair, talks: list[Talk], *, sport: int, port: int) -> None:
    """B holds a half-open one, of which nobody tells, from `sport` and translated to `port`."""
    pair.b.run(
        "conntrack", "-I", "-p", "tcp", "--state", "SYN_SENT", "-t", "100",
        "-s", CLIENT, "-d", SERVER, "--sport", str(sport), "--dport", str(PORT),
        "-r", SERVER, "-q", SHARED_WAN, "--reply-port-src", str(PORT),
        "--reply-port-dst", str(port),
    )  # fmt: skip
    assert [each[0] for each in held(pair.b)] == ["SYN_SENT"]
    pair.a.translate_to(OTHER_PORT, of=PORT)
    talks.append(begin(pair))
    pair.settle()
    is_a_copy(pair.b, pair.a)


def test_a_half_open_connection_in_the_way(pair: Pair, talks: list[Talk]) -> None:
    """Half-open ones are told to nobody, so the service does not know that it is there."""
    begin_with_another_in_the_way(pair, talks, sport=SPORT, port=9999)
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert talks[0].exchange()


def test_another_connection_that_holds_the_translation(pair: Pair, talks: list[Talk]) -> None:
    begin_with_another_in_the_way(pair, talks, sport=7777, port=OTHER_PORT)
