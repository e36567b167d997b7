# SPDX-License-Identifier: GPL-3.0-or-later
"""The passive knows the active's neighbours: after a take-over the first packet does not wait."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_netns import udp, wait_for
from sync_pair import CLIENT, SERVER, SERVER6, Node, Pair

from amaranten_ha.core import neighbour
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.vital import Item

ETH_ALL, ARP, IPV4 = 3, 0x0806, 0x0800


@given(st.binary(max_size=60))
def test_any_bytes_are_a_neighbour_or_none(data: bytes) -> None:
    neighbour.read(data)
    with contextlib.suppress(PeerError):
        neighbour.unpacked(Item(data[:6], data[6:]))


@pytest.fixture
def pair(wired: Pair) -> Pair:
    for node in (wired.a, wired.b):
        for device in ("lan", "wan"):
            node.run("ip", "neigh", "flush", "dev", device, "nud", "all", check=False)
    wired.begin()
    return wired


def rows(node: Node, *, device: str = "wan") -> dict[str, dict[str, object]]:
    listed = json.loads(node.run("ip", "-j", "neigh", "show", "dev", device) or "[]")
    return {row["dst"]: row for row in listed}


def told(node: Node) -> set[str]:
    """Whom a node's sync names to its heart."""
    node.heart.poll()
    return {address for each in node.heart.neighbours.values() for address in each}


def mac_of(pair: Pair) -> str:
    link = json.loads(pair.server.run("ip", "-j", "link", "show", "dev", "wan"))
    return str(link[0]["address"])


def heard_at_server(pair: Pair) -> socket.socket:
    with pair.server.inside():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
    tap.bind(("wan", ETH_ALL))
    tap.setblocking(False)
    return tap


def kinds(tap: socket.socket, source: str) -> list[int]:
    """EtherTypes of ARP requests and UDP packets that came from this MAC, in their order."""
    found = []
    while True:
        try:
            frame = tap.recv(2048)
        except BlockingIOError:
            return found
        kind = struct.unpack(">H", frame[12:14])[0]
        if frame[6:12].hex(":") != source:
            continue
        if (kind == ARP and frame[20:22] == b"\0\1") or (kind == IPV4 and frame[23] == 17):
            found.append(kind)


def first_frames(pair: Pair) -> list[int]:
    """What B sends towards the server when the first packet of a flow comes to it."""
    talk, _seen = udp(pair.client, pair.server, SERVER, 5050)
    pair.settle()
    pair.roles("passive", "active", 2)
    tap = heard_at_server(pair)
    pair.activate(pair.b)
    assert talk.exchange()
    time.sleep(0.1)
    frames = kinds(tap, pair.b.mac["wan"])
    tap.close()
    talk.close()
    return frames


@pytest.mark.live
def test_the_first_packet_after_a_take_over_does_not_wait_for_arp(pair: Pair) -> None:
    talk, _seen = udp(pair.client, pair.server, SERVER, 5051)
    six, _seen = udp(pair.client, pair.server, SERVER6, 5051)
    assert talk.exchange()
    wait_for(lambda: {SERVER, SERVER6} <= rows(pair.b).keys(), 10, "B knows the server")
    wait_for(lambda: CLIENT in rows(pair.b, device="lan"), 10, "B knows the client")
    row = rows(pair.b)[SERVER]
    assert (row["lladdr"], row["state"]) == (mac_of(pair), ["STALE"])
    wait_for(lambda: {CLIENT, SERVER} <= told(pair.b), 10, "the passive's heart knows whom to ask")
    # Another address of the same host is no other witness.
    assert SERVER6 not in told(pair.b)
    assert first_frames(pair)[0] == IPV4
    for each in (talk, six):
        each.close()


@pytest.mark.live
def test_without_the_entry_it_waits(pair: Pair) -> None:
    pair.b.run("ip", "neigh", "replace", SERVER, "lladdr", "02:00:00:00:00:01", "dev", "wan",
               "nud", "permanent")  # fmt: skip
    talk, _seen = udp(pair.client, pair.server, SERVER, 5052)
    assert talk.exchange()
    wait_for(lambda: CLIENT in rows(pair.b, device="lan"), 10, "B learns the others")
    # What an administrator wrote down is left alone.
    assert rows(pair.b)[SERVER]["lladdr"] == "02:00:00:00:00:01"
    pair.settle()
    pair.b.kill()
    pair.b.run("ip", "neigh", "flush", "dev", "wan", "nud", "all")
    tap = heard_at_server(pair)
    pair.activate(pair.b)
    assert talk.exchange()
    assert kinds(tap, pair.b.mac["wan"])[0] == ARP
    tap.close()
    talk.close()


@pytest.mark.live
def test_addresses_of_the_pair_are_never_told_and_what_is_gone_goes(pair: Pair) -> None:
    talk, _seen = udp(pair.client, pair.server, SERVER, 5053)
    for address in ("192.0.2.3", "192.0.2.1", "192.0.2.77"):
        pair.a.run("ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:77", "dev", "wan",
                   "nud", "stale")  # fmt: skip
    wait_for(lambda: "192.0.2.77" in rows(pair.b), 10, "B is told of a host")
    assert not {"192.0.2.1", "192.0.2.3"} & rows(pair.b).keys()
    # 192.0.2.2 it may know by itself: it tries the path there.
    pair.a.run("ip", "neigh", "del", "192.0.2.77", "dev", "wan")
    wait_for(lambda: "192.0.2.77" not in rows(pair.b), 10, "it is gone on B, too")
    # And what B lost by itself is there again.
    pair.b.run("ip", "neigh", "del", SERVER, "dev", "wan")
    wait_for(lambda: "lladdr" in rows(pair.b).get(SERVER, {}), 10, "B has it again")
    talk.close()
