# SPDX-License-Identifier: GPL-3.0-or-later
"""The measurements of replication: each starts a contender on clean nodes and loads the active one.

``MEASUREMENTS`` is the list. Each function is one cell from its beginning to its end and returns
plain JSON. Processor time is that of all processes of the replication, from before the load until
the table is empty again, so that what is put off is paid all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.steps import SERVER
from tests.lab import Lab
from tests.lab.host import Host
from tests.lab.plan import NODES
from tests.probes import driver

from . import load
from .contenders import BenchError, Contender, Ours, clean, must, owners
from .holdings import compared, dropped_events, sync_bytes
from .rival import Rival
from .usage import Bill, resident_kib

EVENTS = Path(__file__).resolve().with_name("events.py")
RATE = 5000
STEADY_CONNECTIONS = 100_000
BURST_CONNECTIONS = 200_000
GROWTH_CONNECTIONS = 600_000
GROWTH_PARTS = 3
SHORT_S = 2
IDLE_S = 3.0
EMPTY = 300
EMPTY_S = 60.0
BULK_S = 60.0
Values = dict[str, Any]


def pair(lab: Lab, contender: Contender) -> tuple[str, str]:
    """Start a contender on clean nodes; the active and the passive node."""
    clean(lab)
    active = contender.start(lab)
    time.sleep(1)
    return active, next(name for name in NODES if name != active)


def entries(lab: Lab, node: str) -> int:
    """The size of a node's table."""
    return int(must(lab.node(node), "conntrack", "-C").split()[-1])


def wait_empty(lab: Lab, active: str) -> float:
    """Wait until what the load left has expired; a walk evicts what the kernel has yet to."""
    began = time.monotonic()
    while entries(lab, active) > EMPTY and time.monotonic() - began < EMPTY_S:
        must(lab.node(active), "sh", "-c", "conntrack -L >/dev/null 2>&1", timeout_s=120)
        time.sleep(1)
    return round(time.monotonic() - began, 1)


def saved_bytes(lab: Lab, contender: Contender) -> int:
    """What compression has kept off the wire; nobody else compresses."""
    return contender.saved_bytes(lab) if isinstance(contender, Ours) else 0


def lateness_ms(lab: Lab, contender: Contender) -> float | None:
    """How late the process that decides about the role was; nobody else measures it."""
    return contender.lateness_ms(lab) if isinstance(contender, Ours) else None


def cost(kind: str) -> Callable[[Lab, Contender], Values]:
    """Processor time and bytes of a connection's whole life at a steady rate."""

    def measure(lab: Lab, contender: Contender) -> Values:
        active, passive = pair(lab, contender)
        with load.lifetimes(lab, SHORT_S):
            before = sync_bytes(lab, active)
            time.sleep(IDLE_S)
            idle = (sync_bytes(lab, active) - before) / IDLE_S
            bills = {name: Bill(contender.replicators(lab, name)) for name in NODES}
            before, began = sync_bytes(lab, active), time.monotonic()
            saved = saved_bytes(lab, contender)
            sent = load.finish(load.start(lab, kind, STEADY_CONNECTIONS, rate=RATE))
            empty_s = wait_empty(lab, active)
            time.sleep(2)
            lasted = time.monotonic() - began
            wire = sync_bytes(lab, active) - before - idle * lasted
            saved = saved_bytes(lab, contender) - saved
        count = sent["connections"]
        return {
            "rate": round(count / sent["seconds"]),
            "cpu_active_us": round(bills[active].total_ns() / count / 1000, 2),
            "cpu_passive_us": round(bills[passive].total_ns() / count / 1000, 2),
            "wire_bytes": round(wire / count, 1),
            "wire_bytes_uncompressed": round((wire + saved) / count, 1),
            "empty_s": empty_s,
            "dropped_events": dropped_events(contender.replicators(lab, active)),
        }

    return measure


