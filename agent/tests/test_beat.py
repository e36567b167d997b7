# SPDX-License-Identifier: GPL-3.0-or-later
"""The heartbeat's bytes: frozen for ever, skipped where unknown, refused where broken."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amaranten_ha.core.beat import (
    MAGIC,
    MARK,
    Beat,
    Flag,
    Floors,
    Kind,
    LinkMargin,
    Offer,
    Replica,
    ReplicaState,
    Role,
    decode,
    encode,
)
from amaranten_ha.core.errors import PeerError

GOLDEN_0_1_0 = bytes.fromhex(
    "416d4841010100070104000200000006000000000000000500000000000000040110112233445566778800"
    "000000000000090210000000000000009900000000000000080310636f6e666967757272756c6573657465"
    "0513020000000000050001000004d20000000703e80605302e312e3007040000000f080201020908000000"
    "0000000003041000000000000000060000000000060001"
)
GOLDEN_MARGINS = GOLDEN_0_1_0 + bytes.fromhex(
    "1018000003e8000000020000000300000001000005dc00015f90111000000fa0000002bc0001637800000e10"
)
"""What is said since margins are measured."""
BEAT = Beat(
    cluster=7,
    node=1,
    role=Role.HANDING_OVER,
    link=2,
    session=0x1122334455667788,
    sequence=9,
    flags=Flag.ELIGIBLE | Flag.STANDING,
    epoch=5,
    last_active=4,
    echo_session=0x99,
    echo_sequence=8,
    echo_candidate=3,
    config_digest=b"configur",
    ruleset_digest=b"rulesete",
    offer=Offer(6, 0x60001),
    replica=Replica(ReplicaState.SYNCED, 0x50001, 1234, 7, 1000),
    version="0.1.0",
    carrier=0xF,
    keys=(1, 2),
)


def test_golden_bytes_of_0_1_0_are_written_and_read_for_ever() -> None:
    assert encode(BEAT) == GOLDEN_0_1_0
    assert decode(GOLDEN_0_1_0) == BEAT


def test_golden_bytes_with_margins_are_written_and_read_for_ever() -> None:
    beat = dataclasses.replace(
        BEAT,
        margin=LinkMargin(1000, 2, 3, 1, 1500, 90_000),
        floors=Floors(4000, 700, 91_000, 3600),
    )
    assert encode(beat) == GOLDEN_MARGINS
    assert decode(GOLDEN_MARGINS) == beat


def test_the_bytes_that_the_gate_matches_stand_where_the_gate_looks() -> None:
    body = encode(dataclasses.replace(BEAT, kind=Kind.LINGER, cluster=0x1234, node=2))
    assert body[0:4] == b"AmHA" == MAGIC
    assert MARK == 0x416D4841
    assert (body[5], body[6:8], body[8], body[9]) == (2, b"\x12\x34", 2, 4)


def test_fields_of_a_later_version_are_skipped() -> None:
    assert decode(GOLDEN_0_1_0 + b"\xc8\x03new\xc9\x00") == BEAT


@pytest.mark.parametrize("length", range(len(GOLDEN_0_1_0)))
def test_every_truncation_is_refused_or_lacks_only_whole_fields(length: int) -> None:
    try:
        beat = decode(GOLDEN_0_1_0[:length])
    except PeerError:
        return
    assert beat.session == BEAT.session


@pytest.mark.parametrize(
    ("place", "value"), [(0, 0x42), (4, 0), (5, 99), (9, 0), (16, 0xFF), (24, 0xFF)]
)
def test_a_wrong_magic_major_kind_role_or_epoch_is_refused(place: int, value: int) -> None:
    body = bytearray(GOLDEN_0_1_0)
    body[place] = value
    with pytest.raises(PeerError):
        decode(bytes(body))


def test_another_major_version_is_still_a_sign_of_life() -> None:
    later = bytearray(GOLDEN_0_1_0)
    later[4] = 2
    assert decode(bytes(later)) == dataclasses.replace(BEAT, major=2)


@given(st.binary(max_size=600))
def test_any_bytes_give_a_heartbeat_or_a_peer_error(data: bytes) -> None:
    for body in (data, GOLDEN_0_1_0[:32] + data):
        try:
            decode(body)
        except PeerError:
            continue
