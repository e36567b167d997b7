# SPDX-License-Identifier: GPL-3.0-or-later
"""Live connections through two real routers, with the real sync service between them.

nf_conntrack_tcp_loose is 0 on both, and what is invalid or new without SYN is dropped: a connection
that goes on does so because its entry was there, translated and usable.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

import pytest
from sync_heart import Heart
from sync_netns import Talk, tcp, udp, wait_for
from sync_pair import (
    CLIENT,
    CLIENT6,
    KEY,
    OTHER_KEY,
    SERVER,
    SERVER6,
    SHARED_WAN,
    SHARED_WAN6,
    Node,
    Pair,
)
from sync_traffic import unheard

from amaranten_ha.io.desk import ask

pytestmark = pytest.mark.live

CLASSES: dict[str, Callable[[Pair], Talk]] = {
    "tcp snat": lambda pair: tcp(pair.client, pair.server, SERVER, SERVER, 5001),
    "tcp6 snat": lambda pair: tcp(pair.client, pair.server, SERVER6, SERVER6, 5001),
    "tcp dnat": lambda pair: tcp(pair.server, pair.client, SHARED_WAN, CLIENT, 80, 8080),
    "tcp6 dnat": lambda pair: tcp(pair.server, pair.client, SHARED_WAN6, CLIENT6, 80, 8080),
    "udp snat": lambda pair: udp(pair.client, pair.server, SERVER, 5002)[0],
    "udp6 snat": lambda pair: udp(pair.client, pair.server, SERVER6, 5002)[0],
}


@pytest.fixture
def talks(pair: Pair) -> Iterator[dict[str, Talk]]:
    """One live connection of each class, known to both nodes."""
    made = {name: begin(pair) for name, begin in CLASSES.items()}
    for talk in made.values():
        assert talk.exchange()
    pair.settle()
    yield made
    for talk in made.values():
        talk.close()


def test_every_class_goes_on_through_the_other_node_and_back(
    pair: Pair, talks: dict[str, Talk]
) -> None:
    assert pair.b.report["entries"] == len(CLASSES)
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert {name: talk.exchange() for name, talk in talks.items()} == dict.fromkeys(talks, True)
    # The windows move far beyond what A has seen, so its own entries are stale when it is back.
    for _try in range(50):
        assert all(talk.exchange() for talk in talks.values())
    pair.settle()
    pair.roles("active", "passive", 3)
    pair.activate(pair.a)
    assert {name: talk.exchange() for name, talk in talks.items()} == dict.fromkeys(talks, True)
    assert pair.a.drops() + pair.b.drops() == []


def test_without_the_entries_none_goes_on(pair: Pair, talks: dict[str, Talk]) -> None:
    pair.b.kill()
    pair.b.run("conntrack", "-F", check=False)
    pair.activate(pair.b)
    alive = {name: talk.exchange(timeout_s=0.6) for name, talk in talks.items()}
    # UDP from inside makes a new entry and the same translation; nothing else gets through.
    assert not any(talk for name, talk in alive.items() if name.startswith("tcp")), alive
    assert pair.b.drops()


def transfer(talk: Talk, total: int, at: dict[int, Callable[[], None]]) -> None:
    """Send bytes from near to far, and do things when so many have arrived."""
    chunk, sent, received = b"x" * 65536, 0, 0
    talk.near.setblocking(False)
    while received < total:
        for mark in [mark for mark in at if received >= mark]:
            at.pop(mark)()
        wants = [talk.near] if sent < total else []
        readable, writable, _broken = select.select([talk.far], wants, [], 15)
        assert readable or writable, f"stalled after {received} of {total} bytes"
        if writable:
            sent += talk.near.send(chunk[: total - sent])
        if readable:
            received += len(talk.far.recv(65536))
    assert not at


def test_a_bulk_transfer_is_handed_over_there_and_back(pair: Pair) -> None:
    talk = tcp(pair.client, pair.server, SERVER, SERVER, 5003)
    talk.exchange()
    pair.settle()
    there = {1 << 20: lambda: pair.hand_over(pair.a, pair.b, 2)}
    back = {3 << 20: lambda: pair.hand_over(pair.b, pair.a, 3)}
    transfer(talk, 4 << 20, there | back)
    drops = pair.a.drops() + pair.b.drops()
    assert drops == [], drops + pair.a.entries()
    talk.close()


def test_a_bulk_transfer_survives_power_loss(pair: Pair) -> None:
    talk = tcp(pair.client, pair.server, SERVER, SERVER, 5009)
    talk.exchange()
    pair.settle()

    def power_loss() -> None:
        pair.power(pair.a, on=False)
        pair.b.heart.role("active", 2)
        pair.activate(pair.b)

    try:
        transfer(talk, 4 << 20, {1 << 20: power_loss})
    finally:
        pair.power(pair.a, on=True)
    assert pair.b.drops() == []
    talk.close()


def test_closing_and_the_end_of_a_connection_are_told(pair: Pair, talks: dict[str, Talk]) -> None:
    talks["tcp snat"].finish()

    def states(node: Node) -> list[str]:
        """The state of this connection there, if it is there."""
        lines = [line for line in node.entries_to(5001) if CLIENT in line]
        return [line.split()[3] for line in lines if line.startswith("tcp")]

    closed = [["TIME_WAIT"]] * 2
    wait_for(lambda: [states(pair.a), states(pair.b)] == closed, 15, "it closes on both")
    pair.b.wait_report(entries=len(CLASSES) - 1)
    pair.a.run("conntrack", "-D", "-p", "udp", check=False)
    pair.b.wait_report(entries=len(CLASSES) - 3)
    assert not [line for line in pair.b.entries() if line.startswith("udp")]


def test_the_ports_of_a_closed_connection_serve_again_on_both_nodes(pair: Pair) -> None:
    begin = (pair.client, pair.server, SERVER, SERVER, 5010)
    tcp(*begin, sport=7010).close()  # reset: the client may use its port at once
    wait_for(lambda: "CLOSE" in "".join(pair.a.entries_to(5010)), 5, "it is closed on A")
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    again = tcp(*begin, sport=7010)
    pair.settle()
    # A has seen the end of the first one, and now holds a copy of the second.
    pair.roles("active", "passive", 3)
    pair.activate(pair.a)
    assert again.exchange()
    assert pair.a.drops() + pair.b.drops() == []
    again.close()


def test_the_sweep_removes_what_is_stale_and_never_what_is_local(pair: Pair) -> None:
    pair.b.kill()
    # A stale connection through B, and one of B itself.
    add = ["conntrack", "-I", "-p", "udp", "-t", "600", "-u", "ASSURED"]
    pair.b.run(*add, "-s", CLIENT, "-d", SERVER, "--sport", "7", "--dport", "7")
    pair.b.run(*add, "-s", CLIENT, "-d", "10.71.1.3", "--sport", "8", "--dport", "8")
    pair.b.start()
    pair.b.wait_report(state="synced")
    left = [line for line in pair.b.entries("-p", "udp") if "udp" in line]
    assert ["dport=8 " in line for line in left] == [True], left


def test_own_traffic_and_masquerade_are_not_replicated(pair: Pair) -> None:
    local = tcp(pair.client, pair.a, "10.71.1.2", "10.71.1.2", 5004)
    tied, seen = udp(pair.client, pair.server, SERVER, 99)
    assert seen[0] == "192.0.2.2"  # A's own address: the connection cannot move
    # B's management address is declared nowhere; A reaches it for the client.
    to_peer = pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
    to_peer.sendto(b"x", ("10.71.9.3", 5))
    moves = tcp(pair.client, pair.server, SERVER, SERVER, 5005)
    pair.settle()
    assert [line for line in pair.a.entries() if "dst=10.71.9.3" in line]
    assert pair.a.report["entries"] == pair.b.report["entries"] == 1
    assert pair.b.report["share_permille"] == 1000
    assert len(pair.b.entries_to(5005)) == 1
    assert not pair.b.entries_to(5004, 99)
    to_peer.close()
    for talk in (local, tied, moves):
        talk.close()


@pytest.mark.parametrize("which", ["a", "b"])
def test_a_restart_of_either_side_heals(pair: Pair, talks: dict[str, Talk], which: str) -> None:
    node = pair.a if which == "a" else pair.b
    node.kill()
    talks["born meanwhile"] = tcp(pair.client, pair.server, SERVER, SERVER, 5006)
    pair.a.run("conntrack", "-D", "-p", "udp", check=False)
    node.start()
    pair.settle()
    assert pair.b.entries_to(5006)
    assert not pair.b.entries_to(5002)


def test_a_cut_of_the_sync_cable_heals(pair: Pair, talks: dict[str, Talk]) -> None:
    pair.switch.run("ip", "link", "set", "sync", "down")
    talks["born meanwhile"] = tcp(pair.client, pair.server, SERVER, SERVER, 5007)
    why = {"state": "disconnected", "reason": "nothing heard for 1500 ms"}
    for node in (pair.a, pair.b):  # said before what came of trying again
        wait_for(lambda node=node: node.said(**why), 10, f"{node.name} gave the session up")
    pair.a.run("conntrack", "-D", "-p", "udp", check=False)
    pair.switch.run("ip", "link", "set", "sync", "up")
    pair.settle()
    assert pair.b.entries_to(5007)
    assert not pair.b.entries_to(5002)


def test_lost_events_heal(pair: Pair) -> None:
    with unheard(pair, range(10_000, 40_000)):  # more than the event socket's buffer holds
        pair.settle(20)
        said = ask(pair.a.folder / "sync.sock", {"op": "status"}, 20, "sync")
        assert said["counters"]["events_lost"] > 0, "the kernel had room for everything"
        kept = len(pair.a.entries("-p", "udp"))
        assert kept > 27_000
        assert len(pair.b.entries("-p", "udp")) == kept


def test_a_wrong_key_is_refused_and_named(pair: Pair) -> None:
    pair.b.kill()
    pair.b.key(OTHER_KEY)
    pair.b.start()
    talk = tcp(pair.client, pair.server, SERVER, SERVER, 5008)
    for node in (pair.a, pair.b):
        node.wait_report(
            state="disconnected",
            reason="wrong key: what the peer seals with key 1 cannot be opened"
            " (both nodes need the same bytes under that id)",
        )
    assert not pair.b.entries_to(5008)
    pair.b.kill()
    pair.b.key(KEY)
    pair.b.start()
    pair.settle()
    assert pair.b.entries_to(5008)
    talk.close()


def test_what_a_node_did_not_take_is_not_waited_for_for_ever(pair: Pair) -> None:
    pair.settle()
    pair.b.heart.role("starting", 1)
    pair.a.wait_report(state="stale")
    talk = udp(pair.client, pair.server, SERVER, 5009)[0]
    assert talk.exchange()
    wait_for(lambda: pair.a.report["entries"] == 1, 10, "the connection is known")
    pair.a.run("conntrack", "-D", "-s", CLIENT)
    talk.close()
    wait_for(lambda: pair.a.report["entries"] == 0, 10, "its end is known")
    pair.b.heart.role("passive", 1)
    pair.settle()  # nothing is left to be told, so nothing would ever confirm what was told before
    wait_for(lambda: pair.a.report["lag_entries"] == pair.a.report["lag_ms"] == 0, 10, "no lag")


def test_the_barrier_comes_after_everything_before_it(pair: Pair) -> None:
    talks = [tcp(pair.client, pair.server, SERVER, SERVER, 6000 + each) for each in range(40)]
    pair.settle()
    copied = pair.b.entries_to(*range(6000, 6040))
    assert len(copied) == 40
    assert all("ESTABLISHED" in line for line in copied)
    for talk in talks:
        talk.close()


def test_a_node_that_steps_down_tells_no_deletions(pair: Pair, talks: dict[str, Talk]) -> None:
    pair.a.heart.role("passive", 2)
    pair.a.wait_report(state="stale")
    pair.a.run("conntrack", "-D", "-p", "udp", check=False)
    pair.a.wait_report(entries=len(CLASSES) - 2)
    assert pair.b.entries_to(5002)
    assert pair.b.report["entries"] == len(CLASSES)


def test_the_passive_is_told_again_of_what_it_lost(pair: Pair, talks: dict[str, Talk]) -> None:
    pair.b.run("conntrack", "-F", check=False)
    pair.b.wait_report(entries=len(CLASSES))
    pair.activate(pair.b)
    assert all(talk.exchange() for talk in talks.values())


def test_epochs_are_kept_and_a_heart_that_is_away_means_starting(pair: Pair) -> None:
    pair.a.heart.role("active", 9)
    path = pair.a.folder / "epoch.json"
    wait_for(lambda: path.read_text() == '{"epoch": 9, "last_active": 9}\n', 8, "the epoch is kept")
    pair.a.heart.close()
    # It takes nothing and tells nothing until heart is back, and its copy stays what it is.
    pair.b.heart.role("active", 10)
    pair.b.wait_report(reason="fw-a is starting: it takes nothing")
    pair.b.heart.role("passive", 10)
    pair.a.heart = Heart(pair.a.folder / "heart.sock")
    pair.a.heart.role("active", 9)
    pair.settle()
