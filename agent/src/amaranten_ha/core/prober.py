# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask the network who has an address, and whom to ask.

The engine enters once a turn. While the peer is heard, gateways are asked, slowly, and the peer's
kernel on one link after the other, to measure how long it takes; once the peer has been silent for
two beats its kernel is asked on every link, nine times before `dead` has passed. The shared address
is asked for before the own one: the pulse relies on that order.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.margin import Margins
from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.pulse import Pulse
from amaranten_ha.core.timing import MS_NS

_SLOW_BEATS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to send: who has this address, asked of one MAC or of everybody (None)."""

    link: int
    address: IPAddress
    own: IPAddress | None
    destination: bytes | None


class Prober:
    """The questions of one node."""

    def __init__(self, plan: NodePlan, pulse: Pulse, margins: Margins, now_ns: int) -> None:
        self._plan = plan
        self._pulse = pulse
        self._margins = margins
        self._round = 0
        self._urgent = False
        self.due_ns = now_ns

    def probes(self, now_ns: int) -> list[Probe]:
        """Return the questions that are due now, and set when the next ones are."""
        silent = self._pulse.probing(now_ns)
        urgent = silent and self._pulse.heard_ns is not None
        if now_ns < self.due_ns and urgent <= self._urgent:
            return []
        self._urgent = urgent
        timing = self._plan.timing
        pause_ns = timing.probe_us * 1000 if urgent else _SLOW_BEATS * timing.beat_ms * MS_NS
        self.due_ns = now_ns + pause_ns
        self._round += 1
        usable = [link for link in self._plan.links if self._pulse.links[link.number].usable]
        measured = None if silent or not usable else usable[self._round % len(usable)]
        return [
            probe
            for link in usable
            for probe in self._link_probes(link, silent, link is measured, now_ns)
        ]

    def _link_probes(
        self, link: LinkPlan, silent: bool, measured: bool, now_ns: int
    ) -> list[Probe]:
        mac = self._pulse.links[link.number].peer_mac
        asked: list[tuple[IPAddress, bytes | None]] = []
        if silent or measured:
            asked += [(address, mac) for address in link.shared[:1]]
            asked += [(address, mac) for address in link.peer_own[:1]]
        if asked and silent:
            self._pulse.probed(link.number)
        elif asked and link.peer_own:
            self._margins.asked(link.number, now_ns)
        asked += [(address, None) for address in link.gateways]
        return [
            Probe(link.number, address, _same_family(link.own, address), destination)
            for address, destination in asked
        ]


def _same_family(own: tuple[IPAddress, ...], address: IPAddress) -> IPAddress | None:
    return next((each for each in own if each.version == address.version), None)
