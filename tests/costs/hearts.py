# SPDX-License-Identifier: GPL-3.0-or-later
"""What heart costs and how soon it speaks: processor and memory by profile, a flood, the start."""

from __future__ import annotations

import os
import select
import socket
import statistics
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import heart_pair
from gate_bench import Wire
from gate_frames import Beat, mac
from heart_pair import Node, Pair, running_pair

from amaranten_ha.core.timing import PROFILES
from tests.costs.sender import Sender

FLOOD_S = 5.0
_SO_TIMESTAMPNS = 35
_OUTGOING = 4


def _cpu_ns(node: Node) -> int:
    path = Path(f"/proc/{node.services['heart'].pid}/schedstat")
    return int(path.read_text().split()[0])


def _memory_kib(node: Node, field: str) -> int:
    text = Path(f"/proc/{node.services['heart'].pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(field)))


def _percent(pair: Pair, seconds: float) -> list[float]:
    before, began = [_cpu_ns(node) for node in pair.nodes], time.monotonic_ns()
    time.sleep(seconds)
    elapsed = time.monotonic_ns() - began
    return [
        round(100 * (_cpu_ns(node) - was) / elapsed, 2)
        for node, was in zip(pair.nodes, before, strict=True)
    ]


def profiles(rounds: int, seconds: float = 5.0) -> dict[str, Any]:
    """Percent of a processor, active and passive, with four interfaces; memory in KiB."""
    heart_pair.LINKS = ("dmz", "lan", "sync", "wan")
    found: dict[str, Any] = {name: {"active": [], "passive": []} for name in PROFILES}
    try:
        for _round in range(rounds):
            for name, row in found.items():
                with tempfile.TemporaryDirectory() as folder, running_pair(Path(folder), name) as p:
                    active = p.a if p.a.role == "active" else p.b
                    percent = dict(zip((p.a, p.b), _percent(p, seconds), strict=True))
                    for node, value in percent.items():
                        row["active" if node is active else "passive"].append(value)
                    row["resident_kib"] = _memory_kib(active, "VmRSS")
                    row["locked_kib"] = _memory_kib(active, "VmLck")
    finally:
        heart_pair.LINKS = ("lan", "sync")
    return found


def flood() -> dict[str, Any]:
    """Forged frames on lan, towards the active node: does it stay, what does it cost?"""
    forged = Beat(node=2).payload() + bytes(150) + b"\1" + bytes(16)
    with tempfile.TemporaryDirectory() as folder, running_pair(Path(folder)) as pair:
        active, passive = pair.active, pair.passive
        frame = mac("03416d484101") + bytes.fromhex("020000000099") + b"\x88\xb5" + forged
        quiet = dict(zip((pair.a, pair.b), _percent(pair, FLOOD_S), strict=True))
        before = {node: node.status() for node in pair.nodes}
        sender = Sender(passive.namespace, "lan0", frame)
        used, began = _cpu_ns(active), time.monotonic()
        sent = sender.send_for(FLOOD_S)
        elapsed = time.monotonic() - began
        used = _cpu_ns(active) - used
        sender.close()
        time.sleep(0.5)
        after = {node: node.status() for node in pair.nodes}
        return {
            "frames_per_s": round(sent / elapsed),
            "heart_percent": round(used / elapsed / 1e7, 2),
            "heart_percent_quiet": quiet[active],
            "roles_moved": [after[node]["role"] != before[node]["role"] for node in pair.nodes],
            "rejected": after[active]["rejected"],
            "dropped_by_kernel": after[active]["links"]["lan"]["dropped"],
            "links": {
                f"{name} {way}": after[active]["links"][name][way]
                for name in ("lan", "sync")
                for way in ("in", "out")
            },
            "late_ms": after[active]["margin"]["nodes"][active.name]["late_ms"],
        }


def starts(count: int) -> dict[str, Any]:
    """Milliseconds from the exec of heart to its first beat on the wire."""
    found = []
    with tempfile.TemporaryDirectory() as folder, running_pair(Path(folder)) as pair:
        node = pair.passive
        other = pair.a if node is pair.b else pair.b
        wire = Wire(other.namespace, "lan0", kind=0x88B5)
        wire._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        for _start in range(count):
            node.services["heart"].kill()
            node.services["heart"].wait()
            node.stage()
            wire.drain()
            node.start("heart")
            first_ns = _first(wire)
            began_ns = int((node.folder / "heart.began").read_text())
            found.append(round((first_ns - began_ns) / 1e6, 1))
        wire.close()
    found.sort()
    return {
        "n": count,
        "median_ms": statistics.median(found),
        "p95_ms": found[int(0.95 * count)],
        "max_ms": found[-1],
        "load": os.getloadavg()[0],
    }


def _first(wire: Wire) -> int:
    while select.select([wire._socket], [], [], 10)[0]:
        _data, ancillary, _flags, address = wire._socket.recvmsg(2048, 64)
        if address[2] != _OUTGOING:
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    raise AssertionError("no heartbeat within 10 s of the start")
