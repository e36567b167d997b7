# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One line about the pair, from what its nodes say.

Pure: what `pair_info` returned for one or two nodes comes in, a verdict goes out.
"""

from __future__ import annotations

import typing as t


def verdict(states: t.Mapping[str, t.Mapping[str, t.Any]]) -> tuple[bool, str]:
    """(whether the pair is as it should be, the line that says so)."""
    statuses = {host: state.get("status") or {} for host, state in states.items()}
    silent = [host for host, status in statuses.items() if not status]
    if silent:
        verb = "does" if len(silent) == 1 else "do"
        return False, f"{' and '.join(silent)} {verb} not run the agent."
    name = next(iter(statuses.values())).get("cluster", {}).get("name", "pair")
    roles = {host: status.get("role", "unknown") for host, status in statuses.items()}
    if len(statuses) == 1:
        return one_node(name, *next(iter(statuses.items())))
    line = ", ".join(f"{host} is {role}" for host, role in roles.items())
    if sorted(roles.values()) != ["active", "passive"]:
        reasons = "; ".join(str(status.get("reason", "")) for status in statuses.values())
        return False, f"{name}: {line} ({reasons}), expected one active and one passive node."
    active = next(host for host, role in roles.items() if role == "active")
    passive = next(host for host, role in roles.items() if role == "passive")
    line = f"{name}: {active} is active, {passive} is passive"
    unready = [reason for status in statuses.values() for reason in status.get("reasons", [])]
    if all(status.get("ready") for status in statuses.values()):
        entries = statuses[passive].get("replica", {}).get("entries", 0)
        return True, f"{line} and would take over now with {entries} connections."
    return True, f"{line} and would NOT take over now: {'; '.join(dict.fromkeys(unready))}."


def one_node(name: str, host: str, status: t.Mapping[str, t.Any]) -> tuple[bool, str]:
    """The line of a run that was limited to one node."""
    peer = status.get("peer", {})
    role = status.get("role", "unknown")
    line = (
        f"{name}: {host} is {role}, "
        f"{peer.get('node', 'its peer')} was not touched and is {peer.get('role', 'unknown')} "
        f"({peer.get('state', 'unknown')}) as seen from {host}."
    )
    return role in ("active", "passive"), line
