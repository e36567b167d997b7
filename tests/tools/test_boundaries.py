# SPDX-License-Identifier: GPL-3.0-or-later
"""Which boundaries `make test-boundaries` tries: the numbers that somebody names, or all."""

from __future__ import annotations

import re

import pytest

from tests.integration.deployment import chosen


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("4", [4]),
        ("1,5-6", [1, 5, 6]),
        ("5-6, 2,6", [2, 5, 6]),
    ],
)
def test_boundaries_are_those_that_are_named(said: str, numbers: list[int]) -> None:
    assert chosen(said, 6) == numbers


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("0", "BOUNDARIES has '0', expected numbers from 1 to 6"),
        ("1,5-7", "BOUNDARIES has '5-7', expected numbers from 1 to 6"),
        ("5-4", "BOUNDARIES has '5-4', expected numbers from 1 to 6"),
        ("-4", "BOUNDARIES has '-4', expected numbers as in 12,30-33"),
        ("1,", "BOUNDARIES has '', expected numbers as in 12,30-33"),
        ("last", "BOUNDARIES has 'last', expected numbers as in 12,30-33"),
    ],
)
def test_what_is_no_boundary_is_said_in_a_sentence(said: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        chosen(said, 6)
