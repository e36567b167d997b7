# SPDX-License-Identifier: GPL-3.0-or-later
"""Other vital state without a kernel: differences and everything, retries, bounds, the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amaranten_ha.core import expectation, stream, tlv
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.vital import RETRY_NS, TRIES_MAX, Holder, Item, Op, Teller, packed

BULK = 7


def deliver(teller: Teller, holder: Holder) -> None:
    """Everything that is pending goes over, as bytes."""
    while changes := teller.take():
        message = stream.decode(stream.encode(stream.Vital(1, changes)))
        assert isinstance(message, stream.Vital)
        holder.receive(message.changes, BULK)


def made(holder: Holder, kernel: dict[bytes, bytes], now_ns: int = 0) -> None:
    """Do what the holder says in a kernel that takes everything."""
    work = holder.work(now_ns)
    for item in work.removals:
        kernel.pop(item.key, None)
    for item in work.puts:
        kernel[item.key] = item.value
        holder.done(item.key)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "remove", "present", "cut", "deliver"]),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(_steps)
def test_whatever_happens_the_passive_ends_with_what_there_is(
    steps: list[tuple[str, int, int]],
) -> None:
    teller, holder, truth, kernel = Teller(100), Holder(100), {}, {}
    teller.begin(BULK)
    for what, number, version in steps:
        key, value = bytes([number]), bytes([version])
        if what == "put":
            truth[key] = value
            teller.put(key, value)
        elif what == "remove":
            truth.pop(key, None)
            teller.remove(key)
        elif what == "present":
            truth = {bytes([each]): value for each in range(number)}
            teller.present(truth)
        elif what == "cut":
            # What was under way is lost; a bulk begins anew and what was held is still there.
            teller.stop()
            teller.begin(BULK)
        deliver(teller, holder)
        made(holder, kernel)
    assert kernel == truth


def test_a_bulk_of_another_number_is_not_believed() -> None:
    teller, holder = Teller(10), Holder(10)
    teller.put(b"k", b"v")
    teller.begin(BULK + 1)
    deliver(teller, holder)
    assert holder.wanted == {}


def test_what_is_missing_is_tried_again_and_given_up_with_its_reason() -> None:
    teller, holder = Teller(10), Holder(10)
    teller.put(b"k", b"v")
    teller.begin(BULK)
    deliver(teller, holder)
    assert holder.work(0).puts == [Item(b"k", b"v")]
    holder.failed(b"k", "no master", 0)
    assert holder.work(1).puts == []
    assert holder.work(1, again=True).puts == holder.work(RETRY_NS).puts == [Item(b"k", b"v")]
    for _try in range(TRIES_MAX - 1):
        holder.failed(b"k", "no master", 0)
    assert not holder.waiting and holder.refused == {b"k": "no master"}
    teller.put(b"k", b"w")
    deliver(teller, holder)
    assert holder.work(0).puts == [Item(b"k", b"w")]


def test_both_sides_are_bounded() -> None:
    teller, holder = Teller(2), Holder(1)
    for number in range(4):
        teller.put(bytes([number]), b"v")
    assert len(teller.known) == 2 and teller.left_out == 2
    teller.begin(BULK)
    deliver(teller, holder)
    assert len(holder.wanted) == 1


@given(st.binary(max_size=40))
def test_any_bytes_give_a_message_or_an_error_of_the_peer(data: bytes) -> None:
    holder = Holder(10)
    try:
        message = stream.decode(bytes([32]) + data)
        assert isinstance(message, stream.Vital)
        holder.receive([(Op.BEGIN, BULK.to_bytes(8, "big")), *message.changes], BULK)
    except PeerError:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_give_an_expectation_or_an_error_of_the_peer(data: bytes) -> None:
    for read in (expectation.parse, expectation.family, expectation.deletion):
        try:
            read(data)
        except PeerError:
            continue


def test_an_item_is_packed_and_read_again() -> None:
    with pytest.raises(PeerError):
        Holder(1).receive(
            [(Op.BEGIN, BULK.to_bytes(8, "big")), (Op.PUT, tlv.attribute(1, b"k"))], BULK
        )
    holder = Holder(1)
    holder.receive([(Op.BEGIN, BULK.to_bytes(8, "big")), (Op.PUT, packed(Item(b"k", b"v")))], BULK)
    assert holder.wanted == {b"k": b"v"}
