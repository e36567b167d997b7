# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that change something: `switchover`, `maintenance`, `restart`.

The operator's tool enters with what was asked for; heart decides. What must outlive a reboot is
written here, after heart has agreed, because heart itself never writes. Exit codes: 0 done, 1
refused or not possible, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from typing import Any

from amaranten_ha.core.errors import ConfigurationError, KernelRefused
from amaranten_ha.core.timing import HELD_S_MAX
from amaranten_ha.io.desk import ask
from amaranten_ha.io.gate import GateReader
from amaranten_ha.io.locals import write_atomically
from amaranten_ha.settings import HELD_PATH, SOCKET_PATH, load, load_digests

ANSWER_S = 3.0
_SWITCHOVER_S = 30.0
_RESTART_S = 15.0
_LOOK_S = 0.05
_AGAIN_S = 0.2
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_GATE, _SYNC = "amaranten-ha-gate.service", "amaranten-ha-sync.service"


def seconds(text: str) -> int:
    """Read a duration such as 90s, 30m, 2h or 1d; raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]{1,7})([smhd])", text)
    value = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= value <= HELD_S_MAX:
        most = f"{HELD_S_MAX // 86_400}d"
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a duration of at most {most}, as in 90s, 30m or 2h"
        )
    return value


def switchover(options: argparse.Namespace) -> int:
    """Hand the active role over and wait until it is done."""
    request = {"op": "switchover", "reason": options.reason, "force": options.force}
    began = time.monotonic()
    said: list[str] = []
    while True:
        answer = ask(SOCKET_PATH, request, _SWITCHOVER_S)
        left_s = began + options.wait_s - time.monotonic()
        # An agent of before does not say whether it passes by itself.
        if answer["ok"] or left_s <= 0 or not answer.get("catching_up"):
            return _say(options, answer["ok"], answer["reasons"], "handed over", began)
        if answer["reasons"] != said:
            said = answer["reasons"]
            print(f"waiting for at most {left_s:.0f} s: {'; '.join(said)}", file=sys.stderr)
        time.sleep(min(_AGAIN_S, left_s))


def maintenance(options: argparse.Namespace) -> int:
    """Hold this node, or release it."""
    if options.state == "off":
        code = _finish(options, {"op": "maintenance"}, "maintenance is over, done")
        HELD_PATH.unlink(missing_ok=True)
        return code
    if options.seconds is None:
        raise ConfigurationError("maintenance on: expected --for with a duration, as in --for 2h")
    until = round(time.time()) + options.seconds
    request = {"op": "maintenance", "until": until, "force": options.force}
    code = _finish(options, request, f"held until {time.ctime(until)}, done")
    if code == 0:
        write_atomically(HELD_PATH, json.dumps({"until": until}) + "\n")
    return code


def restart(options: argparse.Namespace) -> int:
    """Restart the agent so that an active node stays active; the new files are checked first.

    The gate comes first if its table stays as it is. If the new files change it, heart begins anew
    first and waits for the gate that they describe: the one before would take it for a fault. A
    kernel that drops the lease with the table allows no such restart of an active node.
    """
    settings = load()
    load_digests()
    began = time.monotonic()
    before = ask(SOCKET_PATH, {"op": "status"}, ANSWER_S)
    reader = GateReader(settings)
    same_table, active = reader.check().intact, before["role"] == "active"
    if active and not same_table and not reader.outlives_its_service():
        reason = "the gate's table changes and this kernel drops the lease with it: switch over"
        return _say(options, False, [reason], "", began)
    if same_table:
        _systemctl("restart", _GATE)
    answer = ask(SOCKET_PATH, {"op": "restart"}, ANSWER_S)
    if not answer["ok"]:
        return _say(options, False, answer["reasons"], "", began)
    if not same_table:
        _systemctl("restart", _GATE)
    _systemctl("restart", _SYNC)
    after = _begun_anew(began)
    if active and after.get("role") != "active":
        reasons = [f"this node was active and is {after.get('role', 'silent')} now"]
        return _say(options, False, reasons, "", began)
    return _say(options, True, [], f"restarted, {after['role']} ({after['reason']}),", began)


def _begun_anew(began: float) -> dict[str, Any]:
    """Wait for a heart that is younger than the order, and for its role."""
    status: dict[str, Any] = {}
    while time.monotonic() - began < _RESTART_S:
        time.sleep(_LOOK_S)
        try:
            status = ask(SOCKET_PATH, {"op": "status"}, ANSWER_S)
        except KernelRefused:
            continue
        young = status["heart_s"] < time.monotonic() - began
        if young and status["role"] in ("active", "passive"):
            return status
    raise KernelRefused(
        f"heart has no role {_RESTART_S:g} s after the restart: {status.get('role', 'no answer')}"
    )


def _systemctl(verb: str, unit: str) -> None:
    done = subprocess.run(
        ["/usr/bin/systemctl", verb, unit], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise KernelRefused(f"systemctl {verb} {unit}: {' '.join(done.stderr.split())}")


def _finish(options: argparse.Namespace, request: dict[str, Any], done: str) -> int:
    began = time.monotonic()
    answer = ask(SOCKET_PATH, request, _SWITCHOVER_S)
    return _say(options, answer["ok"], answer["reasons"], done, began)


def _say(
    options: argparse.Namespace, done: bool, reasons: list[str], text: str, began: float
) -> int:
    took_ms = round((time.monotonic() - began) * 1000)
    if options.json:
        print(json.dumps({"done": done, "reasons": reasons, "ms": took_ms}))
    elif done:
        print(f"{text} in {took_ms} ms")
    else:
        print("refused: " + "; ".join(reasons), file=sys.stderr)
    return 0 if done else 1
