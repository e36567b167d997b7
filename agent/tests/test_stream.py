# SPDX-License-Identifier: GPL-3.0-or-later
"""Greetings, session keys, records and messages: bytes in, a value or one kind of error out."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amaranten_ha.core import greeting, stream
from amaranten_ha.core.beat import Role
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.squeeze import Squeezer, Unsqueezer

RING = KeyRing({1: b"k" * 32, 2: b"l" * 32}, 1)
_counts = st.integers(0, stream.COUNT_MAX)
_payload = st.binary(max_size=300)

messages = st.one_of(
    st.builds(
        stream.State,
        role=st.sampled_from(Role),
        want=_counts,
        done=_counts,
        position=st.integers(0, 2**64 - 1),
        age_us=_counts,
        barrier=st.integers(0, 2**64 - 1),
        told=_counts,
        lag_ms=_counts,
        refused=_counts,
        share_permille=st.integers(0, 1000),
    ),
    st.builds(
        stream.Changes,
        st.integers(0, 2**64 - 1),
        st.lists(st.tuples(st.sampled_from(Op), _payload), max_size=5).map(tuple),
    ),
    st.builds(stream.BulkBegin, st.integers(0, 2**64 - 1)),
    st.builds(stream.BulkEnd, st.integers(0, 2**64 - 1)),
    st.builds(stream.BarrierPassed, st.integers(0, 2**64 - 1)),
    st.builds(stream.Ask, st.lists(_payload, max_size=5).map(tuple)),
    st.builds(stream.Locals, st.frozensets(_payload, max_size=5)),
    st.builds(
        stream.Paths,
        st.lists(st.tuples(st.text(max_size=15), st.booleans()), max_size=4).map(tuple),
    ),
)


def hello(number: int, **other: object) -> greeting.Greeting:
    values: dict[str, object] = {
        "cluster": 7, "node": number, "nonce": bytes([number]) * 32,
        "send_key": 1, "accepted_keys": (1, 2),
    }  # fmt: skip
    return greeting.Greeting(**(values | other))  # type: ignore[arg-type]


@given(messages)
def test_a_message_comes_back_as_it_was(message: stream.Message) -> None:
    assert stream.decode(stream.encode(message)) == message


@given(st.binary(max_size=120))
def test_any_bytes_are_a_message_or_one_kind_of_error(data: bytes) -> None:
    for decoder in (stream.decode, greeting.read):
        try:
            decoder(data)
        except PeerError:
            continue


@given(messages, st.data())
def test_a_damaged_message_is_a_message_or_one_kind_of_error(
    message: stream.Message, data: st.DataObject
) -> None:
    damaged = bytearray(stream.encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerError):
        stream.decode(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


def test_a_kind_of_a_later_minor_version_is_skipped() -> None:
    assert stream.decode(b"\xf0what is this") is None


@given(st.lists(_payload, max_size=8), st.lists(st.integers(1, 50), min_size=1))
def test_records_are_cut_wherever_the_stream_was(records: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(greeting.framed, records))
    frames, found, turn = greeting.Deframer(1000), [], 0
    while wire:
        size = cuts[turn % len(cuts)]
        found += frames.feed(wire[:size])
        wire, turn = wire[size:], turn + 1
    assert found == records


def test_a_record_beyond_the_bound_is_refused_before_it_is_stored() -> None:
    with pytest.raises(PeerError, match="at most 100"):
        greeting.Deframer(100).feed(b"\x7f\xff\xff\xff")


def test_greetings_travel_and_what_is_added_later_is_skipped() -> None:
    assert greeting.read(hello(1).encode() + b"more") == hello(1)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ({"major": 2}, f"the peer speaks version 2.{greeting.MINOR}, this node 1.{greeting.MINOR}"),
        ({"cluster": 8}, "belongs to cluster 8, this node to 7"),
        ({"node": 1}, "says that it is node 1"),
        ({"send_key": 3, "accepted_keys": (1, 3)}, "seals with key 3, which this node does not"),
        ({"accepted_keys": (2,), "send_key": 2}, "seals with key 1, which the peer does not have"),
    ],
)
def test_a_refusal_says_why(other: dict[str, object], text: str) -> None:
    assert text in greeting.refusal(hello(1), hello(2, **other))


def test_both_ends_derive_the_same_keys_and_each_direction_its_own() -> None:
    one, two = hello(1), hello(2, send_key=2)
    other_ring = KeyRing(RING.keys, 2)
    seal_one, open_one = greeting.session_keys(RING, one, two)
    seal_two, open_two = greeting.session_keys(other_ring, two, one)
    assert (seal_one, open_one) == (open_two, seal_two)
    assert seal_one != open_one


@pytest.mark.parametrize("other", [{"nonce": b"n" * 32}, {"minor": 9}, {"accepted_keys": (1,)}])
def test_a_changed_greeting_makes_other_keys(other: dict[str, object]) -> None:
    before = greeting.session_keys(RING, hello(1), hello(2))
    after = greeting.session_keys(RING, hello(1), hello(2, **other))
    assert not set(before) & set(after)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_squeezed_records_come_out_as_they_were(records: list[bytes]) -> None:
    small, large = Squeezer(), Unsqueezer(1000)
    for record in records:
        assert large.unsqueeze(small.squeeze(record)) == record


@given(st.binary(min_size=1, max_size=200))
def test_whatever_is_said_in_place_of_a_squeezed_record_is_a_record_or_an_error(
    data: bytes,
) -> None:
    with contextlib.suppress(PeerError):
        assert len(Unsqueezer(1000).unsqueeze(data)) <= 1000


def test_a_record_that_would_grow_beyond_the_bound_is_refused() -> None:
    with pytest.raises(PeerError, match="a record of more than 1000 bytes"):
        Unsqueezer(1000).unsqueeze(Squeezer().squeeze(bytes(100_000)))


audits: st.SearchStrategy[stream.Message] = st.one_of(
    st.builds(stream.Digest, st.binary(max_size=64)),
    st.builds(stream.List, st.lists(st.integers(0, 1023), max_size=9).map(tuple), st.booleans()),
    st.builds(
        stream.Listing,
        st.integers(0, 1023),
        st.booleans(),
        st.lists(st.tuples(st.binary(max_size=99), st.integers(0, 2**32 - 1)), max_size=9).map(
            tuple
        ),
    ),
    st.builds(stream.Wanted, st.sampled_from(stream.Wish), st.integers(0, 2**64 - 1)),
    st.builds(stream.Finding, st.integers(0, 2**64 - 1), st.binary(max_size=50)),
)


@given(audits)
def test_what_is_compared_and_wished_for_comes_out_as_it_was(message: stream.Message) -> None:
    assert stream.decode(stream.encode(message)) == message


@given(st.sampled_from(range(16, 21)), st.binary(max_size=60))
def test_their_decoders_give_a_message_or_an_error(kind: int, data: bytes) -> None:
    with contextlib.suppress(PeerError):
        stream.decode(bytes([kind]) + data)


def test_a_state_of_version_1_0_is_read_with_zeros_for_what_it_does_not_say() -> None:
    now = stream.State(Role.PASSIVE, want=3, missing=4, stale=5)
    assert stream.decode(stream.encode(now)) == now
    assert stream.decode(stream.encode(now)[:54]) == stream.State(Role.PASSIVE, want=3)
