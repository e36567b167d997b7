# SPDX-License-Identifier: GPL-3.0-or-later
"""The campaign: thousands of drawn schedules of two shipped engines, and plans that once failed.

The number of seeds fits into four minutes of two cores; `make sim SEEDS=a-b` runs any other range.
"""

from __future__ import annotations

import multiprocessing

import pytest
from simulator.campaign import commit, explain, play, spans, total
from simulator.draw import draw_plan
from simulator.kept import KEPT
from simulator.plan import Fault, Plan
from simulator.run import run

SEEDS = 20_000
SEEDS_FAST = 100


def test_a_few_schedules_at_every_save() -> None:
    found = total(play(spans(0, SEEDS_FAST), 1))
    assert not found.failures, explain(found.failures)


@pytest.mark.live
def test_twenty_thousand_schedules() -> None:
    print(f"seeds 0-{SEEDS} at {commit()}")
    found = total(play(spans(0, SEEDS), multiprocessing.cpu_count()))
    print(found)
    assert found.seeds == SEEDS
    assert not found.failures, explain(found.failures)


@pytest.mark.parametrize("plan", KEPT.values(), ids=KEPT)
def test_a_plan_that_once_failed(plan: Plan) -> None:
    assert run(plan)[0].text == ""


def test_a_plan_prints_as_the_literal_that_makes_it_again() -> None:
    for seed in range(50):
        plan = draw_plan(seed)
        assert eval(repr(plan), {"Plan": Plan, "Fault": Fault}) == plan


def test_the_same_plan_gives_the_same_run() -> None:
    for seed in range(5):
        plan = draw_plan(seed)
        first, second = (run(plan, trace=True)[1].trace for _time in range(2))
        assert first == second


def test_messages_as_bytes_and_as_values_give_the_same_run() -> None:
    for seed in range(12):
        plan = draw_plan(seed)
        if plan.skew or any(each.what in ("forge", "replay") for each in plan.faults):
            continue
        traces = []
        for wire_bytes in (False, True):
            faults = plan.faults
            same = Plan(seed=seed, profile=plan.profile, faults=faults, wire_bytes=wire_bytes)
            traces.append(run(same, trace=True)[1].trace)
        assert traces[0] == traces[1]
