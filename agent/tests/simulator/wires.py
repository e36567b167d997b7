# SPDX-License-Identifier: GPL-3.0-or-later
"""The wires: what passes between the two nodes and the third parties, how late, and how often.

The world enters with a frame that leaves a port and gets the delays with which it arrives: none if
it is lost, two if it is doubled. Faults are counted, so that two that overlap end one by one.
Everything random in a run is drawn here, from the plan's seed.
"""

from __future__ import annotations

import random
from collections import Counter

OTHERS = 0
"""The third parties of a link: a gateway, and the hosts that remember who has an address."""
PARTIES = (OTHERS, 1, 2)
BEATS, FRAMES = "beats", "frames"


class Wires:
    """All links of the pair."""

    def __init__(self, seed: int, latency_us: int) -> None:
        self.random = random.Random(seed)
        self._latency_ns = latency_us * 1000
        self._cut: Counter[tuple[str, int, int, int]] = Counter()
        self._no_carrier: Counter[tuple[int, int]] = Counter()
        self.loss: Counter[int] = Counter()
        """Per cent of frames that are lost, by link."""
        self.doubled: Counter[int] = Counter()
        """Per cent of frames that arrive twice, by link."""
        self.jitter_us: Counter[int] = Counter()
        """How much later than another a frame may arrive, by link: heartbeats lose their order.

        ARP keeps its order, as on every Ethernet path between two hardware addresses.
        """
        self._arp_ns: dict[tuple[int, int, int], int] = {}

    def cut(self, what: str, sender: int, receiver: int, link: int, by: int = 1) -> None:
        """Let nothing of this kind pass in this direction; `by` -1 ends it."""
        self._cut[what, sender, receiver, link] += by

    def heal(self) -> None:
        """End everything that was cut."""
        for each in (self._cut, self._no_carrier, self.loss, self.doubled, self.jitter_us):
            each.clear()

    def unplug(self, node: int, link: int, by: int = 1) -> None:
        """Take the carrier off a node's port; `by` -1 gives it back."""
        self._no_carrier[node, link] += by

    def carrier(self, node: int, link: int) -> bool:
        """Say whether a node's port has carrier."""
        return self._no_carrier.get((node, link), 0) <= 0

    def open(self, sender: int, receiver: int, link: int, beats: bool = False) -> bool:
        """Say whether a frame can pass at all, from a port to a port."""
        if self._no_carrier and not (self.carrier(sender, link) and self.carrier(receiver, link)):
            return False
        if not self._cut:
            return True
        cut = self._cut
        if cut.get((FRAMES, sender, receiver, link), 0) > 0:
            return False
        return not (beats and cut.get((BEATS, sender, receiver, link), 0) > 0)

    def delays_ns(
        self, sender: int, receiver: int, link: int, beats: bool, now_ns: int
    ) -> tuple[int, ...]:
        """Return after how long a frame arrives, once for each time that it does."""
        if not self.open(sender, receiver, link, beats):
            return ()
        draw = self.random
        loss, jitter_us = self.loss.get(link, 0), self.jitter_us.get(link, 0)
        if loss and draw.random() * 100 < loss:
            return ()
        delay_ns = self._latency_ns
        if jitter_us:
            delay_ns += int(draw.random() * jitter_us) * 1000
            if not beats:
                path = sender, receiver, link
                delay_ns = max(delay_ns, self._arp_ns.get(path, 0) - now_ns)
                self._arp_ns[path] = now_ns + delay_ns
        doubled = self.doubled.get(link, 0)
        if doubled and draw.random() * 100 < doubled:
            if not beats:
                return delay_ns, delay_ns
            return delay_ns, delay_ns + 1000 + int(draw.random() * 1000 * max(jitter_us, 1000))
        return (delay_ns,)
