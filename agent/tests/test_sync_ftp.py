# SPDX-License-Identifier: GPL-3.0-or-later
"""FTP across a switch: what its helper waits for, what it has rewritten, and what followed from it.

Active mode, because it needs all of it: the client announces a port, the helper rewrites address
and port (and so the length of what was said), and the server connects to the shared address.
Without the expectation that connection is new, comes from outside and is dropped.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import CLIENT, SERVER, SHARED_WAN, Node, Pair
from sync_samples import packed

from amaranten_ha.core import flow, rewrite, tlv
from amaranten_ha.io.desk import ask
from amaranten_ha.io.netlink import CREATE_EXCLUSIVE, CT_DELETE, CT_NEW, Request, Table

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

HELPER = """
table inet ftp {
    ct helper standard { type "ftp" protocol tcp; }
    chain assign { type filter hook prerouting priority 0; tcp dport 21 ct helper set "standard"; }
}
"""


@pytest.fixture(scope="module")
def wired(wired: Pair) -> Pair:
    for node in (wired.a, wired.b):
        node.run("nft", "-f", "-", stdin=HELPER)
    return wired


class Ftp:
    """A control connection, and what is announced and opened through it."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.control = tcp(pair.client, pair.server, SERVER, SERVER, 21)
        for end in (self.control.near, self.control.far):
            end.settimeout(2)
        assert self.lines("220 ready", "USER somebody")

    def lines(self, answer: str, command: str) -> bool:
        """Say one line each way; False if it does not arrive."""
        ends = (self.control.far, self.control.near)
        for end, other, text in ((*ends, answer), (*reversed(ends), command)):
            try:
                end.send(f"{text}\r\n".encode())
                if other.recv(200) != f"{text}\r\n".encode():
                    return False
            except OSError:
                return False
        return True

    def announce(self, port: int) -> bytes:
        """Say on which port the client waits; returns what the server hears."""
        numbers = f"{CLIENT.replace('.', ',')},{port >> 8},{port & 255}"
        self.control.near.send(f"PORT {numbers}\r\n".encode())
        return self.control.far.recv(200)

    def data(self, port: int, timeout_s: float = 3) -> Talk | None:
        """Open the data connection from the server to the shared address."""
        listener = self._pair.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((CLIENT, port))
        listener.listen(1)
        listener.settimeout(timeout_s)
        active = self._pair.server.socket(socket.AF_INET, socket.SOCK_STREAM)
        active.settimeout(timeout_s)
        try:
            active.connect((SHARED_WAN, port))
            return Talk(active, listener.accept()[0])
        except OSError:
            active.close()
            return None
        finally:
            listener.close()

    def close(self) -> None:
        self.control.close()


@pytest.fixture
def pair(wired: Pair) -> Pair:
    wired.begin()
    for node in (wired.a, wired.b):
        node.run("conntrack", "-F", "expect", check=False)
    return wired


@pytest.fixture
def ftp(pair: Pair) -> Iterator[Ftp]:
    made = Ftp(pair)
    yield made
    made.close()


def expected(node: Node) -> list[str]:
    """What helpers wait for on this node, as conntrack-tools see it."""
    return node.run("conntrack", "-L", "expect", check=False).splitlines()


def switch(pair: Pair) -> None:
    pair.settle()
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)


def test_what_was_announced_before_the_switch_is_opened_after_it(pair: Pair, ftp: Ftp) -> None:
    assert ftp.announce(51401) == b"PORT 192,0,2,1,200,201\r\n"
    switch(pair)
    data = ftp.data(51401)
    assert data is not None and data.exchange()
    assert pair.b.entries_to(51401)
    assert ftp.lines("226 done", "NOOP")
    assert pair.b.drops() == []
    data.close()


def test_without_the_expectation_it_is_not_opened(pair: Pair, ftp: Ftp) -> None:
    ftp.announce(51402)
    pair.settle()
    wait_for(lambda: len(expected(pair.b)) == 1, 15, "the expectation is copied")
    pair.b.kill()
    pair.b.run("conntrack", "-F", "expect")
    pair.activate(pair.b)
    assert ftp.data(51402, timeout_s=1) is None


def test_the_control_connection_goes_on_with_what_was_rewritten_in_it(pair: Pair, ftp: Ftp) -> None:
    """Each PORT got shorter by two bytes, so the numbers of client and server differ by four."""
    ftp.announce(51403)
    ftp.announce(51404)
    switch(pair)
    assert ftp.lines("200 ok", "NOOP")
    # The helper goes on here, too: it sees the next announcement and rewrites it.
    assert ftp.announce(51405) == b"PORT 192,0,2,1,200,205\r\n"
    data = ftp.data(51405)
    assert data is not None and data.exchange()
    assert pair.b.drops() == []
    data.close()


