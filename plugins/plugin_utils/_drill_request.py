# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the operator asks of a drill, read and judged before anything is touched.

Pure: the task's arguments and the inventory's words on the vantage hosts come in, a request goes
out, or the sentences that refuse it.
"""

from __future__ import annotations

import ipaddress
import math
import typing as t
from dataclasses import dataclass

from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import (
    BUDGETS,
    BY_NAME,
    DRILLS,
    Drill,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems, shown

UDP_PORT, TCP_PORT = 7000, 7001
KINDS = {
    "udp": "UDP requests and replies at a steady rate",
    "tcp": "long-lived TCP connections that ping-pong",
    "bulk": "one TCP stream",
    "connects": "new TCP connections at a steady rate",
}
RATE = {"udp": 1000.0, "connects": 50.0}
CONNECTIONS = 200
SIDES = ("client", "server")
BUDGET_MAX = 1e9
BOUNDS: dict[str, tuple[float, float]] = {
    "port": (1, 65535),
    "to_port": (1, 65535),
    "connections": (1, 2_000),
}
RATES: dict[str, tuple[float, float]] = {"udp": (1, 20_000), "connects": (1, 1_000)}
"""What the probes bear; the other kinds have no rate."""
FLOW_KEYS = ("name", "kind", "from", "to", "address", "port", "to_port", "rate", "connections")


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic of one kind between two vantage hosts."""

    name: str
    kind: str
    client: str
    server: str
    address: str
    port: int
    to_port: int
    rate: float
    connections: int


@dataclass(frozen=True, slots=True)
class Request:
    """A drill, or several one after the other, as asked for."""

    drills: tuple[Drill, ...]
    left_out: tuple[str, ...]
    """Drills of `all` that need a confirmation of their own, in words."""
    flows: tuple[Flow, ...]
    budget: dict[str, float]
    own_addresses: tuple[str, ...]
    interface: str
    seconds: float | None
    restore: bool
    report: str
    history: str
    python: str


def read(
    arguments: t.Mapping[str, t.Any],
    vantage: t.Mapping[str, t.Mapping[str, t.Any]],
    interfaces: t.Sequence[str],
) -> Request:
    """The request, or ValueError with all sentences."""
    problems = Problems()
    drills, left_out = _drills(arguments, problems)
    budget = _budget(arguments.get("budget") or {}, problems)
    interface = str(arguments.get("interface") or "")
    wants_link = any(drill.name == "link" for drill in drills)
    if interface and interface not in interfaces:
        problems.add("drill_interface", interface, f"one of {', '.join(interfaces)}")
    if wants_link and not interface:
        interface = interfaces[0]
    seconds = arguments.get("seconds")
    if seconds is not None and not 1 <= float(seconds) <= 60:
        problems.add("drill_seconds", seconds, "1 to 60")
    flows = _flows(arguments.get("flows"), vantage, problems)
    if problems:
        raise ValueError(problems.text())
    return Request(
        drills=tuple(drills),
        left_out=tuple(left_out),
        flows=flows,
        budget=budget,
        own_addresses=tuple(arguments.get("own_addresses") or ()),
        interface=interface,
        seconds=float(seconds) if seconds is not None else None,
        restore=bool(arguments.get("restore", True)),
        report=str(arguments.get("report") or ""),
        history=str(arguments.get("history") or ""),
        python=str(arguments.get("python") or "python3"),
    )


def _drills(arguments: t.Mapping[str, t.Any], problems: Problems) -> tuple[list[Drill], list[str]]:
    name = str(arguments.get("drill") or "")
    confirmed = set(arguments.get("confirmed") or ())
    if name == "all":
        chosen = [drill for drill in DRILLS if not drill.confirm or drill.confirm in confirmed]
        left_out = [
            f"{drill.name}: needs {drill.confirm}=true" for drill in DRILLS if drill not in chosen
        ]
        return chosen, left_out
    if name not in BY_NAME:
        problems.add("drill", name or None, f"one of {', '.join([*BY_NAME, 'all'])}")
        return [], []
    drill = BY_NAME[name]
    if drill.confirm and drill.confirm not in confirmed:
        problems.missing(drill.confirm, f"true, because this drill {drill.does}")
    return [drill], []


def _budget(given: t.Mapping[str, t.Any], problems: Problems) -> dict[str, float]:
    found = {}
    for key, value in given.items():
        if key not in BUDGETS:
            problems.add(f"drill_budget.{key}", value, f"one of {', '.join(BUDGETS)}")
            continue
        limit = _number(f"drill_budget.{key}", value, (0, BUDGET_MAX), problems)
        if limit is not None:
            found[key] = limit
    return found


