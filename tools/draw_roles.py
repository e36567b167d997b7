#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the role machine of the agent into docs/roles.md, from the table that the agent runs by.

`tools/draw_roles.py` rewrites what stands between the two markers, `--check` only says whether it
is up to date (exit code 1 if not). What people wrote around the markers is never touched.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "agent" / "src"))

from amaranten_ha.core.beat import Role  # noqa: E402
from amaranten_ha.core.role import RULES, Rule  # noqa: E402

PAGE = ROOT / "docs" / "roles.md"
BEGIN = "<!-- drawn by tools/draw_roles.py: begin -->"
END = "<!-- drawn by tools/draw_roles.py: end -->"


class PageError(Exception):
    """The page has no place for the drawing; the sentence says what is missing."""


def words(roles: Iterable[Role]) -> str:
    """The roles in the order of their numbers, in the product's words."""
    return ", ".join(role.word for role in sorted(roles))


def table(rules: Iterable[Rule]) -> list[str]:
    """One row for each rule, in the order in which they are tried."""
    lines = ["| | in | reason | to | actions, in this order |", "|---|---|---|---|---|"]
    for number, rule in enumerate(rules, start=1):
        actions = ", ".join(action.value for action in rule.actions) or "none"
        reason, to = f"`{rule.reason}`", rule.to.word
        lines.append(f"| {number} | {words(rule.roles)} | {reason} | {to} | {actions} |")
    return lines


def node_name(role: Role) -> str:
    """A role as the diagram's language can name it."""
    return role.word.replace(" ", "_")


def diagram(rules: Iterable[Rule]) -> list[str]:
    """The transitions, those between the same two roles on one arrow."""
    arrows: dict[tuple[Role, Role], list[str]] = {}
    for rule in rules:
        for role in sorted(rule.roles):
            reasons = arrows.setdefault((role, rule.to), [])
            if rule.reason not in reasons:
                reasons.append(rule.reason)
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR"]
    lines += [f'    state "{role.word}" as {node_name(role)}' for role in Role if " " in role.word]
    lines.append(f"    [*] --> {node_name(Role.STARTING)}")
    for (role, to), reasons in sorted(arrows.items()):
        # A colon ends the label in this language, so it becomes a comma.
        label = "<br/>".join(reason.replace(":", ",") for reason in reasons)
        lines.append(f"    {node_name(role)} --> {node_name(to)}: {label}")
    return [*lines, "```"]


def drawn(rules: Iterable[Rule]) -> str:
    """The text between the markers."""
    kept = tuple(rules)
    return "\n".join(["", *table(kept), "", *diagram(kept), ""]) + "\n"


def halves(page: str) -> tuple[str, str]:
    """What stands before and after the drawing, the markers included."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise PageError(f"expected one line {BEGIN!r} and, after it, one line {END!r}")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n", END + rest.split(END)[1]


def redrawn(page: str, rules: Iterable[Rule]) -> str:
    """The page with the drawing of these rules."""
    before, after = halves(page)
    return before + drawn(rules) + after


def written_by_hand(page: str) -> str:
    """The page without the drawing."""
    return "".join(halves(page))


def main() -> int:
    """Draw, or check; the exit code is 0 if the page is right afterwards."""
    parser = argparse.ArgumentParser(prog="draw_roles.py", description="Draw docs/roles.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, say if it is stale")
    options = parser.parse_args()
    name = PAGE.relative_to(ROOT)
    try:
        page = PAGE.read_text()
        wanted = redrawn(page, RULES)
    except (OSError, PageError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    if page == wanted:
        print(f"{name} shows the {len(RULES)} rules of the agent")
        return 0
    if options.check:
        print(f"{name} is stale: run tools/draw_roles.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted)
    print(f"{name} is drawn anew, {len(RULES)} rules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
