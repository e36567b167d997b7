# SPDX-License-Identifier: GPL-3.0-or-later
"""The traffic of a failover cell, and what became of it.

Four flows of 1 kHz: through the NAT, through a port forward, over IPv6, and one whose packets pass
only while its connection exists. The first three tell when the path is back; the last one when an
existing connection is. Long-lived TCP connections go through the NAT beside them. A fifth flow, if
asked for, comes from a host that goes on sending to the node that was active, whoever is now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.demo.report import lost_between
from tests.integration.steps import SERVER
from tests.lab import Lab
from tests.lab.plan import address, shared_addresses
from tests.probes import driver

from .contenders import must
from .ground import FORWARD_PORT, OPEN_SET, STATEFUL_PORT

Row = list[int | None]
PATH = ("nat", "forward", "ipv6")
STATEFUL = "stateful"
PINNED_GATEWAY = shared_addresses("dmz")[1].partition("/")[0]
TALK_EVERY_MS = 200
TALK_PER_S_MAX = 2500


class Flows:
    """Probes that are at work; ``finish`` ends them and keeps what they found."""

    def __init__(self, lab: Lab, active: str, connections: int, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.connections = connections
        self.stack = ExitStack()
        self.udp: dict[str, driver.Probe] = {}
        self.rows: dict[str, list[Row]] = {}
        self.tcp: dict[str, Any] = {}
        self._active = active

    def __enter__(self) -> Flows:
        with self.stack:
            client, server = self.lab.host("client"), self.lab.host("server")
            dmz = self.lab.host("dmzhost")
            self._enter(driver.echo(server))
            self._enter(driver.echo(server, udp_port=STATEFUL_PORT, tcp_port=0))
            self._enter(driver.echo(dmz))
            every_ms = max(TALK_EVERY_MS, self.connections * 1000 // TALK_PER_S_MAX)
            self.talk = self._enter(
                driver.tcp(client, SERVER, connections=self.connections, every_ms=every_ms)
            )
            server6 = address("server", "wan", 6).partition("/")[0]
            outside = shared_addresses("wan")[0].partition("/")[0]
            self._flow("nat", client, SERVER)
            self._flow("forward", server, outside, FORWARD_PORT)
            self._flow("ipv6", client, server6)
            words = f"add element inet edge {OPEN_SET} {{ {STATEFUL_PORT} timeout 2s }}"
            must(self.lab.node(self._active), "nft", *words.split())
            self._flow(STATEFUL, client, SERVER, STATEFUL_PORT)
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self.stack.close()

    def _enter(self, probe: driver.Probe) -> driver.Probe:
        return self.stack.enter_context(probe)

    def _flow(self, name: str, place: Any, target: str, port: int = driver.UDP_PORT) -> None:
        packets = self.folder / f"packets-{name}.json"
        self.udp[name] = self._enter(driver.udp(place, target, port=port, packets=packets))

    def pin(self, mac: str) -> None:
        """One more flow, from the dmz host, which keeps to one node whatever is announced."""
        dmz = self.lab.host("dmzhost")
        dmz.pin_neighbour(PINNED_GATEWAY, mac)
        self.stack.callback(dmz.unpin_neighbour, PINNED_GATEWAY)
        target = address("server", "wan", 6).partition("/")[0]
        self.pinned = self._enter(driver.udp(dmz, target))

    def quiet(self) -> bool:
        """Whether every flow that follows announcements gets its answers, existing one included."""
        return all(probe.progress["waiting_ms"] < 50 for probe in self.udp.values())

    def stuck(self) -> int:
        """How many connections wait for an answer, or have failed."""
        return int(self.talk.progress["stuck"]) + int(self.talk.progress["failed"])

    def finish(self) -> None:
        """End all probes; examine the connections."""
        self.tcp = self.talk.finish(90)
        for name, probe in self.udp.items():
            probe.finish()
            path = self.folder / f"packets-{name}.json"
            self.rows[name] = json.loads(path.read_text())
            path.unlink()

    def judged(self, from_ns: int, to_ns: int) -> dict[str, dict[str, float]]:
        """What happened to each flow in a period."""
        return {
            name: {
                "silence_ms": silence_ms(rows, from_ns, to_ns),
                "lost": lost_between(rows, from_ns, to_ns),
            }
            for name, rows in self.rows.items()
        }


def silence_ms(rows: Iterable[Row], from_ns: int, to_ns: int) -> float:
    """The longest time without an answer in a period; one that never ends lasts to its end."""
    times = sorted(at for _number, _sent, at in rows if at is not None and from_ns <= at < to_ns)
    return round(max(b - a for a, b in pairwise([from_ns, *times, to_ns])) / 1e6, 1)


def send_gap_ms(rows: Iterable[Row], from_ns: int, to_ns: int) -> float:
    """The longest time in which the probe itself sent nothing: a stall of this machine."""
    times = sorted(
        at for _number, at, _answered in rows if at is not None and from_ns <= at < to_ns
    )
    return round(max((b - a for a, b in pairwise(times)), default=0) / 1e6, 1)


def wait_for_answers(flows: Flows, least_s: float, most_s: float) -> bool:
    """Watch until everything is answered again; false if it is not within ``most_s``."""
    began = time.monotonic()
    while time.monotonic() - began < most_s:
        time.sleep(0.1)
        if time.monotonic() - began >= least_s and flows.quiet():
            return True
    return False
