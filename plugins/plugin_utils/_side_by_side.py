# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two nodes side by side, as text for a terminal.

Pure: what `pair_info` returned for the nodes of a pair comes in, lines and a verdict go out.  A
node that is down or whose agent is silent has a column all the same.
"""

from __future__ import annotations

import textwrap
import typing as t

Status = t.Mapping[str, t.Any]
Row = tuple[str, t.Callable[[Status], str]]
NOTHING = "-"
DAY_S = 86400
CELL_WIDTH_MAX = 44
"""Two columns and their labels fit into a terminal of 110 characters."""


def well(statuses: t.Mapping[str, Status]) -> bool:
    """Whether every node answers, one is active, one passive, and both call the spare ready."""
    roles = sorted(str(status.get("role", "")) for status in statuses.values())
    return roles == ["active", "passive"] and all(s.get("ready") for s in statuses.values())


def text(name: str, statuses: t.Mapping[str, Status]) -> str:
    """The whole block of one pair."""
    table = [["", *statuses]]
    for label, cell in ROWS:
        cells = [cell(status) if status else NOTHING for status in statuses.values()]
        table.append([label, *cells])
    for link in links(statuses):
        table.append([f"link {link}", *(link_text(link, s) for s in statuses.values())])
    rows = [line for row in table for line in wrapped(row)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table[0]))]
    lines = [headline(name, statuses)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [f"  - {reason}" for reason in reasons(statuses)]
    lines += [f"  warning: {problem}" for problem in warnings(statuses)]
    return "\n".join(lines)


def wrapped(row: t.Sequence[str]) -> list[list[str]]:
    """A row as the lines that it takes; long cells go on below."""
    cells = [textwrap.wrap(cell, CELL_WIDTH_MAX) or [""] for cell in row]
    height = max(len(cell) for cell in cells)
    return [[cell[line] if line < len(cell) else "" for cell in cells] for line in range(height)]


def warnings(statuses: t.Mapping[str, Status]) -> list[str]:
    """What the margins of either node say, once."""
    found = [p for s in statuses.values() for p in s.get("margin", {}).get("problems", [])]
    return list(dict.fromkeys(str(problem) for problem in found))


def headline(name: str, statuses: t.Mapping[str, Status]) -> str:
    """The pair in one line."""
    roles = {node: str(s.get("role", "NOT REACHED")) for node, s in statuses.items()}
    said = ", ".join(f"{node} is {role}" for node, role in roles.items())
    verdict = "the spare would take over now" if well(statuses) else "NOT ready"
    return f"{name}: {said}; {verdict}"


def reasons(statuses: t.Mapping[str, Status]) -> list[str]:
    """Every reason of either node, once."""
    found = [f"{node} does not answer" for node, status in statuses.items() if not status]
    found += [str(r) for status in statuses.values() for r in status.get("reasons", [])]
    return list(dict.fromkeys(found))


def links(statuses: t.Mapping[str, Status]) -> list[str]:
    """The interfaces of the pair, in the order in which a node says them."""
    return list(dict.fromkeys(link for s in statuses.values() for link in s.get("links", {})))


def link_text(name: str, status: Status) -> str:
    """One interface of one node."""
    link = status.get("links", {}).get(name)
    if not link:
        return NOTHING
    if not link["carrier"]:
        return f"{link['device']} NO CARRIER"
    if not link["heard"]:
        return f"{link['device']} PEER NOT HEARD"
    arrivals = link.get("in") or {}
    return f"{link['device']} heard, {arrivals.get('lost', 0)} lost"


def role(status: Status) -> str:
    """The role, and the flag beside it."""
    held = f", held for {status['held_s']} s more" if status.get("held") else ""
    return f"{status['role']}{held}"


def replica(status: Status) -> str:
    """How the replica stands."""
    found = status["replica"]
    reason = f" ({found['reason']})" if found.get("reason") else ""
    share = found["share_permille"] / 10
    return f"{found['state']}, {share:.1f} %, lag {found['lag_ms']} ms{reason}"


def survivors(status: Status) -> str:
    """x of y connections."""
    found = status.get("sync", {}).get("connections")
    if not found:
        return NOTHING
    return f"{found['survive']} of {found['of']} would survive a switch"


def gate(status: Status) -> str:
    """Whether the gate is what it should be, and open."""
    found = status["gate"]
    word = "intact" if found["intact"] else str(found["problem"])
    guard = "" if found["owned"] else ", NOT PROTECTED"
    return f"{word}, {'open' if found['open'] else 'closed'}{guard}"


def digests(status: Status) -> str:
    """The first digits of both fingerprints."""
    found = status["digests"]
    return f"config {found['config'][:8]}, ruleset {found['ruleset'][:8]}"


def margin(status: Status) -> str:
    """How far from a false alarm."""
    found = status["margin"]
    late = found["nodes"].get(status["node"], {}).get("late_ms", 0)
    return f"late {late:.1f} ms at worst, {found['near_misses']} near misses"


def hops(status: Status) -> str:
    """The next hops, and who answers."""
    found = status.get("health", {}).get("next_hops", {})
    if not found:
        return "none in routes"
    return ", ".join(f"{hop} {'answers' if ok else 'SILENT'}" for hop, ok in found.items())


def keys(status: Status) -> str:
    """The ids of the keys."""
    found = status.get("health", {}).get("keys")
    if not found:
        return NOTHING
    accepted = ", ".join(str(number) for number in found.get(status["node"], []))
    return f"accepts {accepted}, sends with {found['send']}"


def drill(status: Status) -> str:
    """The last drill."""
    found = status.get("drill")
    if not found:
        return "none"
    word = "passed" if found["ok"] else "FAILED"
    return f"{found['drill']} {word} {found['age_s'] / DAY_S:.1f} days ago"


def way(status: Status) -> str:
    """The way of a packet through the node, if it was tested."""
    found = status.get("path")
    if not found:
        return "not tested"
    if found["code"] == 0:
        return "OK"
    return str(found["text"]).partition("; ")[2] or str(found["text"])


def ready(status: Status) -> str:
    """Would the spare take over now?"""
    count = len(status["reasons"])
    return "yes" if status["ready"] else f"NO, {count} reason{'s' if count > 1 else ''} below"


ROWS: list[Row] = [
    ("role", role),
    ("why", lambda s: f"{s['reason']}, for {s['since_s']:g} s"),
    ("epoch", lambda s: str(s["epoch"])),
    ("peer seen as", lambda s: f"{s['peer']['role']}, {s['peer']['silence']}"),
    ("ready", ready),
    ("replica", replica),
    ("connections", survivors),
    ("gate", gate),
    ("next hops", hops),
    ("way through", way),
    ("version", lambda s: str(s["version"])),
    ("digests", digests),
    ("keys", keys),
    ("profile", lambda s: f"{s['profile']}{', damped' if s.get('damped') else ''}"),
    ("margin", margin),
    ("last drill", drill),
]
