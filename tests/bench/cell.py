# SPDX-License-Identifier: GPL-3.0-or-later
"""One failover cell: a contender is started, given traffic, hurt once, healed, and measured.

``measure`` is the whole program of a cell, read from top to bottom. What it returns is plain JSON;
the fault's window begins just before the fault and ends when it is undone, the return's window is
the rest. Nothing is repeated here: a cell that cannot be measured raises, and its caller says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.lab import Lab, Watch
from tests.lab.plan import NODES, wire_of
from tests.lab.watch import Frame

from . import load
from .contenders import BenchError, Contender, clean, owners
from .faults import Fault, join
from .flows import PATH, STATEFUL, Flows, send_gap_ms, wait_for_answers
from .owners import Owners, owned_by_two_ms, taken
from .usage import Bill
from .wire import at_once, lasted_ms

STEADY_S = 2.0
COPIED_S = 15.0
BEFORE_NS = 50_000_000
Values = dict[str, Any]


def measure(lab: Lab, contender: Contender, fault: Fault, folder: Path) -> Values:
    """Measure one cell; the ground is clean before, and may be anything afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    found: Values = {"load_before": round(os.getloadavg()[0], 2)}
    clean(lab)
    active = contender.start(lab)
    with ExitStack() as stack:
        if fault.entries:
            stack.enter_context(load.long_lived(lab))
        record = stack.enter_context(Owners(lab))
        flows = stack.enter_context(Flows(lab, active, fault.connections, folder))
        if fault.entries:
            load.fill(lab, fault.entries)
        passive = next(name for name in NODES if name != active)
        wanted = fault.connections + fault.entries
        found["copied"] = wait_copied(lab, contender, passive, wanted)
        found |= steady(lab, contender)
        active, unprovoked = whoever_is(lab, contender, record, active)
        if fault.pins:
            flows.pin(wire_of(active, "dmz").mac)
            time.sleep(0.3)
        with lab.watch() as watch:
            times = hurt(lab, contender, fault, active, record, flows)
        flows.finish()
    found |= {"active": active, "unprovoked": unprovoked}
    return found | judged(flows, record, watch, times, active)


def wait_copied(lab: Lab, contender: Contender, passive: str, wanted: int) -> int:
    """Wait until the passive node holds copies of all there is; how many it holds."""
    deadline = time.monotonic() + COPIED_S
    while (copied := contender.copied(lab, passive)) < wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return copied


def steady(lab: Lab, contender: Contender) -> Values:
    """A while without a fault: what the contender costs when nothing happens."""
    bills = {
        f"cpu_{what}_{name}": Bill(ask(lab, name))
        for name in NODES
        for what, ask in (("agent", contender.agents), ("replication", contender.replicators))
    }
    began_ns = time.monotonic_ns()
    time.sleep(STEADY_S)
    lasted_ns = time.monotonic_ns() - began_ns
    return {
        "cpu_percent": {
            name: round(100 * bill.total_ns() / lasted_ns, 2) for name, bill in bills.items()
        }
    }


def whoever_is(lab: Lab, contender: Contender, record: Owners, active: str) -> tuple[str, int]:
    """The active node at the last moment before the fault, and the switches until now.

    One that just changes hands for no reason is given a moment to make up its mind.
    """
    deadline = time.monotonic() + 10
    while len(owners(lab)) != 1:
        if time.monotonic() > deadline:
            raise BenchError(f"{contender.name}: {owners(lab) or 'nobody'} before the fault")
        time.sleep(0.1)
    unprovoked = taken(list(record.changes), 0, time.monotonic_ns()) - 1
    return next(iter(owners(lab))), max(unprovoked, 0)


def hurt(
    lab: Lab, contender: Contender, fault: Fault, active: str, record: Owners, flows: Flows
) -> tuple[int, int, int, bool]:
    """Inject, wait, undo, wait; the three moments, and whether all was answered in between."""
    fault_ns = time.monotonic_ns()
    if fault.cuts_power:
        record.lost_power(active, fault_ns)
    fault.inject(lab, contender, active)
    try:
        answered = wait_for_answers(flows, fault.least_s, fault.most_s)
    finally:
        undo_ns = time.monotonic_ns()
        fault.undo(lab, contender, active)
    if fault.cuts_power:
        record.follow(active)
    time.sleep(fault.after_s)
    return fault_ns, undo_ns, time.monotonic_ns(), answered


def judged(
    flows: Flows,
    record: Owners,
    watch: Watch,
    times: tuple[int, int, int, bool],
    active: str,
) -> Values:
    """The figures of a cell."""
    fault_ns, undo_ns, end_ns, answered = times
    then = flows.judged(fault_ns - BEFORE_NS, undo_ns)
    back = flows.judged(undo_ns, end_ns)
    calm = flows.judged(fault_ns - int(STEADY_S * 1e9), fault_ns - BEFORE_NS)
    changes = record.changes
    both = forwarded_by_both(watch.delivered(), active, undo_ns)
    return {
        "path_ms": max(then[name]["silence_ms"] for name in PATH),
        "existing_ms": then[STATEFUL]["silence_ms"],
        "lost": sum(each["lost"] for each in then.values()),
        "flows": then,
        "answered_again": answered,
        "return_path_ms": max(back[name]["silence_ms"] for name in PATH),
        "return_existing_ms": back[STATEFUL]["silence_ms"],
        "return_lost": sum(each["lost"] for each in back.values()),
        "return_stall_ms": max(send_gap_ms(rows, undo_ns, end_ns) for rows in flows.rows.values()),
        "stall_ms": max(
            send_gap_ms(rows, fault_ns - BEFORE_NS, undo_ns) for rows in flows.rows.values()
        ),
        "calm_ms": max(each["silence_ms"] for each in calm.values()),
        "connections": flows.tcp["connections"],
        "survived": flows.tcp["connections_survived"],
        "tcp_longest_ms": flows.tcp["longest_ms"],
        "took_over": taken(changes, fault_ns, undo_ns),
        "switches_after": taken(changes, undo_ns, end_ns),
        "owned_by_two_ms": owned_by_two_ms(changes, fault_ns, end_ns),
        **both,
    }


def forwarded_by_both(frames: list[Frame], active: str, undo_ns: int) -> dict[str, float]:
    """What the deposed node delivered while the new one did, too; on the wire."""
    times = at_once(frames, active)
    late = [at_ns for at_ns in times if at_ns >= undo_ns]
    return {
        "both_packets": len(times),
        "both_ms": lasted_ms(times),
        "both_packets_after_undo": len(late),
        "both_after_undo_ms": round((max(late) - undo_ns) / 1e6, 1) if late else 0.0,
    }


@contextmanager
def healed(lab: Lab) -> Iterator[None]:
    """Whatever a cell did to the wires and the nodes is undone, however it ends."""
    try:
        yield
    finally:
        if lab.plan.namespace_path("switch").exists():
            join(lab, None, "")  # type: ignore[arg-type]
        for name in NODES:
            freezer = lab.node(name).cgroup / "cgroup.freeze"
            if freezer.exists():
                freezer.write_text("0")
