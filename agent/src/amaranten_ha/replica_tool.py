# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's tool, where it asks sync: the replica in detail, `resync` and `check --deep`.

`cli` enters. Sync answers over a control socket of its own; when it is away, the status says so and
everything else is as it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from amaranten_ha.core import census
from amaranten_ha.core.audit import DEADLINE_S
from amaranten_ha.core.errors import HaError
from amaranten_ha.io.desk import ask
from amaranten_ha.settings import SYNC_SOCKET_PATH

_ANSWER_S = 1.0
_JOB_S = DEADLINE_S + 5.0


def detail() -> dict[str, Any]:
    """Return what sync says of the replica; `problem` alone if it cannot be asked."""
    try:
        answer = ask(SYNC_SOCKET_PATH, {"op": "status"}, _ANSWER_S, "sync")
    except HaError as error:
        return {"problem": str(error)}
    del answer["ok"]
    return {"problem": ""} | answer


def lines(said: dict[str, Any]) -> list[str]:
    """Return the detail as lines of the status."""
    if said["problem"]:
        return [f"  {said['problem']}"]
    compared = said["compared_ms_ago"]
    return [
        f"  {said['share_permille'] / 10:.1f} % the same, {said['missing']} missing,"
        f" {said['stale']} stale, {said['lag_entries']} changes under way"
        + ("" if compared is None else f", compared {compared} ms ago"),
        # A service that was not restarted since an upgrade does not say this.
        *([f"  {census.line(said['connections'])}"] if "connections" in said else []),
        *([_paths(said["paths"])] if "paths" in said else []),
        *(f"  not replicated: {complaint}" for complaint in said.get("vital", ())),
    ]


def _paths(said: list[dict[str, Any]]) -> str:
    """Return which path the session takes, and which others would do."""
    blocked = ", ".join(each["interface"] for each in said if each["passes"] is False)
    in_use = [each["interface"] for each in said if each["in_use"]]
    spare = ", ".join(each["interface"] for each in said if each["passes"] and not each["in_use"])
    parts = [f"over {in_use[0]}" if in_use else "no session", f"further paths: {spare or 'none'}"]
    parts += [f"not let through: {blocked}"] if blocked else []
    return "  " + "; ".join(parts)


def resync(options: argparse.Namespace) -> int:
    """Have everything copied anew; returns the exit code."""
    answer = ask(SYNC_SOCKET_PATH, {"op": "resync"}, _JOB_S, "sync")
    if options.json:
        print(json.dumps({"done": answer.pop("ok"), **answer}))
        return 0 if not answer["reasons"] else 1
    if not answer["ok"]:
        print("refused: " + "; ".join(answer["reasons"]), file=sys.stderr)
        return 1
    refused = "".join(f", {count} refused: {why}" for why, count in answer["refused"].items())
    print(
        f"{answer['entries']} entries in {answer['ms']} ms: {answer['created']} new,"
        f" {answer['removed']} removed{refused}"
    )
    return 0


def deep() -> tuple[int, str, str]:
    """Compare the two tables entry by entry; returns the Nagios code, its word and the text."""
    answer = ask(SYNC_SOCKET_PATH, {"op": "deep"}, _JOB_S, "sync")
    if not answer["ok"]:
        return 3, "UNKNOWN", "; ".join(answer["reasons"])
    if answer["same"]:
        return 0, "OK", f"{answer['entries']} entries, both tables are the same"
    counts = ", ".join(
        f"{answer[how]} {how}" for how in ("missing", "stale", "surplus") if answer[how]
    )
    found = [f"{each['how']}: {each['connection']}" for each in answer["examples"]]
    text = f"{counts} on the passive, of {answer['entries']} entries"
    return 1, "WARNING", "; ".join([text, *found])
