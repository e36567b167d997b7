# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's tool: what it can be asked, and the commands that only look.

An operator or a monitoring system enters; heart answers over its control socket. Exit codes: 0 done
or well, 1 refused or not possible, 2 bad input; `check` has those of Nagios plugins (0 OK,
1 WARNING, 2 CRITICAL, 3 UNKNOWN).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from amaranten_ha import __version__, path_tool, replica_tool, steering
from amaranten_ha.core.errors import ConfigurationError, HaError
from amaranten_ha.core.ready import SHARE_PERMILLE_MIN
from amaranten_ha.core.timing import PROFILES
from amaranten_ha.io.desk import ask
from amaranten_ha.settings import (
    DIGESTS_PATH,
    DRILL_PATH,
    SOCKET_PATH,
    load_digests,
    load_keys,
)
from amaranten_ha.steering import ANSWER_S


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = _parser().parse_args(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(options.run(options))
    except HaError as error:
        if options.run is _check:
            return _verdict(3, "UNKNOWN", str(error), options)
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amaranten-ha", description="Look at and steer this node of a firewall pair."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, text in (
        ("status", _status, "show this node, its peer, and whether the spare would take over now"),
        ("switchover", steering.switchover, "hand the active role over, and wait until done"),
        ("maintenance", steering.maintenance, "hold this node: it takes over from nobody"),
        ("restart", steering.restart, "restart the agent with the files that are there now"),
        (
            "resync",
            replica_tool.resync,
            "copy the whole connection table anew, and wait until done",
        ),
        ("events", _events, "show what happened on this node and why, newest last"),
        (
            "reload",
            _reload,
            "tell heart the fingerprints and keys that were deployed; nothing restarts",
        ),
        ("check", _check, "say in one line, with Nagios exit codes, whether the pair is well"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.set_defaults(run=run)
        if name == "reload":
            command.add_argument(
                "--digests", type=Path, default=DIGESTS_PATH, help=f"default: {DIGESTS_PATH}"
            )
        if name == "switchover":
            command.add_argument(
                "--reason", default="operator", help="what the log says (default: operator)"
            )
            command.add_argument(
                "--wait", dest="wait_s", metavar="DURATION", type=steering.seconds, default=0,
                help="while the spare's copy is being made ask again, as in 60s (default: refuse)",
            )  # fmt: skip
        if name == "check":
            command.add_argument(
                "--deep", action="store_true", help="compare the two connection tables"
            )
            command.add_argument(
                "--path", action="store_true", help="test the way of a packet; the role stays"
            )
        if name == "maintenance":
            command.add_argument("state", choices=("on", "off"))
            command.add_argument(
                "--for", dest="seconds", type=steering.seconds, help="it ends by itself, as in 2h"
            )
        if name in ("switchover", "maintenance"):
            command.add_argument(
                "--force", action="store_true", help="whatever is lost; never to a node that cannot"
            )
    return parser


def _status(options: argparse.Namespace) -> int:
    status = ask(SOCKET_PATH, {"op": "status"}, ANSWER_S)
    del status["ok"]
    status["sync"], status["drill"] = replica_tool.detail(), last_drill(DRILL_PATH, time.time())
    print(json.dumps(status, indent=2) if options.json else _status_text(status))
    return 0


def _status_text(status: dict[str, Any]) -> str:
    peer, replica = status["peer"], status["replica"]
    lines = [
        f"{status['node']} is {status['role']} ({status['reason']}, for {status['since_s']:g} s),"
        f" epoch {status['epoch']}, profile {status['profile']}, version {status['version']}",
        f"{peer['node']} is {peer['role']} ({peer['silence']})"
        f"{', held in maintenance' if peer['held'] else ''}",
        *([f"held in maintenance for {status['held_s']} s more"] if status["held"] else []),
        "the spare would take over now" if status["ready"] else "the spare is NOT ready:",
        *(f"  - {reason}" for reason in status["reasons"]),
        f"replica: {replica['state']}, {replica['entries']} entries, lag {replica['lag_ms']} ms"
        + (f" ({replica['reason']})" if replica["reason"] else ""),
        *replica_tool.lines(status["sync"]),
        f"gate: {'intact' if status['gate']['intact'] else status['gate']['problem']},"
        f" {'open' if status['gate']['open'] else 'closed'}"
        f"{'' if status['gate']['owned'] else ', NOT PROTECTED: the gate service is away'}",
    ]
    for name, link in status["links"].items():
        heard = "never" if link["last_heard_ms"] is None else f"{link['last_heard_ms']} ms ago"
        carrier = "carrier" if link["carrier"] else "NO CARRIER"
        problem = f", {link['problem']}" if link["problem"] else ""
        lines.append(f"  {name:<8} {link['device']:<15} {carrier}, heard {heard}{problem}")
        lines += [f"    {way:<4} {_direction(link[way])}" for way in ("in", "out") if link[way]]
    margin = status["margin"]
    lines.append(f"{'warning' if margin['problems'] else 'margin'}: {margin['advice']}")
    lines += _health_lines(status)
    if status["damped"]:
        lines.append(f"damped: three unplanned changes, dead is {status['timers']['dead_ms']} ms")
    if status["target"]["name"]:
        lines.append(f"{status['target']['name']}: {status['target']['result']}")
    return "\n".join(lines + [f"note: {note}" for note in status["notes"]])


def last_drill(path: Path, wall_s: float) -> dict[str, Any] | None:
    """Return what the last drill on this pair found; None if there was none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            "drill": str(found["drill"]),
            "ok": bool(found["ok"]),
            "age_s": round(wall_s - float(found["time"])),
        }
    return None


def _health_lines(status: dict[str, Any]) -> list[str]:
    health = status["health"]
    hops = [f"{hop} {'answers' if ok else 'SILENT'}" for hop, ok in health["next_hops"].items()]
    clock = "unknown" if health["clock_ms"] is None else f"{health['clock_ms'] / 1000:+.1f} s"
    keys = health["keys"]
    drill = status["drill"]
    said = "none on this node"
    if drill is not None:
        said = f"{drill['drill']} {'passed' if drill['ok'] else 'FAILED'}"
        said += f" {drill['age_s'] / 86_400:.1f} days ago"
    accepted = ", ".join(map(str, keys[status["node"]]))
    trials = [f"{node} ({phase})" for node, phase in health.get("trial", {}).items() if phase]
    return [
        *([f"ruleset on trial: {', '.join(trials)}"] if trials else []),
        *([f"next hops: {', '.join(hops)}"] if hops else []),
        f"peer's clock: {clock}; keys: {accepted}, sends with {keys['send']}",
        f"last drill: {said}",
    ]


def _direction(way: dict[str, Any]) -> str:
    return (
        f"{way['beats']} beats, {way['lost']} lost, {way['near_misses']} near misses,"
        f" jitter {way['jitter_ms']:.1f} ms, longest silence {way['silence_ms']:.1f} ms"
    )


def _reload(options: argparse.Namespace) -> int:
    digests, ring = load_digests(options.digests), load_keys()
    config, ruleset = digests.config.hex(), digests.ruleset.hex()
    request = {"op": "reload", "config": config, "ruleset": ruleset, "send_key": ring.send_id}
    keys = {str(each): base64.b64encode(key).decode() for each, key in ring.keys.items()}
    answer = ask(SOCKET_PATH, request | {"keys": keys}, ANSWER_S)
    if options.json:
        print(json.dumps({"done": answer["ok"], "config": config, "ruleset": ruleset}))
    return 0 if answer["ok"] else 1


def _events(options: argparse.Namespace) -> int:
    answer = ask(SOCKET_PATH, {"op": "events"}, ANSWER_S)
    if options.json:
        print(json.dumps(answer["events"], indent=2))
        return 0
    for event in answer["events"]:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
        print(f"{moment}.{int(event['time'] % 1 * 1000):03d} {event['kind']:<11} {event['text']}")
    return 0


def _check(options: argparse.Namespace) -> int:
    if options.deep:
        return _verdict(*replica_tool.deep(), options)
    if options.path:
        return _verdict(*path_tool.path(), options)
    status = ask(SOCKET_PATH, {"op": "status"}, ANSWER_S)
    peer = status["peer"]
    peer_role = peer["role"] if peer["state"] in ("alive", "silent") else peer["state"]
    active = [status["role"], peer_role].count("active")
    text = f"{status['node']} {status['role']}, {peer['node']} {peer_role}"
    text = "; ".join([text, *status["reasons"]]).replace("|", "/") + performance(status)
    if active != 1 or status["role"] == "fault":
        return _verdict(2, "CRITICAL", text, options)
    if not status["ready"]:
        return _verdict(1, "WARNING", text, options)
    return _verdict(0, "OK", text, options)


def performance(status: dict[str, Any]) -> str:
    """Return the figures of a Nagios plugin: label=value;warning;critical;min;max."""
    replica, margin = status["replica"], status["margin"]
    late_ms = max(each["late_ms"] for each in margin["nodes"].values())
    held_s = status["held_s"] or 0
    figures = (
        f"share={replica['share_permille'] / 10:.1f}%;{SHARE_PERMILLE_MIN / 10}:;;0;100",
        f"lag={replica['lag_ms']}ms;{PROFILES['virtual'].lag_in_sync_ms};;0",
        f"entries={replica['entries']};;;0",
        f"near_misses={margin['near_misses']}c",
        f"late={late_ms:g}ms;;;0",
        f"held={held_s}s;;;0",
        f"epoch={status['epoch']}c",
    )
    return " | " + " ".join(figures)


def _verdict(code: int, word: str, text: str, options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps({"code": code, "state": word, "text": text}))
    else:
        print(f"{word} - {text}")
    return code
