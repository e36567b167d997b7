# SPDX-License-Identifier: GPL-3.0-or-later
"""One answer to "would the spare take over now?": every reason in words, none without cause."""

from __future__ import annotations

import dataclasses

import pytest

from amaranten_ha.core.beat import Beat, Replica, ReplicaState, Role
from amaranten_ha.core.ready import Spare, differences, hand_over
from amaranten_ha.core.timing import PROFILES

TIMING = PROFILES["virtual"]
GOOD = Spare(
    "fw-b",
    alive=True,
    role=Role.PASSIVE,
    held=False,
    eligible=True,
    hears_active=True,
    replica=Replica(ReplicaState.SYNCED, 0, 5, 3, 1000),
)


def test_a_good_spare_has_nothing_against_it() -> None:
    assert hand_over(GOOD, TIMING) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alive": False}, "fw-b is not heard"),
        ({"role": Role.FAULT}, "fw-b is fault, not passive"),
        ({"held": True}, "fw-b is held in maintenance"),
        ({"eligible": False}, "fw-b says that it is not eligible"),
        ({"hears_active": False}, "fw-b does not hear the active node"),
        ({"major": 2}, "fw-b speaks protocol 2, this node speaks 1"),
        ({"replica": Replica(ReplicaState.BULK)}, "the replica on fw-b is bulk"),
        (
            {"replica": Replica(ReplicaState.SYNCED, 0, 5, 1001, 1000)},
            "the replica on fw-b lags by 1001 ms",
        ),
        (
            {"replica": Replica(ReplicaState.SYNCED, 0, 5, 3, 998)},
            "the replica on fw-b holds 99.8 %",
        ),
    ],
)
def test_each_cause_is_one_reason(change: dict[str, object], reason: str) -> None:
    assert hand_over(dataclasses.replace(GOOD, **change), TIMING) == (reason,)


def test_different_digests_are_said_and_equal_ones_are_not() -> None:
    beat = Beat(7, 2, Role.PASSIVE, 1, 1, 1, config_digest=b"a" * 8, ruleset_digest=b"b" * 8)
    assert differences(b"a" * 8, b"b" * 8, beat) == ()
    assert differences(b"x" * 8, b"b" * 8, beat) == ("the two nodes have different configurations",)
    assert differences(b"a" * 8, b"x" * 8, beat) == ("the two nodes have different rulesets",)
