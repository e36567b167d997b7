# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the copy the active's table? The passive's judgement, by digests and by lists of what differs.

`copy` enters with the sums of the active, told at one place of the stream, and with the lists of
the buckets that differed; it gets what to ask for and which connections to mend. The figures are
what `status` shows and what gates a switchover. No message is sent and no kernel touched in here.
"""

from __future__ import annotations

from collections import Counter

from amaranten_ha.core import digest
from amaranten_ha.core.mirror import Mirror

LISTED_MAX = 32
"""Buckets that are listed entry by entry in one round; the others wait for the next digest."""
AFRESH = digest.BUCKETS // 4
"""When so many buckets differ, everything is asked for anew; that costs less than lists."""
TRIES_MAX = 3
TRIED_MAX = 65_536
FOUND_MAX = 20
DEADLINE_S = 60
"""How long a resync or a comparison entry by entry may take."""


class Audit:
    """How the mirror of the passive differs from what the active has told."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._round: dict[int, digest.Difference] = {}
        self._expected: frozenset[int] = frozenset()
        self._differing = 0
        self._partial: dict[bytes, int] = {}
        self._tries: Counter[bytes] = Counter()
        self._stale_before: set[bytes] = set()
        """What was asked for because it was stale, whether that seemed to help or not."""
        self.compared_ns: int | None = None
        """When the tables were compared last; None if never since the bulk."""
        self.missing = self.stale = self.surplus = 0
        self.deep: Deep | None = None

    def reset(self) -> None:
        """A bulk begins, or nothing is believed any more: nothing was compared."""
        self._round, self._expected, self._differing = {}, frozenset(), 0
        self._partial = {}
        self._tries.clear()
        self._stale_before.clear()
        self.compared_ns = None
        self.missing = self.stale = self.surplus = 0

    def share_permille(self, told: int) -> int:
        """Return how much of what the active has told of is here and the same, rounded down."""
        wrong = min(self.missing + self.stale, told)
        return 1000 * (told - wrong) // told if told else 1000

    def differing(self, theirs: digest.Sums, now_ns: int) -> list[int]:
        """Compare the sums; return the buckets that differ, of which some are to be listed."""
        differ = self._mirror.sums.differing(theirs)
        self.compared_ns = now_ns
        if self._round and len(self._round) < len(self._expected):
            self._publish()  # the lists came more slowly than the next digest
        self._round, self._partial, self._differing = {}, {}, len(differ)
        self._expected = frozenset(differ[:LISTED_MAX])
        if not differ:
            self.missing = self.stale = self.surplus = 0
            self._tries.clear()
        return differ

    def listed(
        self, bucket: int, entries: tuple[tuple[bytes, int], ...], *, last: bool
    ) -> digest.Difference | None:
        """Take a piece of a list in; with its last piece return what differs in this bucket."""
        self._partial |= entries
        if not last:
            return None
        theirs, self._partial = self._partial, {}
        found = digest.difference(theirs, self._mirror.listed(bucket))
        if self.deep is not None:
            self.deep.take(bucket, found, len(theirs))
        if bucket not in self._expected or bucket in self._round:
            return None
        self._round[bucket] = found
        if len(self._round) == len(self._expected):
            self._publish()
        return found

    def _publish(self) -> None:
        """Make the figures known; buckets that were not listed are taken to be like the others."""
        self.missing, self.stale, self.surplus = (
            sum(map(len, kind)) * self._differing // len(self._round)
            for kind in zip(*self._round.values(), strict=True)
        )

    def mend(self, found: digest.Difference) -> tuple[list[bytes], list[bytes]]:
        """Return the keys to ask for and the keys to delete first.

        What is stale is asked for; if it is stale once more, it is made anew; if that does not help
        either, it is left, and counted. Equal sums are no proof that an update helped: the mirror
        has noted what was told, and what the kernel has kept of its own is seen by the next survey.
        """
        ask, delete = [], list(found.surplus)
        for key in found.missing + found.stale:
            if len(self._tries) >= TRIED_MAX:
                self._tries.clear()
            self._tries[key] += 1
            if self._tries[key] > TRIES_MAX:
                continue
            ask.append(key)
        if len(self._stale_before) >= TRIED_MAX:
            self._stale_before.clear()
        delete += [
            key
            for key in found.stale
            if key in self._stale_before and self._tries[key] <= TRIES_MAX
        ]
        self._stale_before.update(found.stale)
        return ask, delete


class Deep:
    """A comparison entry by entry, bucket after bucket, until all were listed."""

    def __init__(self) -> None:
        self._left = set(range(digest.BUCKETS))
        self.compared = 0
        self.missing = self.stale = self.surplus = 0
        self.found: list[tuple[str, bytes]] = []
        """The first that differ, and how."""

    @property
    def done(self) -> bool:
        """Every bucket was compared."""
        return not self._left

    def take(self, bucket: int, found: digest.Difference, count: int) -> None:
        """Take the comparison of one bucket in."""
        if bucket not in self._left:
            return
        self._left.discard(bucket)
        self.compared += count
        self.missing += len(found.missing)
        self.stale += len(found.stale)
        self.surplus += len(found.surplus)
        for name, keys in zip(digest.Difference._fields, found, strict=True):
            self.found += [(name, key) for key in keys[: FOUND_MAX - len(self.found)]]
