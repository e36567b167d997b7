# SPDX-License-Identifier: GPL-3.0-or-later
"""The same ports, another connection: the passive's kernel holds one that is translated otherwise.

Two real routers with the real service. The kernel translates an entry when it is created and never
again, so a copy whose original is held already has to be made anew; `conntrack` is the oracle.
"""

from __future__ import annotations

import re
import socket
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


def end(talk: Talk) -> None:
    """Close both directions in order: the active keeps the entry for two minutes, the copy 10 s."""
    talk.far.shutdown(socket.SHUT_WR)
    assert talk.near.recv(1) == b""
    talk.near.close()
    assert talk.far.recv(1) == b""


def translate_otherwise(node: Node) -> None:
    """From now on this node gives the test's connections another port."""
    rule = f"iifname lan oifname wan tcp dport {PORT} snat ip to {SHARED_WAN}:{OTHER_PORT}"
    node.run("nft", "insert", "rule", "inet", "fw", "after", *rule.split())


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
    end(talks[0])
    wait_for(
        lambda: [each[0] for node in (pair.a, pair.b) for each in held(node)] == ["TIME_WAIT"] * 2,
        5,
        "closed on both",
    )
    translate_otherwise(pair.b)
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


def test_a_half_open_connection_in_the_way(pair: Pair, talks: list[Talk]) -> None:
    """Half-open ones are told to nobody, so the service does not know that it is there."""
    pair.b.run(
        "conntrack", "-I", "-p", "tcp", "--state", "SYN_SENT", "-t", "100",
        "-s", CLIENT, "-d", SERVER, "--sport", str(SPORT), "--dport", str(PORT),
        "-r", SERVER, "-q", SHARED_WAN, "--reply-port-src", str(PORT), "--reply-port-dst", "9999",
    )  # fmt: skip
    assert [each[0] for each in held(pair.b)] == ["SYN_SENT"]
    translate_otherwise(pair.a)
    talks.append(begin(pair))
    pair.settle()
    is_a_copy(pair.b, pair.a)
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert talks[0].exchange()


def test_another_connection_that_holds_the_translation(pair: Pair, talks: list[Talk]) -> None:
    pair.b.run(
        "conntrack", "-I", "-p", "tcp", "--state", "SYN_SENT", "-t", "100",
        "-s", CLIENT, "-d", SERVER, "--sport", "7777", "--dport", str(PORT),
        "-r", SERVER, "-q", SHARED_WAN, "--reply-port-src", str(PORT),
        "--reply-port-dst", str(OTHER_PORT),
    )  # fmt: skip
    assert [each[0] for each in held(pair.b)] == ["SYN_SENT"]
    translate_otherwise(pair.a)
    talks.append(begin(pair))
    pair.settle()
    is_a_copy(pair.b, pair.a)
