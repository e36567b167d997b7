# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/roles.md shows the role table that the agent runs by, and explains every reason in it.

The drawing is compared with the table; the explanation stands outside of the drawing, so that a new
rule fails here until somebody has written down what it means.
"""

from __future__ import annotations

import dataclasses

import pytest

from amaranten_ha.core.role import RULES
from tests.house.checks import missing_reasons
from tools import draw_roles


@pytest.fixture(scope="module")
def page() -> str:
    """The page as it is in the tree."""
    return draw_roles.PAGE.read_text()


def test_the_drawing_is_that_of_the_table(page: str) -> None:
    assert page == draw_roles.redrawn(page, RULES), "stale: run tools/draw_roles.py"


def test_every_reason_is_explained_by_hand(page: str) -> None:
    assert not missing_reasons(RULES, draw_roles.written_by_hand(page))


def test_another_table_gives_another_drawing(page: str) -> None:
    changed = dataclasses.replace(RULES[-1], reason="for a reason of its own")
    other = draw_roles.redrawn(page, (*RULES[:-1], changed))
    assert other != page
    assert "`for a reason of its own`" in other
    assert draw_roles.redrawn(page, RULES[:-1]) != page
    assert draw_roles.redrawn(page, tuple(reversed(RULES))) != page
    assert draw_roles.redrawn(other, RULES) == page


def test_nothing_outside_of_the_markers_changes(page: str) -> None:
    hand = draw_roles.written_by_hand(page)
    assert hand == draw_roles.written_by_hand(draw_roles.redrawn(page, RULES[:1]))
    assert draw_roles.drawn(RULES) not in hand


@pytest.mark.parametrize(
    "text",
    [
        "no marker at all",
        draw_roles.BEGIN,
        draw_roles.END + draw_roles.BEGIN,
        2 * (draw_roles.BEGIN + draw_roles.END),
    ],
)
def test_a_page_without_a_place_for_the_drawing_is_refused(text: str) -> None:
    with pytest.raises(draw_roles.PageError):
        draw_roles.redrawn(text, RULES)


def told(stories: str) -> set[str]:
    """The reasons of the table that stories name, in quotes."""
    return {rule.reason for rule in RULES if f'"{rule.reason}"' in stories}


def test_every_rule_has_a_story() -> None:
    pages = sorted((draw_roles.ROOT / "agent" / "tests").glob("test_role*.py"))
    stories = "\n".join(page.read_text() for page in pages)
    assert {rule.reason for rule in RULES} - told(stories) == set()
    assert told("no story") == set()
