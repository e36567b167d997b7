# SPDX-License-Identifier: GPL-3.0-or-later
"""Each mutant of the engine is found by the simulation within its budget.

A mutant that is not found means that the simulation is too weak: mend that, not the budget.
"""

from __future__ import annotations

import pytest
from simulator.draw import draw_plan
from simulator.mutants import MUTANTS, Mutant
from simulator.run import CRASH, run


@pytest.mark.live
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_found(mutant: Mutant) -> None:
    with mutant.enter():
        # An engine that only raises proves nothing of the judge.
        seeds = range(mutant.budget)
        found = next((seed for seed in seeds if _violates(seed) not in ("", CRASH)), None)
    assert found is not None, f"not found in {mutant.budget} seeds"
    assert not _violates(found), "the shipped engine fails at this seed, too"
    print(f"seed {found}")


def _violates(seed: int) -> str:
    return run(draw_plan(seed))[0].violation
