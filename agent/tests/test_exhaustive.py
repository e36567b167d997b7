# SPDX-License-Identifier: GPL-3.0-or-later
"""Every combination of two faults, and of three of the worst, at a grid of instants.

And one fault alone: for how long nobody forwards, at every phase of the beat. The larger search is
`make sim-exhaustive`.
"""

from __future__ import annotations

import itertools
import multiprocessing

import pytest
from simulator.exhaustive import (
    ALPHABET,
    COARSE_MS,
    PROFILE,
    SILENCE_MS,
    WORST,
    schedules,
    search,
    silence_ms,
)
from simulator.plan import Fault

from amaranten_ha.core.timing import PROFILES

PHASES_MS = range(0, PROFILES[PROFILE].beat_ms, 3)


@pytest.mark.live
def test_no_two_faults_and_no_three_of_the_worst_break_an_invariant() -> None:
    plans = itertools.chain(schedules(2, COARSE_MS), schedules(3, COARSE_MS, WORST))
    count, failures = search(plans, multiprocessing.cpu_count())
    assert count == len(ALPHABET) ** 2 * 3 + len(WORST) ** 3 * 6
    assert not failures, failures[:5]


@pytest.mark.parametrize("fault", ALPHABET, ids=repr)
def test_one_fault_alone_is_over_in_time(fault: Fault) -> None:
    worst_ms = max(silence_ms(fault, at_ms) for at_ms in PHASES_MS)
    assert worst_ms <= SILENCE_MS[fault.what]