def _number(
    path: str, value: object, bounds: tuple[float, float], problems: Problems
) -> float | None:
    """A number within bounds, both included."""
    low, high = bounds
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if low <= number <= high:
        return number
    problems.add(path, value, f"a number from {low:g} to {high:g}")
    return None


def _flows(
    given: t.Any, vantage: t.Mapping[str, t.Mapping[str, t.Any]], problems: Problems
) -> tuple[Flow, ...]:
    if given is None:
        _check_vantage(vantage, problems)
        return () if problems else tuple(_default_flows(vantage))
    if not isinstance(given, list):
        problems.add("drill_flows", given, "a list of flows")
        return ()
    flows = [_flow(f"drill_flows[{n}]", each, vantage, problems) for n, each in enumerate(given)]
    found = tuple(flow for flow in flows if flow is not None)
    names = [flow.name for flow in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.say(f"drill_flows has the name {shown(name)} twice, expected each name once.")
    return found


def _flow(
    path: str,
    given: t.Any,
    vantage: t.Mapping[str, t.Mapping[str, t.Any]],
    problems: Problems,
) -> Flow | None:
    if not isinstance(given, dict):
        problems.add(path, given, "a dict")
        return None
    before = len(problems.sentences)
    for key in given:
        if key not in FLOW_KEYS:
            problems.add(f"{path}.{key}", given[key], f"one of {', '.join(FLOW_KEYS)}")
    kind = str(given.get("kind", "udp"))
    if kind not in KINDS:
        problems.add(f"{path}.kind", kind, f"one of {', '.join(KINDS)}")
    for key in ("from", "to"):
        if given.get(key) not in vantage:
            hosts = ", ".join(vantage) or "which is empty"
            problems.add(f"{path}.{key}", given.get(key), f"a host of the group vantage: {hosts}")
    address = str(given.get("address", ""))
    if not _is_address(address):
        problems.add(f"{path}.address", address or None, "an IP address")
    to_port = given.get("to_port", UDP_PORT if kind == "udp" else TCP_PORT)
    numbers = {
        key: _number(f"{path}.{key}", given.get(key, default), bounds, problems)
        for key, default, bounds in (
            ("to_port", to_port, BOUNDS["to_port"]),
            ("port", to_port, BOUNDS["port"]),
            ("rate", RATE.get(kind, 0), RATES.get(kind, (0, 0))),
            ("connections", CONNECTIONS, BOUNDS["connections"]),
        )
    }
    if len(problems.sentences) > before:
        return None
    return Flow(
        name=str(given.get("name", f"{kind} {given['from']} to {address}")),
        kind=kind,
        client=str(given["from"]),
        server=str(given["to"]),
        address=address,
        port=int(numbers["port"] or 0),
        to_port=int(numbers["to_port"] or 0),
        rate=numbers["rate"] or 0,
        connections=int(numbers["connections"] or 0),
    )


def _check_vantage(vantage: t.Mapping[str, t.Mapping[str, t.Any]], problems: Problems) -> None:
    """A misspelt word would be a flow that is silently not there."""
    for name, given in vantage.items():
        side = given.get("vantage_side")
        if side not in SIDES:
            problems.add(f"{name}: vantage_side", side, f"one of {', '.join(SIDES)}")
        for address in given.get("vantage_addresses") or ():
            if not _is_address(str(address)):
                problems.add(f"{name}: vantage_addresses", address, "IP addresses")


def _default_flows(vantage: t.Mapping[str, t.Mapping[str, t.Any]]) -> t.Iterator[Flow]:
    """Every client to every address of every server; what is heavy only once for each pair."""
    clients = [name for name, given in vantage.items() if given.get("vantage_side") == "client"]
    servers = {
        name: [str(a) for a in given.get("vantage_addresses") or ()]
        for name, given in vantage.items()
        if given.get("vantage_side") == "server"
    }
    for client in clients:
        for server, addresses in servers.items():
            for number, address in enumerate(addresses):
                kinds = ("udp", "tcp", "bulk", "connects") if number == 0 else ("udp",)
                for kind in kinds:
                    port = UDP_PORT if kind == "udp" else TCP_PORT
                    name = f"{kind} {client} to {address}"
                    yield Flow(
                        name, kind, client, server, address, port, port, RATE.get(kind, 0),
                        CONNECTIONS,
                    )  # fmt: skip


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
