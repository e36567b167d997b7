# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a drill: one HTML file that needs nothing else, the same as JSON and as JUnit.

The action plugin enters with what was found.  Earlier runs of the same drill are read from the
history, where each run leaves its figures; a file there that is none of ours is left alone.
"""

from __future__ import annotations

import json
import os
import time
import typing as t
from dataclasses import dataclass, field
from xml.etree import ElementTree

import jinja2
from ansible_collections.amaranten.ha.plugins.plugin_utils import _drill_picture as picture
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_findings import compared
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import DrillError
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_request import Request
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_run import Report

FORMAT = 1
EARLIER_MAX = 50
TEMPLATES = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    "roles", "drill", "templates",
)  # fmt: skip


@dataclass
class Written:
    """Where the report is, and the silences of earlier runs of each drill, in milliseconds."""

    paths: list[str] = field(default_factory=list)
    earlier: dict[str, list[float]] = field(default_factory=dict)


def write(asked: Request, reports: t.Sequence[Report], broken_off: str) -> Written:
    """Write what was asked for; DrillError if it cannot be written.

    `broken_off` says why the last drill came to no end; empty if all did.
    """
    written = Written()
    try:
        if asked.history:
            written.earlier = earlier(asked.history)
        if asked.report:
            os.makedirs(asked.report, exist_ok=True)
            for name, text in (
                ("report.html", html(reports, written.earlier, broken_off)),
                ("report.json", as_json(reports, broken_off)),
                ("report.xml", junit(reports, broken_off)),
            ):
                path = os.path.join(asked.report, name)
                put(path, text)
                written.paths.append(path)
        if asked.history:
            remember(asked.history, reports)
    except OSError as problem:
        raise DrillError(
            f"The drill is over, but its report cannot be written: {problem.filename}: "
            f"{problem.strerror}."
        ) from problem
    return written


def put(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, path)


def earlier(history: str) -> dict[str, list[float]]:
    """The silences of the newest earlier runs, by drill."""
    found: dict[str, list[float]] = {}
    if not os.path.isdir(history):
        return found
    for name in sorted(os.listdir(history)):
        if not name.endswith(".json"):
            continue
        try:
            with open(os.path.join(history, name), encoding="utf-8") as file:
                run = json.load(file)
            if run.get("format") == FORMAT and run["silence_ms"] is not None:
                found.setdefault(str(run["drill"]), []).append(float(run["silence_ms"]))
        except (ValueError, KeyError, AttributeError):
            continue
    return {drill: values[-EARLIER_MAX:] for drill, values in found.items()}


def remember(history: str, reports: t.Sequence[Report]) -> None:
    """Leave the figures of these runs for those that come after."""
    os.makedirs(history, exist_ok=True)
    for each in reports:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(each.began))
        run = {
            "format": FORMAT,
            "drill": each.drill,
            "began": each.began,
            "ok": each.ok,
            "silence_ms": each.measured.silence_ms,
            "lost": each.measured.lost,
            "connections": each.measured.connections,
            "connections_lost": each.measured.connections_lost,
            "dual_active_ms": each.measured.dual_active_ms,
        }
        put(os.path.join(history, f"{stamp}-{each.drill}.json"), json.dumps(run, indent=1) + "\n")


def summary(reports: t.Sequence[Report], before: t.Mapping[str, t.Sequence[float]]) -> list[str]:
    """A line for each drill."""
    lines = []
    for each in reports:
        found = each.measured
        parts = [f"{each.drill}: {'ok' if each.ok else 'FAILED'}"]
        if found.silence_ms is not None:
            parts.append(f"silence {found.silence_ms:g} ms")
        if found.lost is not None:
            parts.append(f"{found.lost} packets lost")
        if found.connections is not None:
            survived = found.connections - (found.connections_lost or 0)
            parts.append(f"{survived} of {found.connections} connections survived")
        if found.dual_active_ms is not None:
            parts.append(f"both active for {found.dual_active_ms:g} ms")
        beside = compared(found.silence_ms, before.get(each.drill, ()))
        lines.append(", ".join(parts + ([beside] if beside else [])))
        lines += [f"not seen: {sentence}" for sentence in each.unseen]
    return lines


def as_json(reports: t.Sequence[Report], broken_off: str) -> str:
    """Everything, for programs."""
    found = {
        "format": FORMAT,
        "ok": not broken_off and all(each.ok for each in reports),
        "broken_off": broken_off,
        "drills": [each.data() for each in reports],
    }
    return json.dumps(found, indent=1) + "\n"


def junit(reports: t.Sequence[Report], broken_off: str) -> str:
    """Each demand of each drill as a test case."""
    suites = ElementTree.Element("testsuites", name="amaranten.ha drill")
    for each in reports:
        failures = sum(not check.ok for check in each.checks)
        suite = ElementTree.SubElement(
            suites, "testsuite", name=each.drill, tests=str(len(each.checks)),
            failures=str(failures),
        )  # fmt: skip
        for check in each.checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"drill.{each.drill}", name=check.name
            )
            if not check.ok:
                ElementTree.SubElement(case, "failure", message=check.sentence)
    if broken_off:
        suite = ElementTree.SubElement(suites, "testsuite", name="drill", tests="1", errors="1")
        case = ElementTree.SubElement(suite, "testcase", classname="drill", name="end")
        ElementTree.SubElement(case, "error", message=broken_off)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(
        suites, encoding="unicode"
    )


def html(
    reports: t.Sequence[Report], before: t.Mapping[str, t.Sequence[float]], broken_off: str
) -> str:
    """The page for people."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    drills = [
        {
            "report": each,
            "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(each.began)),
            "compared": compared(each.measured.silence_ms, before.get(each.drill, ())),
            "picture": picture.draw(each),
        }
        for each in reports
    ]
    template = environment.get_template("report.html.j2")
    return template.render(
        drills=drills, ok=not broken_off and all(each.ok for each in reports), broken_off=broken_off
    )