def lag(lab: Lab, contender: Contender) -> Values:
    """How much later an entry is in the passive kernel than in the active one, at a steady rate."""
    active, passive = pair(lab, contender)
    with ExitStack() as stack:
        stack.enter_context(load.lifetimes(lab, SHORT_S))
        ears = {}
        for name in NODES:
            inside = Host(lab.plan, name)  # a node's network, this machine's programs
            ear = stack.enter_context(driver.Probe(inside, str(EVENTS)))
            ear.wait_ready()
            ears[name] = ear
        load.finish(load.start(lab, "udp", STEADY_CONNECTIONS // 2, rate=RATE))
        time.sleep(1)
        heard = {name: ear.finish() for name, ear in ears.items()}
    if isinstance(contender, Rival) and contender.mode == "cached":
        return {"sampled": 0}  # its copy is in its own memory; the kernel has it at take-over
    first, second = heard[active]["seen"], heard[passive]["seen"]
    late = sorted(second[key] - at_ns for key, at_ns in first.items() if key in second)
    if not late:
        raise BenchError(f"{contender.name}: no entry of the load reached the passive kernel")
    return {
        "sampled": len(late),
        "never": len(first) - len(late),
        "lag_p50_ms": round(late[len(late) // 2] / 1e6, 2),
        "lag_p99_ms": round(late[len(late) * 99 // 100] / 1e6, 2),
    }


def burst(kind: str) -> Callable[[Lab, Contender], Values]:
    """Connections as fast as the box makes them; both tables compared 1 s after the last one."""

    def measure(lab: Lab, contender: Contender) -> Values:
        active, passive = pair(lab, contender)
        with load.lifetimes(lab, load.LONG_S):
            sent = load.finish(load.start(lab, kind, BURST_CONNECTIONS))
            time.sleep(1)
            found = compared(lab, contender, active, passive)
            gone = {"stale_after_deletion": -1}
            if kind == "udp":
                words = ["conntrack", "-D", "-p", "udp", "--orig-port-dst", "20000"]
                lab.node(active).run(words, timeout_s=120)
                time.sleep(1)
                after = compared(lab, contender, active, passive)
                gone = {"stale_after_deletion": after["stale"]}
        return {
            "rate": round(found["entries"] / sent["seconds"]),
            "dropped_active": dropped_events(contender.replicators(lab, active)),
            "dropped_passive": dropped_events(contender.replicators(lab, passive)),
            **found,
            **gone,
        }

    return measure


def bulk(count: int) -> Callable[[Lab, Contender], Values]:
    """A passive that knows nothing catches up with a full table; then a switch in the middle."""

    def measure(lab: Lab, contender: Contender) -> Values:
        most = int(must(lab.node(NODES[0]), "sysctl", "-n", "net.netfilter.nf_conntrack_max"))
        if count > most * 0.98:
            return {"impossible": f"this machine's nf_conntrack_max is {most}"}
        active, passive = pair(lab, contender)
        node = lab.node(passive)
        empty = {name: resident_kib(contender.replicators(lab, name)) for name in NODES}
        with load.lifetimes(lab, load.LONG_S):
            forget(lab, contender, passive)
            load.fill(lab, count)
            time.sleep(2)
            late_before_ms = lateness_ms(lab, contender)
            billed = Bill(contender.replicators(lab, active))
            began = time.monotonic()
            learn(lab, contender, passive)
            seconds = caught_up(lab, contender, passive, count, began)
            replicators = contender.replicators(lab, passive)
            passive_ns = Bill(replicators, from_birth=True).total_ns()
            active_ns = billed.total_ns()
            full = {name: resident_kib(contender.replicators(lab, name)) for name in NODES}
            copied = contender.copied(lab, passive)
            late_ms = lateness_ms(lab, contender)
            forget(lab, contender, passive)
            learn(lab, contender, passive)
            time.sleep(0.3)
            switched = switch_now(lab, contender, active)
        per = count / 100_000
        return {
            "seconds": seconds,
            "copied": copied,
            "role_late_before_ms": late_before_ms,
            "role_late_ms": late_ms,
            "cpu_active_s": round(active_ns / 1e9, 2),
            "cpu_passive_s": round(passive_ns / 1e9, 2),
            "memory_active_mib": round((full[active] - empty[active]) / 1024 / per, 1),
            "memory_passive_mib": round((full[node.name] - empty[passive]) / 1024 / per, 1),
            **switched,
        }

    return measure


def forget(lab: Lab, contender: Contender, passive: str) -> None:
    """Stop replication on the passive node, and empty its table."""
    must(lab.node(passive), "systemctl", "stop", *contender.replication_units)
    must(lab.node(passive), "conntrack", "-F")


def learn(lab: Lab, contender: Contender, passive: str) -> None:
    """Start it again, and have it ask for everything."""
    must(lab.node(passive), "systemctl", "start", *contender.replication_units)
    if isinstance(contender, Rival):
        must(lab.node(passive), "conntrackd", "-n")


def caught_up(
    lab: Lab, contender: Contender, passive: str, count: int, began: float
) -> float | None:
    """The seconds until the passive node has all but one in a thousand; nothing if it never had."""
    while contender.copied(lab, passive) < count * 0.999:
        if time.monotonic() - began > BULK_S:
            return None
        time.sleep(0.05)
    return round(time.monotonic() - began, 2)


def switch_now(lab: Lab, contender: Contender, active: str) -> Values:
    """Ask for a switchover until it happens; how long that took, and what it cost a flow."""
    with driver.echo(lab.host("server")), driver.udp(lab.host("client"), SERVER) as flow:
        began, refused, reason = time.monotonic(), 0, ""
        while time.monotonic() - began < BULK_S:
            try:
                contender.switchover(lab, active)
                break
            except BenchError as problem:
                refused, reason = refused + 1, str(problem)[-200:]
                time.sleep(0.1)
        while active in owners(lab) and time.monotonic() - began < BULK_S:
            time.sleep(0.005)
        seconds = time.monotonic() - began
        time.sleep(1)
        seen = flow.finish()
    return {
        "switch_s": round(seconds, 2),
        "switch_done": active not in owners(lab),
        "switch_refused": refused,
        "switch_last_refusal": reason,
        "switch_lost": seen["packets_lost"],
        "switch_silence_ms": seen["silence_ms"],
    }


def growth(lab: Lab, contender: Contender) -> Values:
    """Memory before and after more than a million events."""
    active, passive = pair(lab, contender)
    sizes = []
    with load.lifetimes(lab, SHORT_S):
        for _part in range(GROWTH_PARTS):
            load.finish(load.start(lab, "tcp", GROWTH_CONNECTIONS // GROWTH_PARTS, rate=10_000))
            wait_empty(lab, active)
            time.sleep(2)
            sizes.append([resident_kib(contender.replicators(lab, x)) for x in (active, passive)])
    return {
        "connections": GROWTH_CONNECTIONS,
        "active_after_first_mib": round(sizes[0][0] / 1024, 1),
        "grown_active_mib": round((sizes[-1][0] - sizes[0][0]) / 1024, 1),
        "passive_after_first_mib": round(sizes[0][1] / 1024, 1),
        "grown_passive_mib": round((sizes[-1][1] - sizes[0][1]) / 1024, 1),
    }


@dataclass(frozen=True)
class Measurement:
    """One kind of cell."""

    name: str
    measure: Callable[[Lab, Contender], Values]
    repetitions: int = 5


MEASUREMENTS = (
    Measurement("cost-udp", cost("udp")),
    Measurement("cost-tcp", cost("tcp")),
    Measurement("cost-tcp-1s", cost("lasting")),
    Measurement("lag", lag),
    Measurement("burst-udp", burst("udp")),
    Measurement("burst-tcp", burst("open")),
    Measurement("bulk-200k", bulk(200_000)),
    Measurement("bulk-500k", bulk(500_000)),
    Measurement("growth", growth, repetitions=1),
)
BY_NAME = {each.name: each for each in MEASUREMENTS}
