# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel over real TCP on loopback addresses: it opens, refuses, notices, mends."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sync_samples import tcp_entry

from amaranten_ha.core import flow, greeting, stream
from amaranten_ha.core.beat import Role
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.timing import PROFILES
from amaranten_ha.io.channel import Channel
from amaranten_ha.io.paths import PATIENCE_NS, Ways, paths
from amaranten_ha.settings import Cluster, Interface, Node, Replication, Settings

ONE, TWO = "127.71.4.2", "127.71.4.3"
KEYS = KeyRing({1: b"k" * 32}, 1)
STATE = stream.State(Role.PASSIVE, want=5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ONE, 0))
        return int(probe.getsockname()[1])


def settings(number: int, port: int, keys: KeyRing = KEYS) -> Settings:
    own, peer = (ONE, TWO) if number == 1 else (TWO, ONE)
    sync = Interface(
        name="sync", link=1, role="sync", device="lo",
        own=(ipaddress.ip_interface(f"{own}/24"),),
        peer_own=(ipaddress.ip_interface(f"{peer}/24"),),
        shared=(),
    )  # fmt: skip
    return Settings(
        cluster=Cluster(7, "edge", "virtual", PROFILES["virtual"]),
        node=Node("fw-a", number), peer=Node("fw-b", 3 - number), interfaces=(sync,),
        replication=Replication(port), gateways=(), keys=keys,
    )  # fmt: skip


