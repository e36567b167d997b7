# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a change of the pair may begin, judged by what both of its nodes say.

Pure: the nodes of the pair and what `pair_info` returned for them come in; who is active and who
passive goes out, or every reason for leaving both alone.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

States = t.Mapping[str, t.Mapping[str, t.Any]]


@dataclass(frozen=True)
class Admission:
    """Who is what; if there are reasons, nothing may begin."""

    active: str = ""
    passive: str = ""
    reasons: list[str] = field(default_factory=list)
    statuses: dict[str, t.Mapping[str, t.Any]] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The nodes in the order of a change: whoever is active comes last."""
        return [self.passive, self.active]


def admit(nodes: t.Sequence[str], states: States, in_sync: bool) -> Admission:
    """Both nodes were asked, one is active and the other passive, and in sync if demanded."""
    statuses = {node: states.get(node, {}).get("status") or {} for node in nodes}
    absent = [node for node in nodes if node not in states]
    if absent:
        names = " and ".join(absent)
        return Admission(reasons=[f"{names} was not asked, expected a play with both nodes"])
    silent = [node for node in nodes if not statuses[node]]
    if silent:
        return Admission(reasons=[f"the agent of {node} does not answer" for node in silent])
    roles = {node: str(status.get("role")) for node, status in statuses.items()}
    if sorted(roles.values()) != ["active", "passive"]:
        return Admission(
            reasons=[
                f"{node} is {role} ({statuses[node].get('reason', '')})"
                for node, role in roles.items()
            ]
        )
    active = next(node for node in nodes if roles[node] == "active")
    passive = next(node for node in nodes if node != active)
    reasons = refusals(statuses[active]) if in_sync else []
    return Admission(active, passive, reasons, statuses)


def refusals(status: t.Mapping[str, t.Any]) -> list[str]:
    """Why the active node would refuse a switchover; an older agent tells it with all reasons."""
    found = status.get("switchover") or status
    return [str(reason) for reason in found.get("reasons", [])]
