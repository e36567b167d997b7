# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of durations: the design's figures, and the inequalities between them."""

from __future__ import annotations

import pytest

from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.core.timing import PROBES_MIN, PROFILES, Timing, lease_kernel_ms


def test_the_table_is_the_one_of_the_design() -> None:
    table = {name: (row.beat_ms, row.dead_ms, row.lease_ms) for name, row in PROFILES.items()}
    assert table == {
        "metal": (5, 14, 60),
        "fast": (20, 50, 120),
        "virtual": (40, 250, 320),
        "relaxed": (200, 1000, 1400),
    }


@pytest.mark.parametrize("name", PROFILES)
def test_enough_probes_fit_between_silence_and_dead(name: str) -> None:
    row = PROFILES[name]
    window_us = (row.dead_ms - 2 * row.beat_ms) * 1000
    assert window_us // row.probe_us > PROBES_MIN
    assert row.settle_ms >= row.lease_kernel_ms >= row.lease_ms


@pytest.mark.parametrize(("asked_ms", "kept_ms"), [(60, 64), (61, 84), (100, 104), (320, 324)])
def test_a_lease_is_rounded_up_to_20_ms_plus_a_jiffy(asked_ms: int, kept_ms: int) -> None:
    assert lease_kernel_ms(asked_ms) == kept_ms


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((40, 83, 320), "expected dead >= 2 beats"),
        ((40, 250, 80), "expected lease > 2 beats"),
        ((40, 330, 320), "expected lease >= dead"),
        ((0, 10, 20), "expected beat > 0"),
        ((40, 250, 3100), "expected restarting >= lease"),
    ],
)
def test_timers_that_contradict_each_other_are_refused(
    row: tuple[int, int, int], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Timing(*row)