class Relay:
    """A man in the middle, on the listener's address under another port; it keeps what was said."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((ONE, 0))
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._lines: list[tuple[socket.socket, socket.socket, bytearray]] = []

    @property
    def heard(self) -> list[bytes]:
        """What the connecting and what the listening side said."""
        return [bytes(heard) for _source, _far, heard in self._lines]

    def turn(self) -> bool:
        """Pass on what is there; always False, so that it can stand in a condition."""
        with contextlib.suppress(BlockingIOError):
            near, _address = self._listener.accept()
            far = socket.create_connection((ONE, self._to), source_address=(TWO, 0))
            self._lines += [(near, far, bytearray()), (far, near, bytearray())]
            near.setblocking(False)
            far.setblocking(False)
        for source, target, heard in self._lines:
            with contextlib.suppress(BlockingIOError):
                data = source.recv(65536)
                heard += data
                target.sendall(data)
        return False

    def held_back(self) -> bytes:
        """Take what the connecting side has said, and do not pass it on."""
        source = self._lines[0][0]
        source.setblocking(True)
        data = source.recv(65536)
        source.setblocking(False)
        return data

    def say(self, data: bytes) -> None:
        """Say something to the listening side, as if the connecting one had."""
        self._lines[0][1].sendall(data)

    def close(self) -> None:
        for source, _far, _heard in self._lines:
            source.close()
        self._listener.close()


class Ends:
    """Two channels, turned by the test; time is the real one, plus what the test adds."""

    def __init__(self) -> None:
        self.port = free_port()
        self.ahead_ns = 0
        self.got: dict[Channel, list[stream.Message]] = {}
        self.one = self.make(settings(1, self.port))
        self.two = self.make(settings(2, self.port))

    def make(self, of: Settings) -> Channel:
        channel = Channel(of, os.urandom, lambda: STATE)
        self.got[channel] = []
        return channel

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.ahead_ns

    def exchange(self, old: Channel, of: Settings) -> Channel:
        """Put another channel in the place of one."""
        old.close()
        del self.got[old]
        return self.make(of)

    def turn(self, *channels: Channel) -> None:
        for channel in channels or (self.one, self.two):
            self.got[channel] += channel.turn(self.now_ns())
            channel.flush(self.now_ns())

    def until(self, what: Callable[[], bool], *channels: Channel, seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            reasons = [each.reason(self.now_ns()) for each in (self.one, self.two)]
            assert time.monotonic() < deadline, reasons
            self.turn(*channels)
            time.sleep(0.001)

    def both_up(self) -> bool:
        return self.one.up and self.two.up


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    for channel in made.got:
        channel.close()


def test_both_prove_themselves_and_messages_pass_in_both_directions(ends: Ends) -> None:
    ends.until(ends.both_up)
    ends.one.send(stream.BarrierPassed(1))
    ends.two.send(stream.BarrierPassed(2))
    ends.until(lambda: all(len(got) == 2 for got in ends.got.values()))
    assert ends.got[ends.one] == [STATE, stream.BarrierPassed(2)]
    assert ends.got[ends.two] == [STATE, stream.BarrierPassed(1)]
    assert (ends.one.session, ends.two.session) == (1, 1)


def test_nothing_travels_in_clear(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    # Compression alone would hide it: speak as with an earlier minor version.
    monkeypatch.setattr(greeting, "COMPRESSING_MINOR", greeting.MINOR + 1)
    secret = b"10.1.0.9 talks to its bank"
    passing = Relay(ends.port)
    ends.two = ends.exchange(ends.two, settings(2, passing.port))
    ends.until(lambda: passing.turn() or ends.both_up())
    ends.one.send(stream.Ask((secret,)))
    ends.until(lambda: passing.turn() or stream.Ask((secret,)) in ends.got[ends.two])
    assert all(len(said) > 100 and secret not in said for said in passing.heard)
    passing.close()


def test_a_wrong_key_is_refused_with_its_reason_on_both_sides(ends: Ends) -> None:
    ends.two = ends.exchange(ends.two, settings(2, ends.port, KeyRing({1: b"x" * 32}, 1)))

    def named() -> bool:
        both = (ends.one, ends.two)
        return all("wrong key" in each.reason(ends.now_ns()) for each in both)

    ends.until(named)
    assert not ends.one.up and not ends.two.up
    assert ends.got[ends.one] == ends.got[ends.two] == []


def test_any_accepted_key_will_do(ends: Ends) -> None:
    keys = {1: b"k" * 32, 9: b"n" * 32}
    ends.two = ends.exchange(ends.two, settings(2, ends.port, KeyRing(keys, 9)))
    ends.one = ends.exchange(ends.one, settings(1, ends.port, KeyRing(keys, 1)))
    ends.until(ends.both_up)


def _greeted(ends: Ends, said: greeting.Greeting) -> socket.socket:
    """Connect to the listener as the peer would, and say a greeting."""
    ends.turn(ends.one)
    with_peer = socket.create_connection((ONE, ends.port), 3, source_address=(TWO, 0))
    with_peer.sendall(greeting.framed(said.encode()))
    return with_peer


def test_with_an_earlier_minor_version_nothing_is_compressed(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, saved = [], []
    for first in (greeting.MINOR, greeting.MINOR + 1):
        monkeypatch.setattr(greeting, "COMPRESSING_MINOR", first)
        ends.one = ends.exchange(ends.one, settings(1, ends.port))
        ends.two = ends.exchange(ends.two, settings(2, ends.port))
        ends.until(ends.both_up)
        before, saved_before = ends.one.bytes_sent, ends.one.bytes_saved
        ends.one.send(stream.Ask((b"the same again " * 1000,)))
        ends.until(lambda: len(ends.got[ends.two]) == 2)
        sizes.append(ends.one.bytes_sent - before)
        saved.append(ends.one.bytes_saved - saved_before)
    assert sizes[0] < 1_000 < 15_000 < sizes[1]
    assert saved[1] == 0 and abs(sizes[0] + saved[0] - sizes[1]) < 1_000


def test_a_session_says_which_minor_version_both_speak(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minor in (greeting.MINOR, greeting.MINOR - 1):
        defaults = (greeting.MAJOR, minor)
        monkeypatch.setattr(greeting.Greeting.__init__, "__defaults__", defaults)
        ends.one = ends.exchange(ends.one, settings(1, ends.port))
        ends.two = ends.exchange(ends.two, settings(2, ends.port))
        ends.until(ends.both_up)
        assert ends.one.minor == ends.two.minor == minor


def test_another_major_version_is_refused_with_its_reason(ends: Ends) -> None:
    line = _greeted(ends, greeting.Greeting(7, 2, b"n" * 32, 1, (1,), major=2))
    ends.until(lambda: "speaks version 2." in ends.one.reason(ends.now_ns()), ends.one)
    assert not ends.one.up
    line.close()


def test_a_recorded_session_opens_nothing(ends: Ends) -> None:
    passing = Relay(ends.port)
    ends.two = ends.exchange(ends.two, settings(2, passing.port))
    ends.until(lambda: passing.turn() or ends.both_up())
    ends.two.send(stream.BarrierPassed(9))
    ends.until(lambda: passing.turn() or stream.BarrierPassed(9) in ends.got[ends.one])
    recording = passing.heard[0]
    passing.close()
    ends.until(lambda: not ends.one.up, ends.one)
    before = list(ends.got[ends.one])
    line = socket.create_connection((ONE, ends.port), 3, source_address=(TWO, 0))
    line.sendall(recording)
    ends.until(lambda: "wrong key" in ends.one.reason(ends.now_ns()), ends.one)
    assert ends.got[ends.one] == before
    line.close()


@pytest.mark.parametrize("how", ["again", "later", "never", "altered"])
def test_a_record_counts_once_in_its_place_and_as_it_was_sent(ends: Ends, how: str) -> None:
    passing = Relay(ends.port)
    ends.two = ends.exchange(ends.two, settings(2, passing.port))
    ends.until(lambda: passing.turn() or ends.both_up())
    ends.until(lambda: passing.turn() or len(ends.got[ends.one]) == 1)
    sent = []
    for number in (7, 8):
        ends.two.send(stream.BarrierPassed(number))
        ends.two.flush(ends.now_ns())
        sent.append(passing.held_back())
    first, second = sent
    altered = first[:-1] + bytes([first[-1] ^ 1])
    believed = [STATE]
    if how == "again":
        passing.say(first)
        believed += [stream.BarrierPassed(7)]
        ends.until(lambda: ends.got[ends.one] == believed, ends.one)
    said = {"again": first, "later": second + first, "never": second, "altered": altered}
    passing.say(said[how])
    ends.until(lambda: "wrong key" in ends.one.reason(ends.now_ns()), ends.one)
    assert ends.got[ends.one] == believed
    passing.close()


def test_a_stranger_does_not_push_the_peer_out(ends: Ends) -> None:
    ends.until(ends.both_up)
    said = greeting.Greeting(7, 2, b"n" * 32, 1, (1,))
    strangers = [_greeted(ends, said) for _number in range(6)]
    ends.one.send(stream.BarrierPassed(3))
    ends.until(lambda: stream.BarrierPassed(3) in ends.got[ends.two])
    assert (ends.one.session, ends.two.session) == (1, 1)
    for stranger in strangers:
        stranger.close()


def test_silence_is_noticed_and_mended(ends: Ends) -> None:
    ends.until(ends.both_up)
    ends.until(lambda: all(each["passes"] for each in ends.one.paths + ends.two.paths))
    for _turn in range(5):  # what was still under way arrives
        ends.turn()
        time.sleep(0.01)
    ends.ahead_ns += 2_000_000_000
    ends.turn(ends.one)
    assert ends.one.reason(ends.now_ns()) == "nothing heard for 1500 ms"
    ends.until(lambda: ends.one.session == 2 and ends.both_up())


def test_a_peer_that_reads_nothing_leaves_no_room_and_blocks_nobody(ends: Ends) -> None:
    ends.until(ends.both_up)
    batch = stream.Ask((os.urandom(60_000),))  # nothing that compresses
    deadline = time.monotonic() + 5
    while ends.one.room and time.monotonic() < deadline:
        ends.one.send(batch)
        ends.one.flush(ends.now_ns())
    assert not ends.one.room
    ends.until(lambda: ends.one.room)


def test_few_connections_are_under_way_and_a_turn_takes_a_part_of_them(ends: Ends) -> None:
    ends.until(ends.both_up)
    handed, waited = 0, 0
    while waited < 50:  # the peer reads nothing; what it was sent is with its kernel by now
        if ends.one.room:
            records = [flow.parse(tcp_entry(handed + sport)).record for sport in range(1, 201)]
            ends.one.send(stream.Changes(1, tuple((Op.UPSERT, each) for each in records)))
            handed, waited = handed + 200, 0
        ends.one.flush(ends.now_ns())
        waited += not ends.one.room
        time.sleep(0.001 if waited else 0)
    taken = ends.two.turn(ends.now_ns())
    in_a_turn = sum(len(each.changes) for each in taken if isinstance(each, stream.Changes))
    assert 0 < in_a_turn <= 3_000 < handed <= 30_000, (in_a_turn, handed)


def test_paths_are_pairs_of_own_addresses_and_the_sync_interface_comes_first() -> None:
    both = settings(1, 1)
    assert [(path.own, path.peer) for path in paths(both)] == [(ONE, TWO)]
    service = replace(both.interfaces[0], name="lan", role="service")
    found = paths(replace(both, interfaces=(service, *both.interfaces)))
    assert [(path.link, path.first) for path in found] == [("sync", True), ("lan", False)]
    assert paths(replace(both, interfaces=(replace(service, peer_own=()),))) == ()
    channel = Channel(replace(both, interfaces=()), os.urandom, lambda: STATE)
    assert "no interface has own addresses" in channel.reason(0)
    channel.close()


def test_the_sync_interface_is_tried_every_other_time_and_the_likeliest_of_the_others() -> None:
    both = settings(1, 1)
    lan, wan = (replace(both.interfaces[0], name=name, role="service") for name in ("lan", "wan"))
    ways = Ways(replace(both, interfaces=(lan, *both.interfaces, wan)))
    sync, on_lan, on_wan = ways.all
    ways.failed(on_lan, errno.ETIMEDOUT, 0)
    ways.proved(on_wan)
    assert [ways.next(1).link for _try in range(4)] == ["sync", "wan", "sync", "lan"]
    assert ways.links == {"lan": "no answer", "wan": ""}
    # Nobody listens there yet: that is no reason to go elsewhere, for a while.
    ways.begin_anew()
    assert "connection refused on sync" in ways.failed(sync, errno.ECONNREFUSED, 2)
    assert {ways.next(3).link for _try in range(4)} == {"sync"}
    ways.failed(sync, errno.ECONNREFUSED, PATIENCE_NS)
    assert {ways.next(2 + PATIENCE_NS).link for _try in range(4)} == {"sync", "wan", "lan"}


def passing(channel: Channel) -> dict[str, object]:
    return {each["interface"]: each["passes"] for each in channel.paths}


def test_paths_that_are_not_in_use_are_tried_and_tried_again_when_a_ruleset_changes(
    ends: Ends,
) -> None:
    def two_ways(number: int) -> Settings:
        of = settings(number, ends.port)
        own, peer = ("127.72.4.2", "127.72.4.3") if number == 1 else ("127.72.4.3", "127.72.4.2")
        lan = replace(
            of.interfaces[0], name="lan", role="service",
            own=(ipaddress.ip_interface(f"{own}/24"),),
            peer_own=(ipaddress.ip_interface(f"{peer}/24"),),
        )  # fmt: skip
        return replace(of, interfaces=(lan, *of.interfaces))

    ends.one = ends.exchange(ends.one, two_ways(1))
    ends.two = ends.exchange(ends.two, two_ways(2))
    both = {"sync": True, "lan": True}
    ends.until(lambda: passing(ends.one) == passing(ends.two) == both)
    assert [each["interface"] for each in ends.one.paths if each["in_use"]] == ["sync"]
    # Nobody listens there any more, and the side that listens says that something has changed.
    at = next(each for each in ends.one._listeners if each.getsockname()[0] == "127.72.4.2")
    del ends.one._listeners[at]
    at.close()
    ends.one._ways.all = ends.one._ways.all[:1]  # it does not listen there again either
    ends.one.rules_changed(ends.now_ns())
    ends.until(lambda: passing(ends.two) == {"sync": True, "lan": False}, seconds=5)
