# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's tool, where it tests the way of a packet through this node: `check --path`.

`cli` enters, on a node of any role; the role does not move and no traffic is sent. The kernel is
asked how it would route a packet that came in, by the same look-up that a packet goes through (with
reverse path filter, forwarding and policy rules); heart is asked for the gate, the cables and the
next hops that it keeps asking; the ruleset's tables must be loaded. What the rules would say of a
packet is not asked: only a packet can tell.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amaranten_ha.io.desk import ask
from amaranten_ha.settings import SOCKET_PATH, STATE_PATH, Interface, Settings, load
from amaranten_ha.steering import ANSWER_S

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
RULESET_STATE = STATE_PATH / "ruleset.json"
HOSTS_TRIED_MAX = 64


def path() -> tuple[int, str, str]:
    """Test the way; returns the Nagios code, its word and the text."""
    settings = load()
    status = ask(SOCKET_PATH, {"op": "status"}, ANSWER_S)
    problems = [*of_status(status), *of_tables(wanted_tables(RULESET_STATE), loaded_tables())]
    count = 0
    for start, end, source, destination in ways(settings):
        count += 1
        if problem := route_problem(start, end, source, destination):
            problems.append(problem)
    hops = len(status["health"]["next_hops"])
    text = f"{status['node']} {status['role']}, {count} ways, {hops} next hops"
    if problems:
        return 1, "WARNING", "; ".join([text, *problems])
    return 0, "OK", text


def of_status(status: dict[str, Any]) -> Iterator[str]:
    """What heart knows that would stop a packet on this node if it were active."""
    gate = status["gate"]
    if not gate["intact"]:
        yield f"gate: {gate['problem']}"
    if status["role"] == "fault":
        yield status["reason"]
    for name, link in status["links"].items():
        if not link["carrier"]:
            yield f"{name} has no carrier"
    for hop, answers in status["health"]["next_hops"].items():
        if not answers:
            yield f"next hop {hop} does not answer"


def of_tables(wanted: list[str], loaded: list[str]) -> Iterator[str]:
    """Tables of the deployed ruleset that the kernel does not have."""
    return (f"table {table} is not loaded" for table in wanted if table not in loaded)


def wanted_tables(state: Path) -> list[str]:
    """Return the tables that the last deployment loaded; none if nothing is known of it."""
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        return [str(table) for table in found["tables"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def loaded_tables() -> list[str]:
    """Return the kernel's tables, as "family name"."""
    said = _output(["nft", "list", "tables"])
    return [line.removeprefix("table ").strip() for line in said.splitlines()]


def ways(settings: Settings) -> Iterator[tuple[Interface, Interface, IPAddress, IPAddress]]:
    """Each way from one service interface to another, with a host of either network."""
    service = [each for each in settings.interfaces if each.role == "service"]
    taken = {
        address.ip for each in service for address in (*each.own, *each.peer_own, *each.shared)
    } | set(settings.gateways)
    for start, end in itertools.permutations(service, 2):
        for version in (4, 6):
            source, destination = (_host(each, version, taken) for each in (start, end))
            if source and destination:
                yield start, end, source, destination


def _host(interface: Interface, version: int, taken: set[IPAddress]) -> IPAddress | None:
    for address in (*interface.own, *interface.shared):
        network = address.network
        if network.version == version and not network.is_link_local:
            for index in range(1, min(network.num_addresses - 1, HOSTS_TRIED_MAX)):
                host = network.network_address + index
                if host not in taken:
                    return host
    return None


def route_problem(
    start: Interface, end: Interface, source: IPAddress, destination: IPAddress
) -> str:
    """Why the kernel would not send a packet of this way on; empty if it would."""
    family = f"-{source.version}"
    words = ["ip", family, "-j", "route", "get", str(destination), "from", str(source)]
    way = f"{source} on {start.name} to {destination} on {end.name}"
    try:
        found = json.loads(_output([*words, "iif", start.device]) or "[]")
    except ValueError:
        found = []
    if not found or "dev" not in found[0]:
        return f"the kernel has no way from {way}"
    if found[0]["dev"] != end.device:
        return f"the kernel's way from {way} leads to {found[0]['dev']}"
    return ""


def _output(words: list[str]) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
