# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of a deployed pair have in common: asking both nodes, waiting, probing.

Tests enter with the lab on which ``playbooks/site.yml`` was run. Nothing here repairs a pair: a
test that leaves it broken fails the next one, and should.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab, LabError
from tests.lab.plan import NODES
from tests.probes import driver

TOOL = "/usr/sbin/amaranten-ha"
SERVER = "198.51.100.100"
HEART = "amaranten-ha-heart.service"
GATE = "amaranten-ha-gate.service"
SYNC = "amaranten-ha-sync.service"


def until(what: str, holds: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until something holds; fail in words if it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def kill(process: int) -> None:
    """End a process without warning, and all that descend from it: it first, they without it."""
    for pid in _tree(process):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _tree(process: int) -> list[int]:
    found = [process]
    # Each thread has children of its own; what ended meanwhile has none.
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += _tree(int(child))
    return found


def status(lab: Lab, node: str) -> dict[str, Any]:
    """A node's own status; empty if it is off or its heart does not answer."""
    try:
        done = lab.node(node).run([TOOL, "status", "--json"])
    except LabError:
        return {}
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def roles(lab: Lab) -> dict[str, str]:
    """The role of each node, in its own words."""
    return {node: status(lab, node).get("role", "off") for node in NODES}


def active(lab: Lab) -> str:
    """The one active node, or an empty string."""
    found = [node for node, role in roles(lab).items() if role == "active"]
    return found[0] if len(found) == 1 else ""


def other(node: str) -> str:
    """The node beside this one."""
    return next(each for each in NODES if each != node)


def ready(lab: Lab, seconds: float = 40) -> str:
    """Wait until one is active, the other passive, and both call the spare ready; the active."""

    def holds() -> bool:
        found = [status(lab, node) for node in NODES]
        words = sorted(each.get("role", "off") for each in found)
        return words == ["active", "passive"] and all(each.get("ready") for each in found)

    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            states = {node: status(lab, node) for node in NODES}
            raise AssertionError(f"the pair is not ready after {seconds:g} s: {states}")
        time.sleep(0.2)
    return active(lab)


def epoch(lab: Lab) -> int:
    """The epoch of the pair; it moves with every claim."""
    return max(int(status(lab, node).get("epoch", 0)) for node in NODES)


def events(lab: Lab, node: str, kind: str) -> list[str]:
    """What a node told of one kind, oldest first."""
    done = lab.node(node).run([TOOL, "events", "--json"])
    return [each["text"] for each in json.loads(done.stdout) if each["kind"] == kind]


def addressing(lab: Lab, node: str) -> list[str]:
    """The addresses and routes of a node, as it made them itself or had them given."""
    found = []
    for family in ("-4", "-6"):
        for what in (["address", "show", "scope", "global"], ["route", "show"]):
            lines = lab.node(node).run(["ip", family, "-oneline", *what]).stdout.splitlines()
            found += [f"{family} " + " ".join(line.split(": ", 1)[-1].split()) for line in lines]
    return sorted(found)


@dataclass
class Traffic:
    """What went through the pair while something happened to it."""

    udp: dict[str, Any]
    tcp: dict[str, Any]


class Probing:
    """Probes that are at work; ``result`` is there when the block has ended."""

    result: Traffic


@contextmanager
def traffic(lab: Lab, connections: int = 100) -> Iterator[Probing]:
    """Run a 1 kHz request/reply flow and ping-pong connections through the NAT."""
    probing = Probing()
    with ExitStack() as stack:
        stack.enter_context(driver.echo(lab.host("server")))
        client = lab.host("client")
        # A thousand round trips a second at most: it is their number that counts, not their load.
        pause_ms = max(200, connections)
        tcp = stack.enter_context(
            driver.tcp(client, SERVER, connections=connections, every_ms=pause_ms)
        )
        udp = stack.enter_context(driver.udp(client, SERVER))
        # A connection that is younger than the replica's lag is not what is tested here.
        time.sleep(1)
        yield probing
        probing.result = Traffic(udp.finish(), tcp.finish())
