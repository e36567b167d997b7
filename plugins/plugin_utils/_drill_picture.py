# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pictures of a report, as places on a canvas: traffic over time, and the roles of both nodes.

Pure: a report comes in, numbers for the template go out.  The window shows what matters: from a
quarter of a second before the fault to a while after the last silence, while there was traffic.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_run import Report

WIDTH, HEIGHT, LANE = 900.0, 90.0, 22.0
LEFT_MS, AFTER_MS, WINDOW_MS_MIN = -250.0, 750.0, 1200.0
BIN_MS = 10.0
TICKS_MAX = 12
STEPS_MS = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def draw(report: Report) -> dict[str, t.Any]:
    """Everything the template draws."""
    right_ms = window(report)
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "lane": LANE,
        "ticks": ticks(right_ms),
        "zero": place(0.0, right_ms),
        "flows": [flow(plot, right_ms) for plot in report.plots],
        "lanes": {
            node: [shown for span in spans if (shown := lane(span, right_ms))]
            for node, spans in report.lanes.items()
        },
    }


def window(report: Report) -> float:
    """The last millisecond that is drawn."""
    last = max(
        (moment.ms for moment in report.moments if moment.kind in ("traffic", "role")),
        default=0.0,
    )
    ends = [plot["from_ms"] + len(plot["values"]) * BIN_MS for plot in report.plots]
    return max(min([last + AFTER_MS, *(ends or [report.end_ms])]), WINDOW_MS_MIN)


def place(ms: float, right_ms: float) -> float:
    """Where a moment is on the canvas."""
    share = (ms - LEFT_MS) / (right_ms - LEFT_MS)
    return round(min(max(share, 0.0), 1.0) * WIDTH, 1)


def ticks(right_ms: float) -> list[dict[str, t.Any]]:
    """The marks of the axis, at round numbers."""
    step = next((s for s in STEPS_MS if (right_ms - LEFT_MS) / s <= TICKS_MAX), STEPS_MS[-1])
    first = -int(-LEFT_MS // step) * step
    return [
        {"x": place(ms, right_ms), "text": f"{ms / 1000:g} s" if step >= 1000 else f"{ms:g} ms"}
        for ms in range(first, int(right_ms) + 1, step)
    ]


def flow(plot: t.Mapping[str, t.Any], right_ms: float) -> dict[str, t.Any]:
    """A flow as the outline of its bins."""
    ordered = sorted(plot["values"])
    # A burst after a stall would flatten all the rest.
    top = ordered[int(len(ordered) * 0.98)] or ordered[-1] or 1
    points = [f"0,{HEIGHT:g}"]
    last_x = 0.0
    for number, value in enumerate(plot["values"]):
        begin = plot["from_ms"] + number * BIN_MS
        if begin + BIN_MS < LEFT_MS or begin > right_ms:
            continue
        y = round(HEIGHT * (1 - min(value / top, 1)), 1)
        last_x = place(begin + BIN_MS, right_ms)
        points += [f"{place(begin, right_ms):g},{y:g}", f"{last_x:g},{y:g}"]
    points.append(f"{last_x:g},{HEIGHT:g}")
    per_s = top * 100
    scale = f"{per_s / 125_000:.0f} Mbit/s" if plot["unit"] == "bytes" else f"{per_s:g}/s"
    return {"name": plot["name"], "unit": plot["unit"], "points": " ".join(points), "top": scale}


def lane(span: t.Mapping[str, t.Any], right_ms: float) -> dict[str, t.Any] | None:
    """A span of one role; None if it lies outside."""
    if span["to_ms"] < LEFT_MS or span["from_ms"] > right_ms:
        return None
    x = place(span["from_ms"], right_ms)
    return {
        "x": x,
        "width": round(place(span["to_ms"], right_ms) - x, 1),
        "role": span["role"],
        "css": span["role"].replace(" ", "-"),
        "open": span["open"],
    }
