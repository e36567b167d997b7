# SPDX-License-Identifier: GPL-3.0-or-later
"""The seal: only a key of the ring opens it, no repeat passes, no key is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.core.seal import KeyRing, ReplayWindow, Sealer, hkdf

KEYS = {1: bytes(range(32)), 2: bytes(range(32, 64))}


def test_hkdf_is_that_of_rfc_5869_test_case_1() -> None:
    output = hkdf(
        bytes.fromhex("0b" * 22),
        bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
        bytes.fromhex("000102030405060708090a0b0c"),
        42,
    )
    assert output.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_every_key_of_the_ring_opens_and_a_strange_one_does_not() -> None:
    sealed = Sealer(KeyRing({2: KEYS[2]}, 2)).seal(b"body")
    assert Sealer(KeyRing(KEYS, 1)).open(sealed) == b"body"
    assert Sealer(KeyRing({1: KEYS[1]}, 1)).open(sealed) is None
    assert Sealer(KeyRing({2: KEYS[1]}, 2)).open(sealed) is None


def test_every_flipped_bit_is_noticed() -> None:
    sealer = Sealer(KeyRing(KEYS, 1))
    sealed = sealer.seal(b"heartbeat")
    for bit in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        assert sealer.open(bytes(forged)) is None


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_without_an_exception(data: bytes) -> None:
    assert Sealer(KeyRing(KEYS, 1)).open(data) is None


@given(st.lists(st.integers(0, 200), max_size=200))
def test_the_window_takes_each_number_once_and_none_that_is_too_old(numbers: list[int]) -> None:
    window, taken = ReplayWindow(), set()
    for number in numbers:
        expected = number not in taken and number > max(taken, default=-1) - 64
        assert window.accept(number) == expected
        if expected:
            taken.add(number)


@pytest.mark.parametrize(
    ("keys", "send", "words"),
    [
        ({1: b"short"}, 1, "key 1 has 5 bytes: expected exactly 32"),
        ({300: KEYS[1]}, 300, "key id 300: expected a number from 1 to 255"),
        ({1: KEYS[1]}, 2, "send_key is 2: expected the id of one of the keys (1)"),
    ],
)
def test_a_bad_ring_is_refused_in_words(keys: dict[int, bytes], send: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeyRing(keys, send)
    assert str(caught.value) == words


def test_a_key_is_never_part_of_the_text_of_a_ring() -> None:
    assert repr(KeyRing(KEYS, 1)) == "KeyRing(send_id=1)"
