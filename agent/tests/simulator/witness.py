# SPDX-License-Identifier: GPL-3.0-or-later
"""What each node could truly know: what reached its ports, what its heart took in, whom it reaches.

The world tells what happens, the judge reads it when a rule has fired or a frame has left. No
engine is asked for its opinion of the peer. Nothing is judged here. Times are of the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranten_ha.core.beat import Kind, Role
from amaranten_ha.core.timing import MS_NS
from simulator.contact import Contact

if TYPE_CHECKING:
    from simulator.frames import Arrival, Sent
    from simulator.machine import Machine
    from simulator.world import World

HOLDERS = (Role.ACTIVE, Role.HANDING_OVER)
GRACE_BEATS = 3
ONE_WAY_DEADS = 10
SLACK_NS = 2 * MS_NS
"""What a frame needs from port to ring, and a turn from timer to decision."""


class Witness:
    """What one node could know."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told_ns = 0
        """When a heartbeat of the active other last reached it."""
        self.answered_ns = 0
        """When the other's kernel last said to it that it has a shared address."""
        self.missed_ns = 0
        """When one of these last came to its port while it did not run."""
        self.careful_until_ns = self._late_until_ns = 0
        self.newest: tuple[Sent, int] | None = None
        """The newest fresh heartbeat that its heart has drained, and when."""
        self.holder_heard_ns = 0
        """When the newest that it had drained last was that of an active other."""
        self.heard_epoch = 0
        self.listened_ns = 0
        """When its heart last drained something fresh."""
        self.contact = Contact()
        self.reaches = True
        """A third party is in reach, both ways."""
        self.reaches_since_ns = self.reaches_since_own_ns = 0
        """By the world's clock and by its own, which stands still while the machine is paused."""

    def started(self, epoch: int) -> None:
        """A heart starts, and knows nothing but what is on its disk."""
        self.newest = None
        self.told_ns = self.answered_ns = self.missed_ns = 0
        self.careful_until_ns = self._late_until_ns = 0
        self.heard_epoch = epoch

    def missed(self, machine: Machine, arrival: Arrival) -> None:
        """Something came to the port of the machine while it did not run."""
        if self._proves(machine, arrival):
            self.missed_ns = self._world.now_ns

    def reached(self, machine: Machine, arrival: Arrival) -> None:
        """Something came into the receive ring."""
        if not self._proves(machine, arrival):
            return
        if arrival.sent:
            self.told_ns = self._world.now_ns
        else:
            self.answered_ns = self._world.now_ns

    def _proves(self, machine: Machine, arrival: Arrival) -> bool:
        """Say whether a frame proves to this heart that the other node forwards."""
        heart, sent = machine.heart, arrival.sent
        if heart is None:
            return False
        if arrival.what == "answer":
            shared = machine.plan.links[arrival.link - 1].shared
            of_peer = arrival.mac == self._world.machines[3 - machine.number].mac
            return of_peer and arrival.content in shared
        return (
            sent is not None
            and not sent.forged
            and sent.kind is Kind.BEAT
            and sent.role in HOLDERS
            and heart.session in sent.fresh_for
        )

    def thawed(self, machine: Machine, clocks_went_on: bool) -> None:
        """The machine goes on.

        If its clock shows that it comes late by half of `dead` it must be careful for three beats,
        unless it was so just before, ten `dead` after all that it was told: who is late at every
        turn must follow, too. A paused machine with a frozen clock cannot know of what it missed.
        """
        timing, stood_ns = machine.plan.timing, machine.thawed_from_ns
        missed = self.missed_ns >= stood_ns
        if missed and not clocks_went_on:
            self.missed_ns = 0
        beat_ns, dead_ns = timing.beat_ms * MS_NS, timing.dead_ms * MS_NS
        if not clocks_went_on or not _comes_late(machine):
            return
        lately = stood_ns - max(self.told_ns, self.answered_ns) < ONE_WAY_DEADS * dead_ns
        again = self._late_until_ns + 2 * beat_ns <= stood_ns
        if missed and (lately or again):
            self.careful_until_ns = self._world.now_ns + GRACE_BEATS * beat_ns

    def woke(self, machine: Machine) -> None:
        """Its heart takes a turn, late for whatever reason."""
        if _comes_late(machine):
            grace_ns = GRACE_BEATS * machine.plan.timing.beat_ms * MS_NS
            self._late_until_ns = self._world.now_ns + grace_ns

    def drained(self, machine: Machine, arrival: Arrival) -> None:
        """Its heart takes a heartbeat out of the ring."""
        sent, heart = arrival.sent, machine.heart
        assert sent is not None and heart is not None
        if heart.session not in sent.fresh_for:
            return
        self.listened_ns = now_ns = self._world.now_ns
        self.contact.hears.sign(arrival.at_ns, heart.timing.dead_ms * MS_NS)
        if self.newest is None or (sent.session, sent.sequence) >= self.newest[0].order:
            self.newest = sent, now_ns
            if sent.role in HOLDERS:
                self.holder_heard_ns = now_ns
            self.heard_epoch = max(sent.epoch, self.heard_epoch)

    def network_changed(self, machine: Machine) -> None:
        """Note whether it reaches a third party from now on."""
        wires, number = self._world.wires, machine.number
        reaches = any(
            wires.open(number, 0, link.number) and wires.open(0, number, link.number)
            for link in machine.plan.links
            if link.service
        )
        if reaches != self.reaches:
            self.reaches, self.reaches_since_ns = reaches, self._world.now_ns
            self.reaches_since_own_ns = machine.now_ns


def _comes_late(machine: Machine) -> bool:
    """By its own clock, and by half of `dead`."""
    late_ns = machine.now_ns - machine.planned_ns
    return late_ns > machine.plan.timing.dead_ms * MS_NS // 2
