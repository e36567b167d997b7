# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed connections: both sides have said their last word, and something may still be on its way.

Two real routers with the real service; `conntrack` is the oracle. A copy of a closed connection is
counted by nobody, serves what is sent again, and ends by itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import SERVER, Node, Pair

from amaranten_ha.core import flow

pytestmark = pytest.mark.live

PORT = 5010
ANSWER = b"x" * 5004
LOSS = "table ip loss { chain in { type filter hook input priority 0; meta length > 1000 drop; }; }"
"""Full segments are lost behind the firewall; the last one, which is not full, arrives."""


def states(node: Node) -> list[str]:
    return [line.split()[3] for line in node.entries_to(PORT)]


@contextmanager
def loss(pair: Pair) -> Iterator[None]:
    segments = ("ip", "link", "set", "dev", "wan", "gso_max_segs")
    pair.server.run(*segments, "1")
    pair.client.run("nft", "-f", "-", stdin=LOSS)
    try:
        yield
    finally:
        pair.client.run("nft", "delete", "table", "ip", "loss")
        pair.server.run(*segments, "65535")


def question_answered_into_the_void(pair: Pair) -> Talk:
    """A client that has nothing more to say, and an answer that is closed before it arrives."""
    talk = tcp(pair.client, pair.server, SERVER, SERVER, PORT)
    assert talk.exchange()
    pair.settle()
    talk.near.shutdown(socket.SHUT_WR)
    assert talk.far.recv(1) == b""
    talk.far.send(ANSWER, socket.MSG_MORE)
    talk.far.shutdown(socket.SHUT_WR)
    wait_for(lambda: states(pair.a) == ["TIME_WAIT"], 5, "the tracker takes it for closed")
    pair.settle()
    return talk


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "control: nothing is left"])
def test_what_is_sent_again_after_the_last_word_passes_through_the_other_node(
    pair: Pair, copied: bool
) -> None:
    with loss(pair):
        talk = question_answered_into_the_void(pair)
        assert states(pair.b) == ["TIME_WAIT"]
        if not copied:
            pair.b.run("conntrack", "-D", "-p", "tcp", "--dport", str(PORT))
        pair.roles("passive", "active", 2)
        pair.activate(pair.b)
    talk.near.settimeout(6)
    heard = b""
    try:
        while piece := talk.near.recv(len(ANSWER)):
            heard += piece
    except TimeoutError:
        assert not copied
    assert heard == (ANSWER if copied else b"")
    talk.close()


def test_the_copy_is_counted_by_nobody_and_ends_by_itself(pair: Pair) -> None:
    talk = tcp(pair.client, pair.server, SERVER, SERVER, PORT)
    assert talk.exchange()
    pair.settle()
    talk.finish()
    talk.close()
    wait_for(lambda: states(pair.a) == states(pair.b) == ["TIME_WAIT"], 5, "closed on both")
    pair.b.wait_report(entries=0)
    wait_for(lambda: states(pair.b) == [], flow.COPY_LAST_S + 5, "the copy ends")
    assert states(pair.a) == ["TIME_WAIT"]
    assert pair.b.report["reason"] == ""


def test_a_reset_leaves_no_copy(pair: Pair) -> None:
    talk = tcp(pair.client, pair.server, SERVER, SERVER, PORT)
    assert talk.exchange()
    pair.settle()
    assert states(pair.b) == ["ESTABLISHED"]
    talk.far.send(b"nobody reads this")
    talk.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    talk.near.close()
    wait_for(lambda: states(pair.a) == ["CLOSE"], 5, "it is closed")
    wait_for(lambda: states(pair.b) == [], 5, "its copy is removed")
    talk.far.close()


def test_the_last_word_harms_nobody_who_has_its_port_by_now(pair: Pair) -> None:
    """Where ports are short the kernel removes a closed connection to give its port away."""
    for node in (pair.a, pair.b):
        node.translate_to(20000, of=PORT)
    with pair.a.still():  # what it hears, it hears together
        first = tcp(pair.client, pair.server, SERVER, SERVER, PORT, sport=7001)
        first.finish()
        first.close()
        wait_for(lambda: states(pair.a) == ["TIME_WAIT"], 5, "it is closed")
        pair.a.run("conntrack", "-D", "-p", "tcp", "--sport", "7001")
        second = tcp(pair.client, pair.server, SERVER, SERVER, PORT, sport=7002)
    pair.settle()
    # Less than until the next survey of the passive, which would see that it lacks one.
    wait_for(lambda: states(pair.b) == ["ESTABLISHED"], 5, "the living one is copied")
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert second.exchange()
    second.close()
