# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The drift report: for people, as JSON, as JUnit, and in one line.

Pure: judgements come in, text goes out; whoever enters writes it where it belongs.  No secret can
be in it, because none was observed: keys are hashes.
"""

from __future__ import annotations

import re
import typing as t
from xml.etree import ElementTree

from ansible_collections.amaranten.ha.plugins.plugin_utils._drift import Finding
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_pair import Judgement

REPORT_VERSION = 1
DIFF_LINES_MAX = 60
# What XML 1.0 cannot carry, in a unit file or a ruleset that somebody has broken.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def line(judgements: t.Sequence[Judgement]) -> str:
    """All pairs in one line, fit for a chat message."""
    if len(judgements) == 1:
        return judgements[0].line()
    drifted = [j for j in judgements if j.drifted]
    silent = [node for j in judgements for node in j.unreached]
    parts = [f"{len(judgements)} pairs: {len(judgements) - len(drifted)} without drift"]
    if drifted:
        listed = ", ".join(f"{j.name} ({len(j.findings)})" for j in drifted)
        parts.append(f"DRIFT in {len(drifted)}: {listed}")
    if silent:
        parts.append(f"NOT REACHED: {', '.join(silent)}")
    return "; ".join(parts)


def text(judgements: t.Sequence[Judgement]) -> str:
    """Everything for people: the lines, then each finding with its diff and its remedy."""
    return "\n".join(part for j in judgements for part in pair_text(j)).rstrip("\n") + "\n"


def pair_text(judgement: Judgement) -> t.Iterator[str]:
    """One pair."""
    yield judgement.line()
    for finding in judgement.findings:
        yield f"  [{finding.kind}] {finding.path}"
        yield f"      {finding.text}"
        lines = finding.diff.splitlines()
        yield from (f"      {each}" for each in lines[:DIFF_LINES_MAX])
        if len(lines) > DIFF_LINES_MAX:
            yield f"      ... {len(lines) - DIFF_LINES_MAX} more lines in the JSON report"
        yield from (f"      mend: {each}" for each in dict.fromkeys(finding.remedies.values()))
    for finding, reason in judgement.allowed:
        yield f"  [allowed: {reason}] {finding.path}"
        yield f"      {finding.text}"
    for allowance in judgement.unused:
        yield f"  [allowed, and no difference] {allowance.path} ({allowance.reason})"


def as_dict(judgements: t.Sequence[Judgement]) -> dict[str, t.Any]:
    """Everything for programs."""
    return {
        "version": REPORT_VERSION,
        "line": line(judgements),
        "drift": any(j.drifted for j in judgements),
        "pairs": [
            {
                "id": j.id,
                "name": j.name,
                "nodes": list(j.nodes),
                "unreached": list(j.unreached),
                "compared": j.compared,
                "line": j.line(),
                "findings": [f.as_dict() for f in j.findings],
                "allowed": [dict(f.as_dict(), reason=reason) for f, reason in j.allowed],
                "unused_allowances": [{"path": a.path, "reason": a.reason} for a in j.unused],
            }
            for j in judgements
        ],
    }


SECTIONS = (
    "address", "agent", "device", "file", "kernel", "key", "mac", "management", "mtu", "neighbour",
    "offload", "package", "route", "route table", "rule", "ruleset", "shared", "sysctl", "table",
    "unit",
)  # fmt: skip


def junit(judgements: t.Sequence[Judgement]) -> str:
    """A suite for each pair, a case for each kind of thing that was compared."""
    root = ElementTree.Element("testsuites", name="drift")
    for judgement in judgements:
        suite = ElementTree.SubElement(root, "testsuite", name=judgement.name)
        failures = skipped = 0
        for section in SECTIONS:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"drift.{judgement.name}", name=section
            )
            mine = [f for f in judgement.findings if section_of(f) == section]
            if mine:
                failures += 1
                failure = ElementTree.SubElement(case, "failure", message=message(mine))
                failure.text = NOT_XML.sub("?", "\n".join(detail(f) for f in mine))
            elif len(judgement.unreached) == len(judgement.nodes):
                skipped += 1
                ElementTree.SubElement(case, "skipped", message="no node could be reached")
        suite.set("tests", str(len(SECTIONS)))
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def section_of(finding: Finding) -> str:
    """The kind of thing that a finding is about."""
    first = finding.path.split("/")[0]
    return "route table" if first.startswith("route table") else first


def message(findings: t.Sequence[Finding]) -> str:
    """The findings of a case in one line."""
    return NOT_XML.sub("?", "; ".join(f"[{f.kind}] {f.text}" for f in findings))


def detail(finding: Finding) -> str:
    """One finding with its diff and its remedies."""
    remedies = "".join(f"mend: {each}\n" for each in dict.fromkeys(finding.remedies.values()))
    return f"[{finding.kind}] {finding.path}\n{finding.text}\n{finding.diff}{remedies}"
