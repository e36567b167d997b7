# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate's words survive the way to bytes and back, and no bytes make a decoder raise."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from amaranten_ha.core.nft_words import (
    Base,
    Change,
    Code,
    Compare,
    Expression,
    Lookup,
    Mask,
    Meta,
    MetaKey,
    Payload,
    Relation,
    Renew,
    Rule,
    Strange,
    Verdict,
)
from amaranten_ha.core.tlv import attribute
from amaranten_ha.io import nft

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=30)
DATA = st.binary(min_size=1, max_size=16)
EXPRESSIONS: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Meta, st.sampled_from(MetaKey)),
    st.builds(Payload, st.sampled_from(Base), st.integers(0, 255), st.integers(1, 16)),
    st.builds(Mask, DATA),
    st.builds(Compare, st.sampled_from(Relation), DATA),
    st.builds(Lookup, NAMES),
    st.builds(Renew, NAMES, st.just(Change.UPDATE), st.integers(1, 1 << 40)),
    st.builds(Renew, NAMES, st.just(Change.DELETE)),
    st.builds(Verdict, st.sampled_from((Code.ACCEPT, Code.DROP))),
    st.builds(Verdict, st.sampled_from((Code.JUMP, Code.GOTO)), NAMES),
)
RULES = st.builds(
    Rule,
    st.lists(EXPRESSIONS, max_size=8).map(tuple),
    st.text("abc :,;é", max_size=60),
)


@given(NAMES, RULES)
def test_a_rule_comes_back_as_it_went(chain: str, rule: Rule) -> None:
    _kind, _flags, body = nft.new_rule(chain, rule)
    assert nft.decode_rule(body) == (chain, rule)


def _one(name: str, *parts: bytes) -> Expression:
    inner = b"".join(parts)
    expression = attribute(1, name.encode() + b"\0") + attribute(2, inner)
    body = attribute(4, attribute(1, expression))
    return nft.decode_rule(body)[1].expressions[0]


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def test_an_inverted_lookup_is_not_taken_for_ours() -> None:
    plain = attribute(1, b"lease\0") + _number(2, 1)
    assert _one("lookup", plain, _number(5, 0)) == Lookup("lease")
    assert isinstance(_one("lookup", plain, _number(5, 1)), Strange)


def test_another_register_is_not_taken_for_ours() -> None:
    assert _one("meta", _number(1, 1), _number(2, MetaKey.MARK)) == Meta(MetaKey.MARK)
    assert isinstance(_one("meta", _number(1, 2), _number(2, MetaKey.MARK)), Strange)


def test_a_shift_is_not_taken_for_a_mask() -> None:
    mask = attribute(4, attribute(1, b"\0\0\0\0"))
    xor = attribute(5, attribute(1, b"\0\0\0\0"))
    both = _number(1, 1) + _number(2, 1) + _number(3, 4) + mask + xor
    assert _one("bitwise", both, _number(6, 0)) == Mask(bytes(4))
    assert isinstance(_one("bitwise", both, _number(6, 1)), Strange)


def test_an_unknown_expression_is_strange() -> None:
    assert isinstance(_one("numgen", _number(1, 1)), Strange)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_decoder_raise(data: bytes) -> None:
    for decode in (
        nft.decode_table,
        nft.decode_generation,
        nft.decode_set,
        nft.decode_elements,
        nft.decode_chain,
        nft.decode_rule,
        nft.in_our_table,
    ):
        decode(data)


@given(NAMES, RULES, st.data())
def test_a_damaged_rule_never_raises(chain: str, rule: Rule, data: st.DataObject) -> None:
    body = bytearray(nft.new_rule(chain, rule)[2])
    for _byte in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    nft.decode_rule(bytes(body))