def test_without_the_sequence_adjustment_it_does_not_go_on(pair: Pair, ftp: Ftp) -> None:
    ftp.announce(51406)
    ftp.announce(51407)
    pair.settle()
    pair.b.kill()
    with pair.b.inside():
        table = Table()
    # Not the session of the nodes themselves, which is TCP as well.
    entry = next(
        each
        for each in pair.b.dumped()
        if each.protocol == flow.TCP and packed(CLIENT) in each.addresses
    )
    adjusted = [kind for kind in (flow.SEQ_ADJ_ORIG, flow.SEQ_ADJ_REPLY) if kind in entry.fields]
    assert adjusted == [flow.SEQ_ADJ_ORIG]
    adjustment = tlv.nest(flow.SEQ_ADJ_ORIG, entry.fields[flow.SEQ_ADJ_ORIG])
    without = rewrite.creation(entry).replace(adjustment, b"")
    table.change([Request(CT_DELETE, 0, entry.family, entry.key)])
    assert table.change([Request(CT_NEW, CREATE_EXCLUSIVE, entry.family, without)]) == {}
    table.close()
    pair.activate(pair.b)
    assert not ftp.lines("200 ok", "NOOP")


def test_a_data_connection_goes_on_and_keeps_its_master(pair: Pair, ftp: Ftp) -> None:
    ftp.announce(51408)
    data = ftp.data(51408)
    assert data is not None and data.exchange()
    switch(pair)
    assert data.exchange()
    children = [each for each in pair.b.dumped() if flow.MASTER in each.fields]
    assert len(children) == 1
    assert pair.b.drops() == []
    data.close()


def test_an_expectation_that_ended_ends_on_the_passive_too(pair: Pair, ftp: Ftp) -> None:
    ftp.announce(51409)
    wait_for(lambda: len(expected(pair.b)) == 1, 15, "the expectation is copied")
    pair.a.run("conntrack", "-F", "expect")
    wait_for(lambda: expected(pair.b) == [], 15, "it is gone on the passive")


def test_a_passive_that_starts_later_learns_what_is_expected(pair: Pair, ftp: Ftp) -> None:
    pair.b.kill()
    pair.b.run("conntrack", "-F", check=False)
    ftp.announce(51410)
    pair.b.start()
    pair.settle()
    wait_for(lambda: len(expected(pair.b)) == 1, 15, "the expectation is copied")
    # And back: what the new active has is there on the one that was active.
    pair.hand_over(pair.a, pair.b, 2)
    pair.settle()
    assert len(expected(pair.a)) == 1


NOT_LOADED = r"""
from amaranten_ha.core import rewrite, tlv
class Renaming:
    nest, index, NESTED = tlv.nest, tlv.index, tlv.NESTED
    def attribute(kind, data):
        return tlv.attribute(kind, b"nop\0" if data == b"ftp\0" else data)
rewrite.tlv = Renaming
"""
"""One kernel is under both nodes, so this node asks it for a helper that nobody has."""


def wait_counted(pair: Pair, helpless: int) -> None:
    """Wait until both nodes say how many copies lack their helper."""

    def counted(node: Node) -> bool:
        said = ask(node.folder / "sync.sock", {"op": "status"}, 10, "sync")["connections"]["not"]
        return bool(said.get("no helper", 0) == helpless)

    for node in (pair.a, pair.b):
        wait_for(lambda node=node: counted(node), 15, f"{node.name}: {helpless} without a helper")


def test_a_passive_without_the_helper_says_so_and_the_connection_goes_on(pair: Pair) -> None:
    pair.b.altered = NOT_LOADED
    try:
        pair.begin()
        ftp = Ftp(pair)
        wait_counted(pair, 1)
        for _restart in range(2):  # a bulk says it again, also to a service that knew nothing
            pair.b.kill()
            pair.b.start()
            pair.settle()
            wait_counted(pair, 1)
        switch(pair)
        assert ftp.lines("200 ok", "NOOP")
        assert ftp.announce(51411) != b"PORT 192,0,2,1,200,211\r\n", "nobody rewrites it here"
        assert pair.b.drops() == []
        ftp.close()
        wait_counted(pair, 0)
    finally:
        pair.b.altered = ""


def test_with_the_helper_every_copy_counts_as_surviving(pair: Pair, ftp: Ftp) -> None:
    pair.b.kill()
    pair.b.start()
    pair.settle()
    wait_counted(pair, 0)
    assert ftp.lines("200 ok", "NOOP")
