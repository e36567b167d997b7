# SPDX-License-Identifier: GPL-3.0-or-later
"""A passive that knows nothing catches up with a table larger than the lab's kernel may hold.

``nf_conntrack_max`` is one value for all namespaces of a machine, so it can be raised in an
emulated machine only. Real services on both nodes; the entries are made by hand in the active's
kernel, translated as its ruleset would, and a planned switchover follows.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET
from typing import Any

from amaranten_ha.io.netlink import CREATE_EXCLUSIVE, CT_NEW, Request, Table

from ..guest import ctnetlink as ct
from ..guest.net import Net, until
from ..guest.pair import LAN_HOST, WAN_HOST, WAN_SHARED, Node, Pair, Service

PORTS, FIRST_PORT, FIRST_TARGET = 62_000, 1_024, 20_000
TIMEOUT_S = 24 * 3600
LATE_S = 1_800.0
_PORT, _TARGET = 0xFACE, 0xFADE
"""What stands in the one entry that all others are made of; no port of theirs."""


def check_twenty_thousand() -> str:
    return _caught_up(20_000)


def check_two_hundred_thousand() -> str:
    return _caught_up(200_000)


def check_half_a_million() -> str:
    return _caught_up(500_000)


def _caught_up(count: int) -> str:
    machine = Net.of_process(1)
    machine.set("net/netfilter/nf_conntrack_buckets", 1 << 18)
    machine.set("net/netfilter/nf_conntrack_max", count + 100_000)
    pair = Pair()
    active, passive = pair.nodes["a"], pair.nodes["b"]
    syncs = {active: pair.start("a")["sync"]}
    until("a is active, alone", lambda: active.role() == "active", LATE_S)
    _say(f"{count} entries: a is active")
    began = time.monotonic()
    _fill(active, count)
    _say("the kernel has them")
    until("a has heard of all", lambda: _known(active) >= count, LATE_S)
    filled_s = time.monotonic() - began

    _say("sync knows them")
    Service(passive, "gate").ready()
    pair.start_heart("b")
    until("b is passive", lambda: passive.role() == "passive", LATE_S)
    _say("b is passive")
    used_before = _processor_s(syncs[active])
    began = time.monotonic()
    syncs[passive] = Service(passive, "sync").ready()
    until("b has caught up", lambda: _same(passive, count), LATE_S)
    seconds = time.monotonic() - began
    _say("b has caught up")
    held = int(passive.net.get("net/netfilter/nf_conntrack_count"))
    assert held >= count, f"b's kernel holds {held} of {count}"
    assert active.role() == "active", "a lost its role meanwhile"
    figures = {
        "entries": count,
        "filled_s": round(filled_s, 1),
        "seconds": round(seconds, 1),
        "held": held,
        "cpu_active_s": round(_processor_s(syncs[active]) - used_before, 1),
        "cpu_passive_s": round(_processor_s(syncs[passive]), 1),
        "memory_mib": [_memory_mib(syncs[node]) for node in (active, passive)],
    }
    began = time.monotonic()
    until("the switchover", lambda: _switched(active), LATE_S)
    until("b is active", lambda: passive.role() == "active", LATE_S)
    return json.dumps(figures | {"switchover_s": round(time.monotonic() - began, 1)})


def _switched(active: Node) -> bool:
    done = active.call("operator", "switchover")
    _say(f"switchover: {done.text.strip()}")
    return done.code == 0


def _say(text: str) -> None:
    """Progress, to the guest's console: what a check prints is told at its end."""
    with open("/dev/console", "w") as console:
        console.write(f"{time.monotonic():.0f} s: {text}\n")


def _entries(count: int) -> Iterator[bytes]:
    """As many entries of UDP flows through the source NAT."""
    said = ct.Tuple(LAN_HOST, WAN_HOST, ct.UDP, (_PORT, _TARGET))
    model = ct.entry(said, None, ct.nat(ct.NAT_SRC, WAN_SHARED, _PORT), timeout_s=TIMEOUT_S)
    port, target = _PORT.to_bytes(2, "big"), _TARGET.to_bytes(2, "big")
    for number in range(count):
        here = (FIRST_PORT + number % PORTS).to_bytes(2, "big")
        there = (FIRST_TARGET + number // PORTS).to_bytes(2, "big")
        yield model.replace(port, here).replace(target, there)


def _fill(node: Node, count: int) -> None:
    with node.net:
        table = Table()
    made = [Request(CT_NEW, CREATE_EXCLUSIVE, AF_INET, each) for each in _entries(count)]
    refused = table.change(made)
    assert not refused, f"{len(refused)} entries were refused: {set(refused.values())}"
    table.close()


def _replica(node: Node) -> dict[str, Any]:
    """What a node says of its replica; not asked too often, an emulated machine has little time."""
    time.sleep(0.5)
    said: dict[str, Any] = node.status().get("replica", {"entries": 0, "state": ""})
    _say(str(said))
    return said


def _known(node: Node) -> int:
    return int(_replica(node)["entries"])


def _same(node: Node, count: int) -> bool:
    replica = _replica(node)
    synced = replica.get("state") == "synced" and replica.get("share_permille") == 1000
    return synced and int(replica["entries"]) >= count


def _processor_s(service: Service) -> float:
    fields = Path(f"/proc/{service.process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(service: Service) -> int:
    """The memory that is the service's own; it is forked from this process and shares its code."""
    lines = Path(f"/proc/{service.process}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Private_Dirty"))) // 1024
