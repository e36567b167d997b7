# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The traffic of a drill: echoes on the servers, probes on the clients, taps on both.

The run enters with sessions to the vantage hosts.  What a flow went through is decided elsewhere;
here it is only started, looked at while it runs, and ended.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import (
    DrillError,
    Program,
    Session,
    clock_offset_ns,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_request import Flow, Request

PROBES = {
    "udp": "udp_probe.py",
    "tcp": "tcp_pingpong.py",
    "bulk": "tcp_bulk.py",
    "connects": "tcp_connects.py",
}
# A late echo or probe looks like a silence of what lies between them.
LATE_MS = 10.0


@dataclass
class Seen:
    """What the flows and taps told when it was over."""

    flows: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    """By the flow's name; times are those of the client's clock."""
    taps: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    """By host."""
    offsets_ns: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By host: what to add to its clock, and how far off that may be."""
    unseen: list[str] = field(default_factory=list)
    """What could not be measured, in sentences."""


class Traffic:
    """All probes of one drill."""

    def __init__(
        self,
        request: Request,
        sessions: t.Mapping[str, Session],
        macs: t.Sequence[str],
        seconds: float,
    ) -> None:
        """`seconds` are the bound of everything, should nobody end it."""
        self._request = request
        self._sessions = sessions
        self._macs = list(macs)
        self._seconds = f"{seconds:g}"
        self._servers: dict[str, Program] = {}
        self._probes: dict[str, Program] = {}
        self._taps: dict[str, Program] = {}
        self.seen = Seen()

    def start(self) -> None:
        """Start everything, or DrillError; whatever was started is ended by close()."""
        flows = self._request.flows
        if not flows:
            self.seen.unseen.append(
                "There is no vantage host with flows, so no packet was sent through the pair: "
                "silence, loss and survivors were not measured."
            )
            return
        hosts = sorted({host for flow in flows for host in (flow.client, flow.server)})
        for host in hosts:
            self.seen.offsets_ns[host] = clock_offset_ns(self._sessions[host], self._request.python)
        for server in sorted({flow.server for flow in flows}):
            self._servers[server] = self._echo(server, [f for f in flows if f.server == server])
        for host in hosts:
            self._tap(host)
        for flow in flows:
            self._probes[flow.name] = self._probe(flow)
        for probe in self._probes.values():
            probe.wait_ready(60)

    def _start(self, host: str, program: str, *words: str) -> Program:
        return Program(self._sessions[host], program, *words, python=self._request.python)

    def _echo(self, server: str, flows: t.Sequence[Flow]) -> Program:
        words = []
        for option, udp in (("--udp", True), ("--tcp", False)):
            ports = {flow.to_port for flow in flows if (flow.kind == "udp") is udp}
            if len(ports) > 1:
                raise DrillError(
                    f"The flows to {server} want the {option[2:].upper()} ports "
                    f"{' and '.join(map(str, sorted(ports)))}, expected one to_port for each kind."
                )
            words += [option, str(next(iter(ports), 0))]
        program = self._start(server, "echo.py", *words, "--seconds", self._seconds)
        program.wait_ready()
        return program

    def _tap(self, host: str) -> None:
        """Listen on the wire; a host where that is not allowed is named, and goes without."""
        own = ",".join(self._request.own_addresses)
        words = [*self._macs, "--own", own, "--seconds", self._seconds]
        tap = self._start(host, "wire_tap.py", *words)
        try:
            tap.wait_ready(10)
        except DrillError as problem:
            self.seen.unseen.append(f"The wire was not watched at {host}: {problem}")
            tap.close()
            return
        self._taps[host] = tap

    def _probe(self, flow: Flow) -> Program:
        words = [flow.address, str(flow.port), "--seconds", self._seconds]
        if flow.kind in ("udp", "connects"):
            words += ["--rate", f"{flow.rate:g}"]
        if flow.kind == "tcp":
            words += ["--connections", str(flow.connections)]
        return self._start(flow.client, PROBES[flow.kind], *words)

    def live(self) -> str:
        """What is happening now, for a line of progress."""
        parts = []
        for flow in self._request.flows:
            now = self._probes[flow.name].progress if flow.name in self._probes else {}
            if flow.kind == "udp" and now:
                lost = now["sent"] - now["answered"]
                silent_ms = now["waiting_ms"]
                waiting = f", silent for {silent_ms:.0f} ms" if silent_ms > 20 else ""
                parts.append(f"{flow.name}: {lost} unanswered{waiting}")
            elif flow.kind == "tcp" and now and (now["stuck"] or now["failed"]):
                parts.append(f"{flow.name}: {now['stuck']} wait, {now['failed']} lost")
        return "; ".join(parts)

    def finish(self) -> Seen:
        """End the probes first, then the taps, then the echoes."""
        early = [name for name, probe in self._probes.items() if probe.ended or probe.result]
        for probe in self._probes.values():
            probe.let_end()
        for name, probe in self._probes.items():
            found = probe.finish()
            if not found:
                self.seen.unseen.append(f"The flow {name} told no result: its host is gone.")
            elif name in early and not found.get("error"):
                self.seen.unseen.append(
                    f"The flow {name} ended before the drill did: nothing was measured after it."
                )
            elif found.get("send_gap_ms", 0.0) > LATE_MS:
                self.seen.unseen.append(
                    f"The probe of {name} was late with a request by up to "
                    f"{found['send_gap_ms']:g} ms; that is not counted as silence."
                )
            self.seen.flows[name] = found
        for host, tap in self._taps.items():
            found = tap.finish()
            if found:
                self.seen.taps[host] = found
            else:
                self.seen.unseen.append(f"The tap at {host} told no result.")
            if found.get("missed"):
                self.seen.unseen.append(
                    f"The tap at {host} missed {found['missed']} packets, and perhaps moments in "
                    "which both nodes were active."
                )
        for host, server in self._servers.items():
            late_ms = server.finish().get("late_ms", 0.0)
            if late_ms > LATE_MS:
                self.seen.unseen.append(
                    f"The echo at {host} was late with an answer by up to {late_ms:g} ms, which "
                    "silences have in them."
                )
        self.close()
        return self.seen

    def close(self) -> None:
        """End whatever still runs."""
        for program in [*self._probes.values(), *self._taps.values(), *self._servers.values()]:
            program.close()
        self._probes, self._taps, self._servers = {}, {}, {}
