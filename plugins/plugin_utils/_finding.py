# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a check of preflight says: findings, and the four words in which a check ends.

Every check enters here with what it found; reports are made of it.  Nothing is judged and nothing
is printed in this room.
"""

from __future__ import annotations

import dataclasses
import typing as t

OK, WARNING, FAILED, INCONCLUSIVE, SKIPPED = "ok", "warning", "failed", "inconclusive", "skipped"
STATUSES = (OK, WARNING, FAILED, INCONCLUSIVE, SKIPPED)
SEVERITY = {
    status: rank for rank, status in enumerate((OK, SKIPPED, INCONCLUSIVE, WARNING, FAILED))
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, named as what it is and where."""

    check: str
    status: str
    verdict: str
    interfaces: tuple[str, ...]
    nodes: tuple[str, ...]
    text: str
    remedy: str

    def plain(self) -> dict[str, t.Any]:
        """The same for a report."""
        found = dataclasses.asdict(self)
        found["interfaces"], found["nodes"] = list(self.interfaces), list(self.nodes)
        return found


def worst(findings: t.Iterable[Finding]) -> str:
    """The most severe status among findings, `ok` if there are none."""
    return max((finding.status for finding in findings), key=SEVERITY.__getitem__, default=OK)


def listed(words: t.Iterable[object]) -> str:
    """Words as in a sentence: a, b and c."""
    found = [str(word) for word in words]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)
