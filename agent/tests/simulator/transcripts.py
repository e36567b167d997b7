# SPDX-License-Identifier: GPL-3.0-or-later
"""Transcripts: a schedule in a file, and below it everything that the pair says while it runs.

A test and a person enter: the test compares, `make transcripts` draws all files anew, and the diff
is what a change of the engine means. A file holds what it is about, the plan as the literal that
makes it, the trace, and how it ended; times are milliseconds from the first instant at which a
fault may begin, and of each burst of announcements only the first is shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

from amaranten_ha.core.timing import MS_NS
from simulator.plan import Fault, Plan
from simulator.run import run
from simulator.world import World

FOLDER = Path(__file__).resolve().parents[1] / "transcripts"
RULER = "----"


def plan_in(text: str) -> tuple[str, Plan]:
    """Return what a transcript is about, and its plan."""
    head, literal, *_rest = text.split(f"\n{RULER}\n", 2)
    plan = eval(literal, {"__builtins__": {}, "Plan": Plan, "Fault": Fault})
    assert isinstance(plan, Plan)
    return head, plan


def drawn(text: str) -> str:
    """Return a transcript as it must read: its own head and plan, and what happens now."""
    head, plan = plan_in(text)
    literal = text.split(f"\n{RULER}\n", 2)[1]
    outcome, world = run(plan, trace=True)
    ends = outcome.text or _ending(world)
    return f"\n{RULER}\n".join((head, literal, "\n".join(_lines(world)), ends)) + "\n"


def _lines(world: World) -> list[str]:
    lines, before = [], (0, "")
    for at_ns, who, text in world.trace or ():
        follows = before == (at_ns, who)
        before = at_ns, who
        if at_ns >= world.faults_from_ns and (text != "announces" or follows):
            lines.append(f"{(at_ns - world.faults_from_ns) / MS_NS:10.2f} {who or '*':5} {text}")
    return lines


def _ending(world: World) -> str:
    roles = ", ".join(f"{each.plan.name} {each.role.word}" for each in world.machines.values())
    times = (world.nobody_forwards_ns, world.both_forward_ns, world.both_speak_ns)
    nobody, both, speak = (f"{each / MS_NS:.2f} ms" for each in times)
    return f"{roles}\nnobody forwarded for {nobody}, both for {both}; both answered for {speak}"


def main() -> int:
    """Draw every transcript anew."""
    for path in sorted(FOLDER.glob("*.txt")):
        text = path.read_text()
        new = drawn(text)
        if new != text:
            path.write_text(new)
            print(f"{path.name} is drawn anew")
    return 0


if __name__ == "__main__":
    sys.exit(main())
