# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask the network who has an address, and whom to ask.

The engine enters once a turn. Third parties are asked slowly, everybody whether a stranger answers
for a shared address, and the peer's kernel on one link after the other, to measure how long it
takes. Once the peer has been silent for two beats its kernel is asked on every link, nine times
before `dead` has passed: the shared address before the own one, because the pulse relies on that
order. An active node does not ask its peer: it accuses nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.margin import Margins
from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.pulse import Pulse
from amaranten_ha.core.third_parties import ThirdParties
from amaranten_ha.core.timing import MS_NS, Timing

_SLOW_BEATS = 5
_STRANGERS_ASKED_MAX = 4
"""Shared addresses of a link that are asked for in one round; the next round asks for the next."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A question to send: who has this address, asked of one MAC or of everybody (None)."""

    link: int
    address: IPAddress
    own: IPAddress | None
    destination: bytes | None


class Prober:
    """The questions of one node."""

    def __init__(
        self,
        plan: NodePlan,
        pulse: Pulse,
        margins: Margins,
        third_parties: ThirdParties,
        now_ns: int,
    ) -> None:
        self._plan = plan
        self._pulse = pulse
        self._margins = margins
        self._third_parties = third_parties
        self.timing: Timing = plan.timing
        self._urgent = False
        self._rounds = self._measured = 0
        self._peer_due_ns = self._ask_due_ns = self._stranger_due_ns = now_ns

    def due_ns(self, active: bool) -> int:
        """Return when the next questions are due."""
        due_ns = min(self._ask_due_ns, self._stranger_due_ns)
        return due_ns if active else min(due_ns, self._peer_due_ns)

    def probes(self, now_ns: int, active: bool) -> list[Probe]:
        """Return the questions that are due now, and set when the next ones are."""
        timing = self.timing
        found: list[Probe] = []
        silent = not active and self._pulse.probing(now_ns)
        urgent = silent and self._pulse.heard_ns is not None
        if not active and (now_ns >= self._peer_due_ns or urgent > self._urgent):
            pause_ns = timing.probe_us * 1000 if urgent else _SLOW_BEATS * timing.beat_ms * MS_NS
            self._peer_due_ns = now_ns + pause_ns
            found += self._of_silent_peer() if silent else self._of_living_peer(now_ns)
            self._ask_due_ns = now_ns if urgent else self._ask_due_ns
        self._urgent = urgent
        if now_ns >= self._ask_due_ns:
            self._ask_due_ns = now_ns + timing.ask_ms * MS_NS
            found += self._of_third_parties()
        if now_ns >= self._stranger_due_ns:
            self._stranger_due_ns = now_ns + timing.conflict_ask_ms * MS_NS
            found += self._of_strangers()
        return found

    def _usable(self) -> Iterator[LinkPlan]:
        return (link for link in self._plan.links if self._pulse.links[link.number].usable)

    def _of_silent_peer(self) -> Iterator[Probe]:
        asked = [link for link in self._usable() if link.shared or link.peer_own]
        self._pulse.probed(link.number for link in asked)
        for link in asked:
            yield from self._of_peer(link)

    def _of_living_peer(self, now_ns: int) -> Iterator[Probe]:
        """One link after the other, for the time that an answer takes."""
        self._measured += 1
        if usable := list(self._usable()):
            link = usable[self._measured % len(usable)]
            if link.peer_own:
                self._margins.asked(link.number, now_ns)
            yield from self._of_peer(link)

    def _of_peer(self, link: LinkPlan) -> Iterator[Probe]:
        mac = self._pulse.links[link.number].peer_mac
        for address in (*link.shared[:1], *link.peer_own[:1]):
            yield _probe(link, address, mac)

    def _of_third_parties(self) -> Iterator[Probe]:
        for link in self._usable():
            for address in self._third_parties.to_ask(link):
                yield _probe(link, address, None)

    def _of_strangers(self) -> Iterator[Probe]:
        self._rounds += 1
        for link in self._usable():
            if count := len(link.shared):
                first = self._rounds * _STRANGERS_ASKED_MAX % count
                for offset in range(min(count, _STRANGERS_ASKED_MAX)):
                    yield _probe(link, link.shared[(first + offset) % count], None)


def _probe(link: LinkPlan, address: IPAddress, destination: bytes | None) -> Probe:
    own = next((each for each in link.own if each.version == address.version), None)
    return Probe(link.number, address, own, destination)
