# SPDX-License-Identifier: GPL-3.0-or-later
"""A world for stories: the example pair, and its faults as sentences that a test can say.

Tests of the role table enter. Everything happens in the world of the schedules, and the judge
watches here, too; a story that ends with a fault mends it itself.
"""

from __future__ import annotations

from amaranten_ha.core.timing import MS_NS
from simulator.machine import NEVER_NS
from simulator.plan import Plan
from simulator.wires import BEATS, FRAMES, OTHERS
from simulator.world import World

ALL_LINKS = range(1, 5)


class Story(World):
    """The example pair of four links, all monitored, at a profile."""

    def __init__(self, profile: str = "virtual", *, gateways: bool = False) -> None:
        plan = Plan(profile=profile, links=4, gateways=gateways, monitor=True, damping=True)
        super().__init__(plan)

    def settle(self) -> None:
        """Boot the pair and wait until one is active and the other passive."""
        self.run(3 * self.timing.settle_ms)
        self.begin()

    def begin(self) -> None:
        """Count from now on for how long nobody forwards, or both do."""
        self.both_forward_ns = self.nobody_forwards_ns = self.both_speak_ns = 0

    # What befalls a machine

    def stall(self, number: int) -> None:
        """SIGSTOP heart."""
        machine = self.machines[number]
        assert machine.heart is not None
        machine.stalls[machine.heart.session] = 1

    def go_on(self, number: int) -> None:
        """SIGCONT heart."""
        self.machines[number].stalls.clear()
        self.wake(self.machines[number])

    def kill_heart(self, number: int, back_after_ms: int = 150) -> None:
        """SIGKILL heart; its supervisor starts it again."""
        self.machines[number].kill(back_after_ms * MS_NS)

    def restart_heart(self, number: int, back_after_ms: int = 300) -> None:
        """Restart heart in the announced way."""
        with self.codec.running():
            self.machines[number].restart(back_after_ms * MS_NS)

    def farewell(self, number: int) -> None:
        """Stop heart as its supervisor does when nobody can take a hand-over."""
        self.machines[number].returns_ns = NEVER_NS
        with self.codec.running():
            self.machines[number].farewell()

    # What befalls the wires

    def drop(self, sender: int, *links: int) -> None:
        """Let nothing of a node's arrive at the other; on these links, or on all."""
        for link in links or ALL_LINKS:
            self.wires.cut(FRAMES, sender, 3 - sender, link)

    def drop_beats(self, sender: int, *links: int) -> None:
        """Let no heartbeat of a node's arrive at the other; on these links, or on all."""
        for link in links or ALL_LINKS:
            self.wires.cut(BEATS, sender, 3 - sender, link)

    def partition(self) -> None:
        """Let nothing pass between the two."""
        self.drop(1)
        self.drop(2)

    def cut_off(self, number: int, *links: int) -> None:
        """Let a node reach nobody but its peer; on these links, or on all."""
        for link in links or ALL_LINKS:
            self.wires.cut(FRAMES, number, OTHERS, link)
            self.wires.cut(FRAMES, OTHERS, number, link)
        self.judge.network_changed()
