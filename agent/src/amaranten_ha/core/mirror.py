# SPDX-License-Identifier: GPL-3.0-or-later
"""The survivable connections that this node's kernel holds, as far as events and walks have told.

Both sides enter: the active's to see what is new, changed or due for renewal, the passive's to
choose between creation and update. One integer for each connection: a checksum of its stable part,
one of its translation, and the second in which its copy needs to be renewed; and a sum for each
bucket (`digest`). It is knowledge, not truth: the truth is in the kernel, and a survey of the whole
table brings the two together again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from itertools import chain
from zlib import crc32

from amaranten_ha.core import digest, flow
from amaranten_ha.core.scope import Scope

RARITIES_MAX = 65_536
RARITIES_S = 300
"""How long it is kept what a half-open connection has said: it is open by then, or gone, and the
filter of the event socket tells nobody of its end."""
_S_BITS = _TRANSLATION_BITS = 32
_STABLE_AT = _S_BITS + _TRANSLATION_BITS
_FIRM_MASK = (1 << flow.RARE_BITS) - 1
_S_MASK = (1 << _S_BITS) - 1
_TRANSLATION_MASK = (1 << _TRANSLATION_BITS) - 1


class Known(Enum):
    """What was held with an entry's original tuple when it was noted."""

    NOT = "nothing"
    SAME = "this connection"
    OTHER = "another connection: it is translated otherwise"


class Mirror:
    """What the kernel holds; `scope` may be exchanged when the node's addresses change."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.sums = digest.Sums()
        """What the buckets add up to."""
        self._buckets: list[dict[bytes, int]] = [{} for _bucket in range(digest.BUCKETS)]
        self._count = 0
        self._rarities: dict[bytes, tuple[int, dict[int, bytes]]] = {}
        """Since when and what, the oldest first."""
        self._unseen: set[bytes] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._buckets)

    def __contains__(self, key: bytes) -> bool:
        return key in self._buckets[digest.bucket(key)]

    def note(self, entry: flow.Entry, now_s: int, *, whole: bool = False) -> Known:
        """Remember a survivable entry as it was told now; say what was known.

        Unless the report is of the `whole` entry, what is said only once (labels) stays as it was.
        """
        key = entry.key
        at = crc32(key) & digest.MASK
        held = self._buckets[at]
        before = held.get(key)
        stable, translation = flow.stable(entry), flow.translation(entry)
        if self._unseen is not None:
            self._unseen.discard(key)
        if before is None:
            known = Known.NOT
            self._count += 1
            change = digest.weight(_checksum(stable))
        else:
            same = _translation(before) == translation
            known = Known.SAME if same else Known.OTHER
            told = before >> _STABLE_AT
            if same and told > _FIRM_MASK and not whole and stable <= _FIRM_MASK:
                stable |= told & ~_FIRM_MASK
            change = _checksum(stable) - _checksum(told) if stable != told else 0
        due_s = now_s + flow.copy_timeout_s(entry) // 2
        held[key] = stable << _STABLE_AT | translation << _S_BITS | due_s
        self.sums.values[at] += change
        return known

    def due(self, entry: flow.Entry, now_s: int) -> bool:
        """Say whether an entry is new, other than it was told, or its copy needs to be renewed."""
        held = self._buckets[digest.bucket(entry.key)].get(entry.key)
        if self._unseen is not None:
            self._unseen.discard(entry.key)
        return held is None or held >> _STABLE_AT != flow.stable(entry) or held & _S_MASK <= now_s

    def counts(self, entry: flow.Entry) -> bool:
        """Say whether a passive node is to know the entry: it survives, or its peer counts it.

        A peer from before closed connections were told once (`greeting.LAST_MINOR`) does.
        """
        return self.scope.survives(entry) or (entry.over and entry.key in self)

    def doubts(self, entry: flow.Entry) -> bool:
        """Say whether another connection is held with this original; a survey has then seen none.

        A piece of a walk is older than the events that were heard before it is read.
        """
        held = self._buckets[digest.bucket(entry.key)].get(entry.key)
        if held is None or _translation(held) == flow.translation(entry):
            return False
        if self._unseen is not None:
            self._unseen.add(entry.key)
        return True

    def forget(self, key: bytes) -> bool:
        """Remember that an entry is gone; say whether it was known."""
        if self._rarities:
            self._rarities.pop(key, None)
        if self._unseen is not None:
            self._unseen.discard(key)
        at = digest.bucket(key)
        before = self._buckets[at].pop(key, None)
        if before is None:
            return False
        self._count -= 1
        self.sums.values[at] -= digest.weight(_checksum(before >> _STABLE_AT))
        return True

    def let_go(self, entry: flow.Entry) -> Known:
        """Forget the connection that is held with an entry's original; say which one it was."""
        held = self._buckets[digest.bucket(entry.key)].get(entry.key)
        self.forget(entry.key)
        if held is None:
            return Known.NOT
        return Known.SAME if _translation(held) == flow.translation(entry) else Known.OTHER

    def listed(self, bucket: int) -> dict[bytes, int]:
        """Return the entries of one bucket: key -> checksum of what makes the entry what it is."""
        return {key: _checksum(held >> _STABLE_AT) for key, held in self._buckets[bucket].items()}

    def put_aside(self, entry: flow.Entry, now_s: int) -> None:
        """Keep what a half-open connection says only once, until it is established."""
        rare = flow.rarities(entry)
        if not rare:
            return
        self._drop_old_rarities(now_s)
        _since_s, before = self._rarities.pop(entry.key, (now_s, {}))
        if len(self._rarities) < RARITIES_MAX:
            self._rarities[entry.key] = now_s, before | rare

    def complete(self, entry: flow.Entry, now_s: int) -> flow.Entry:
        """Return the entry with what had been put aside for it."""
        if not self._rarities:
            return entry
        self._drop_old_rarities(now_s)
        _since_s, rare = self._rarities.pop(entry.key, (now_s, {}))
        return flow.add(entry, rare) if rare else entry

    def _drop_old_rarities(self, now_s: int) -> None:
        while self._rarities:
            oldest = next(iter(self._rarities))
            if now_s - self._rarities[oldest][0] <= RARITIES_S:
                return
            del self._rarities[oldest]

    def begin_survey(self) -> None:
        """From now on remember which entries were not seen."""
        self._unseen = set().union(*self._buckets)

    def unseen(self, count_max: int) -> list[bytes]:
        """Return some of the entries that the survey has not seen; they may still exist."""
        unseen = self._unseen or set()
        return [key for key, _count in zip(unseen, range(count_max), strict=False)]

    def let_be(self, key: bytes) -> None:
        """Nothing could be learned of this entry: leave it as it is for this survey."""
        if self._unseen is not None:
            self._unseen.discard(key)

    def end_survey(self) -> None:
        """The survey is over."""
        self._unseen = None


def _translation(held: int) -> int:
    return held >> _S_BITS & _TRANSLATION_MASK


def _checksum(stable: int) -> int:
    """Return the 32 bits that a digest counts."""
    return (stable & _FIRM_MASK) + (stable >> flow.RARE_BITS) & _FIRM_MASK
