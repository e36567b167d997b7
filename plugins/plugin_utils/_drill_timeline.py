# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One line of time for both nodes and the probes: what was the cause, and what followed.

Pure: what the watchers and probes said comes in, with the offsets of their clocks; moments in order
go out, in milliseconds from the fault.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

# What a node's state says in words when it changes; the rest of a state is in the events.
CHANGES = {
    "peer": "sees its peer: {}",
    "silence": "judges its peer: {}",
    "gate_open": "gate is {}",
    "replica": "replica: {}",
    "ready": "the spare is {}",
}


# Silences of a flow that are worth a line: the longest ones, and none that is mere jitter.
GAP_MS_MIN = 20.0
GAPS_MAX = 5
# Roles that flap for a minute are not to drown all else.
PASSAGES_MAX = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, in milliseconds from the fault; who says so, and what."""

    ms: float
    who: str
    kind: str
    text: str


def of_node(
    node: str, said: t.Iterable[t.Mapping[str, t.Any]], offset_ns: int, zero_ns: int
) -> list[Moment]:
    """What a node's watcher told."""
    found = []
    known: t.Mapping[str, t.Any] = {}
    for each in said:
        if "at_ns" not in each:
            continue
        ms = round((each["at_ns"] + offset_ns - zero_ns) / 1e6, 1)
        if "event" in each:
            event = each["event"]
            found.append(Moment(ms, node, str(event["kind"]), str(event["text"])))
        elif "state" in each:
            state = each["state"]
            for key, words in CHANGES.items():
                if known and state[key] != known[key] and state["role"] != "no agent":
                    found.append(Moment(ms, node, "state", words.format(_said(key, state[key]))))
            if known and state["role"] != known["role"] and "no agent" in (
                state["role"], known["role"]
            ):  # fmt: skip
                word = "is gone" if state["role"] == "no agent" else "is back"
                found.append(Moment(ms, node, "state", f"heart {word}"))
            known = state
    return found


def _said(key: str, value: object) -> str:
    if key == "gate_open":
        return "open" if value else "closed"
    if key == "ready":
        return "ready" if value else "not ready"
    return str(value)


def of_flow(
    name: str, host: str, result: t.Mapping[str, t.Any], offset_ns: int, zero_ns: int
) -> list[Moment]:
    """The longest silences of a flow: the last answer before, and the first one after."""
    found = []
    gaps = sorted(result.get("gaps_ns", []), key=lambda gap: gap[0] - gap[1])[:GAPS_MAX]
    for begin_ns, end_ns in gaps:
        if end_ns - begin_ns < GAP_MS_MIN * 1e6:
            continue
        begin, end = ((at + offset_ns - zero_ns) / 1e6 for at in (begin_ns, end_ns))
        found.append(Moment(round(begin, 1), host, "traffic", f"{name}: last answer"))
        text = f"{name}: answers again after {end - begin:.1f} ms"
        found.append(Moment(round(end, 1), host, "traffic", text))
    return found


def of_wire(times: t.Mapping[str, t.Sequence[int]], near_ns: int, zero_ns: int) -> list[Moment]:
    """When each node's packets began to come and when they ended, as the hosts saw it.

    A pause of `near_ns` parts them; what is before the fault is not told, nor the end of it all.
    """
    found = []
    over_ns = max((theirs[-1] for theirs in times.values()), default=0)
    for node, theirs in times.items():
        begins, ends = [], []
        for before, at, after in zip([0, *theirs], theirs, [*theirs[1:], over_ns], strict=False):
            if at - before > near_ns:
                begins.append(at)
            if after - at > near_ns:
                ends.append(at)
        for moments, word in ((begins, "first"), (ends, "last")):
            told = [(at - zero_ns) / 1e6 for at in moments if at >= zero_ns][:PASSAGES_MAX]
            text = f"{word} packet through {node}"
            found += [Moment(round(ms, 1), "wire", "traffic", text) for ms in told]
    return found


def in_order(moments: t.Iterable[Moment], from_ms: float) -> list[Moment]:
    """All moments from a little before the fault on, the earliest first."""
    return sorted(
        (moment for moment in moments if moment.ms >= from_ms), key=lambda moment: moment.ms
    )


def was_active(said: t.Iterable[t.Mapping[str, t.Any]], offset_ns: int, zero_ns: int) -> bool:
    """Whether a node was active at some moment since the fault."""
    role = ""
    for each in said:
        if "state" in each:
            if each["at_ns"] + offset_ns > zero_ns and role == "active":
                return True
            role = each["state"]["role"]
    return role == "active"


def lanes(
    said: t.Iterable[t.Mapping[str, t.Any]], offset_ns: int, zero_ns: int, end_ms: float
) -> list[dict[str, t.Any]]:
    """The spans in which a node had one role, for the picture; `open` says whether its gate was."""
    spans: list[dict[str, t.Any]] = []
    for each in said:
        if "state" not in each:
            continue
        ms = (each["at_ns"] + offset_ns - zero_ns) / 1e6
        look = {"role": each["state"]["role"], "open": each["state"]["gate_open"]}
        if spans and {key: spans[-1][key] for key in look} == look:
            continue
        if spans:
            spans[-1]["to_ms"] = ms
        spans.append(dict(look, from_ms=ms, to_ms=end_ms))
    return spans
