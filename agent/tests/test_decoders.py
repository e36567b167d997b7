# SPDX-License-Identifier: GPL-3.0-or-later
"""Every decoder of the agent: bytes in, and a value or one kind of error comes out.

Those of a beat, of the seal, of a connection entry, of the stream and of the gate's rules are in
the tests of their modules; here are the rest, and the engine and the clerk as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator.plan import RING, Plan, node_plan
from test_beat import BEAT, GOLDEN_MARGINS
from test_settings import CONFIG, KEYS

from amaranten_ha.clerk import Clerk
from amaranten_ha.core import ether, tlv
from amaranten_ha.core.beat import Kind, Replica, encode
from amaranten_ha.core.errors import ConfigurationError, KernelRefused, PeerError
from amaranten_ha.core.node import SEALED_BYTES_MAX, Node
from amaranten_ha.core.seal import Sealer
from amaranten_ha.core.trace import Trace
from amaranten_ha.io import inventory, nft_channel, rtnetlink
from amaranten_ha.io.desk import Desk
from amaranten_ha.io.gate import GateState
from amaranten_ha.io.links import Links
from amaranten_ha.io.targets import Targets
from amaranten_ha.settings import load, load_digests

OPEN_GATE = GateState(True, True, True)
KINDS = {"length", "cluster", "seal", "format", "node", "own", "link", "not fresh", "repeated"}
KINDS |= {"version"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def engine() -> Node:
    """One engine that has heard nothing yet."""
    return Node(node_plan(Plan(links=4), 1), 77, 0, 0)


@given(st.binary(max_size=700))
def test_any_frame_is_refused_by_a_known_kind_and_changes_nothing(data: bytes) -> None:
    node, before = engine(), engine().message(1, Kind.BEAT)
    for message in (data, b"AmHA\1\1\0\7" + data, Sealer(RING).seal(data)):
        assert not node.hear(1, message, bytes(6), 10**9)
    assert sum(node.rejected.values()) == 3 and node.rejected.keys() <= KINDS
    assert node.message(1, Kind.BEAT) == before


@given(st.integers(0, len(GOLDEN_MARGINS) - 1), st.integers(1, 255), st.integers(0, 3))
def test_a_damaged_beat_under_a_good_seal_is_a_beat_or_refused(
    place: int, change: int, cut: int
) -> None:
    node, damaged = engine(), bytearray(GOLDEN_MARGINS)
    damaged[place] ^= change
    with contextlib.suppress(PeerError):
        node.hear(2, Sealer(RING).seal(bytes(damaged[: len(damaged) - cut])), bytes(6), 10**9)
        node.decide(10**9)
        node.message(2, Kind.BEAT)
    assert node.rejected.keys() <= KINDS


def test_each_kind_of_bad_frame_is_counted_as_what_it_is() -> None:
    node, sealer = engine(), Sealer(RING)
    good = dataclasses.replace(BEAT, node=2, echo_session=77, role=BEAT.role)

    def hear(beat: object, link: int = 2, **more: object) -> bool:
        made = dataclasses.replace(good, **more)  # type: ignore[arg-type]
        return node.hear(link, sealer.seal(encode(made)), bytes(6), 10**9)

    assert hear(good)
    assert not hear(good)
    assert not hear(good, echo_session=1, echo_candidate=2, sequence=10)
    assert not hear(good, node=1)
    assert not hear(good, node=9)
    assert not hear(good, link=1)
    assert not hear(good, cluster=8)
    forged = bytearray(sealer.seal(encode(dataclasses.replace(good, sequence=11))))
    forged[40] ^= 1
    assert not node.hear(2, bytes(forged), bytes(6), 10**9)
    assert not node.hear(2, sealer.seal(GOLDEN_MARGINS[:40]), bytes(6), 10**9)
    assert not node.hear(2, bytes(forged) + bytes(SEALED_BYTES_MAX), bytes(6), 10**9)
    assert hear(good, sequence=12, major=2)
    assert node.rejected == {
        "repeated": 1, "not fresh": 1, "own": 1, "node": 1, "link": 1, "cluster": 1, "seal": 1,
        "format": 1, "length": 1, "version": 1,
    }  # fmt: skip


@given(st.binary(max_size=120))
def test_any_frame_is_an_answer_or_none(data: bytes) -> None:
    for found in (
        data,
        bytes(12) + b"\x08\x06" + data,
        bytes(12) + b"\x86\xdd" + data[:6] + b"\x3a" + data[6:],
    ):
        ether.answer(found)


@given(st.binary(max_size=60))
def test_any_attributes_are_a_dict_or_a_peer_error(data: bytes) -> None:
    list(tlv.walk(data))
    with contextlib.suppress(PeerError):
        tlv.index(data)


@given(st.binary(max_size=80), st.sampled_from([2, 3, 16, 17, 20, 21]))
def test_any_rtnetlink_message_is_a_value_or_a_refusal(data: bytes, kind: int) -> None:
    links = Links.__new__(Links)
    links._names, links.devices = frozenset({"lan0"}), {}
    for sent in (data, rtnetlink.message(kind, 0, data)):
        for found, _sequence, body in rtnetlink.split(sent):
            with contextlib.suppress(KernelRefused):
                links._take(found, body)
            with contextlib.suppress(KernelRefused):
                rtnetlink.error_of(body)
            with contextlib.suppress(KernelRefused):
                inventory._decode(body, {})


@given(st.binary(max_size=80))
def test_any_nf_tables_message_is_taken_apart(data: bytes) -> None:
    for _kind, _flags, _sequence, body in nft_channel._split(data):
        nft_channel._error_of(body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    st.text(max_size=40),
    st.sampled_from(CONFIG.splitlines()),
    st.sampled_from(KEYS.splitlines()),
)
def test_any_file_is_read_or_refused_in_words(
    tmp_path: Path, text: str, config_line: str, keys_line: str
) -> None:
    agent, keys = tmp_path / "agent.toml", tmp_path / "keys.toml"
    for config, ring in (
        (text, KEYS),
        (CONFIG.replace(config_line, text, 1), KEYS),
        (CONFIG, KEYS.replace(keys_line, text, 1)),
        (CONFIG, text),
    ):
        agent.write_bytes(config.encode(errors="surrogatepass"))
        keys.write_bytes(ring.encode(errors="surrogatepass"))
        with contextlib.suppress(ConfigurationError):
            load(agent, keys)
        with contextlib.suppress(ConfigurationError):
            load_digests(keys)


@pytest.fixture
def desk(tmp_path: Path) -> tuple[Clerk, Node, socket.socket]:
    """A clerk with one client."""
    (tmp_path / "agent.toml").write_text(CONFIG)
    (tmp_path / "keys.toml").write_text(KEYS)
    found = load(tmp_path / "agent.toml", tmp_path / "keys.toml")
    node = engine()
    epoll = select.epoll()
    targets = Targets(epoll, supervised=False)
    clerk = Clerk(node, found, [], Trace(), epoll, Desk(tmp_path / "desk"), targets)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(tmp_path / "desk"))
    client.setblocking(False)
    return clerk, node, client


def ask(desk: tuple[Clerk, Node, socket.socket], packet: bytes) -> dict[str, object]:
    """Send one packet, let the clerk serve, return its answer; heart must be able to beat on."""
    clerk, node, client = desk
    client.send(packet)
    clerk.serve(OPEN_GATE)
    node.decide(10**9)
    node.message(1, Kind.BEAT)
    try:
        return dict(json.loads(client.recv(1 << 20)))
    except BlockingIOError:
        return {}


OPERATIONS = ["replica", "follow", "status", "events", "reload", "switchover", "nothing"]
OPERATIONS += ["maintenance", "restart"]
FIELDS = {
    "op": st.sampled_from(OPERATIONS) | JSON,
    "until": JSON | st.floats(),
    "reason": JSON, "config": JSON, "ruleset": JSON,
    "state": st.sampled_from(["synced", "bulk"]) | JSON,
    "barrier": st.integers() | JSON, "entries": st.integers() | JSON,
    "lag_ms": st.integers() | JSON, "share_permille": st.integers() | JSON,
}  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS) | JSON)
def test_any_request_is_answered_or_taken_and_heart_beats_on(
    desk: tuple[Clerk, Node, socket.socket], request_: object
) -> None:
    ask(desk, json.dumps(request_).encode())


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b'{"op": "switchover", "reason": "\\ud800"}',
        b"{",
        b'{"op": "replica", "state": "synced", "barrier": 1e999, "entries": 1, "lag_ms": 0,'
        b' "share_permille": 1}',
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(
    desk: tuple[Clerk, Node, socket.socket], packet: bytes
) -> None:
    answer = ask(desk, packet)
    assert not answer or (answer["ok"] is False and answer["reasons"])
    assert desk[1].replica == Replica()
