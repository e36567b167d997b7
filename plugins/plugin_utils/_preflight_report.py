# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of preflight: a row for each check, as a table, as JSON and as JUnit.

Pure: findings and figures come in, text goes out.  No check is ever left out of a report: one that
was not made says so, and why.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
import typing as t
from xml.etree import ElementTree

from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    INCONCLUSIVE,
    OK,
    SKIPPED,
    STATUSES,
    Finding,
    worst,
)

WIDTH = 76


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One check: how it ended, the figure, and what to do."""

    check: str
    status: str
    figure: str
    remedy: str


def rows(
    checks: t.Iterable[str],
    findings: t.Sequence[Finding],
    figures: t.Mapping[str, str],
    skip: t.Mapping[str, str],
    why_not: str,
) -> list[Row]:
    """A row for each check.

    `skip` says why one was left out, `why_not` why one has neither a finding nor a figure.
    """
    found = []
    for check in checks:
        own = [finding for finding in findings if finding.check == check]
        if check in skip:
            found.append(Row(check, SKIPPED, skip[check], ""))
        elif own:
            remedies = list(dict.fromkeys(finding.remedy for finding in own))
            text = "; ".join(finding.text for finding in own)
            found.append(Row(check, worst(own), text, "; ".join(remedies)))
        elif check in figures:
            found.append(Row(check, OK, figures[check], ""))
        else:
            found.append(Row(check, INCONCLUSIVE, why_not, ""))
    return found


def table(found: t.Sequence[Row]) -> str:
    """The rows for a terminal."""
    left = max(len(row.check) for row in found)
    middle = max(len(row.status) for row in found)
    lines = []
    for row in found:
        texts = textwrap.wrap(row.figure, WIDTH) or [""]
        if row.remedy:
            texts += textwrap.wrap("-> " + row.remedy, WIDTH, subsequent_indent="   ")
        for number, text in enumerate(texts):
            head = (row.check, row.status) if not number else ("", "")
            lines.append(f"  {head[0]:<{left}}  {head[1]:<{middle}}  {text}".rstrip())
    return "\n".join(lines)


def summary(name: str, found: t.Sequence[Row]) -> str:
    """All of it in one line."""
    counts = [(status, sum(row.status == status for row in found)) for status in STATUSES]
    return f"{name}: preflight " + ", ".join(f"{n} {status}" for status, n in counts if n)


def as_json(
    name: str,
    time: str,
    found: t.Sequence[Row],
    findings: t.Sequence[Finding],
    interfaces: t.Mapping[str, t.Any],
) -> str:
    """The report for programs."""
    report = {
        "pair": name,
        "time": time,
        "status": FAILED if any(row.status == FAILED for row in found) else OK,
        "checks": [dataclasses.asdict(row) for row in found],
        "findings": [finding.plain() for finding in findings],
        "interfaces": interfaces,
    }
    return json.dumps(report, indent=2) + "\n"


def as_junit(name: str, time: str, found: t.Sequence[Row]) -> str:
    """The report for a build server: a warning passes, what was not found out counts as skipped."""
    suite = ElementTree.Element(
        "testsuite", name=f"preflight {name}", tests=str(len(found)), timestamp=time, errors="0",
        failures=str(sum(row.status == FAILED for row in found)),
        skipped=str(sum(row.status in (SKIPPED, INCONCLUSIVE) for row in found)),
    )  # fmt: skip
    for row in found:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"preflight.{name}", name=row.check, time="0"
        )
        text = row.figure + (f"\n-> {row.remedy}" if row.remedy else "")
        if row.status == FAILED:
            ElementTree.SubElement(case, "failure", message=row.figure).text = text
        elif row.status in (SKIPPED, INCONCLUSIVE):
            ElementTree.SubElement(case, "skipped", message=f"{row.status}: {row.figure}")
        else:
            ElementTree.SubElement(case, "system-out").text = f"{row.status}: {text}"
    ElementTree.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, "unicode") + "\n"
    )
