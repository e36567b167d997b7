# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject of named sets: ban lists and rate meters that the inventory lists.

`vital` enters. Both nodes look at their sets every two seconds, and soon after any ruleset was
changed. The active tells differences; the passive makes them, with the time that is left. A ruleset
that is loaded anew makes its sets anew and empty: the kernel gives them other handles, and then
what was in them is put back, on either node. Who empties a set keeps its handle, and is obeyed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from amaranten_ha.core import named_set
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.named_set import SetName
from amaranten_ha.core.vital import Holder, Item, Teller, Topic
from amaranten_ha.io.named_sets import SetTable

MS_NS = 1_000_000
LOOK_NS = 2_000 * MS_NS
SOON_NS = 100 * MS_NS
DUTY = 50
"""A look that takes long is repeated less often: it may use one fiftieth of the time."""
AT_ONCE = 256


class NamedSets:
    """The sets that the inventory lists."""

    topic = Topic.SETS
    what = "set elements"

    def __init__(self, names: Iterable[SetName]) -> None:
        self._names = {str(name): name for name in names}
        self.teller = Teller(named_set.COUNT_MAX)
        self.holder = Holder(named_set.COUNT_MAX)
        self._table = SetTable()
        self._handles: dict[str, bytes] = {}
        self._ends_ns: dict[bytes, int] = {}
        """When elements end that have an end: what was told, or what the peer said."""
        self._received: dict[bytes, bytes] = {}
        self._look_due_ns = 0
        self._afresh = False
        """What is known of the time that is left is too old."""
        self.troubles: dict[str, str] = {}

    def fileno(self) -> int:
        """Return the descriptor of the events."""
        return self._table.fileno()

    def hear(self, now_ns: int) -> None:
        """Any change of a ruleset is a reason to look soon."""
        if self._table.changed():
            self._look_due_ns = min(self._look_due_ns, now_ns + SOON_NS)

    def look(self, now_ns: int) -> None:
        """Read all sets, and put back what a loaded ruleset has emptied."""
        if now_ns < self._look_due_ns or not self._names:
            return
        began_ns = time.monotonic_ns()
        present: dict[bytes, bytes] = {}
        for name in self._names.values():
            try:
                present |= self._read(name, now_ns)
            except (KernelRefused, PeerError) as error:
                self.troubles[str(name)] = str(error)
        if not self.holder.believes:
            self.teller.present(present)
        else:
            self._compare(present, now_ns)
        took_ns = time.monotonic_ns() - began_ns
        self._look_due_ns = now_ns + max(LOOK_NS, DUTY * took_ns)

    def make(self, now_ns: int, *, again: bool) -> None:
        """Make what is wanted, remove what is not."""
        work = self.holder.work(now_ns, again=again)
        for name in self._names.values():
            gone = [item for item in work.removals if named_set.owner(item.key) == str(name)]
            self._remove(name, [item.key for item in gone])
            wanted = [item for item in work.puts if named_set.owner(item.key) == str(name)]
            for start in range(0, len(wanted), AT_ONCE):
                self._put(name, wanted[start : start + AT_ONCE], now_ns)
        for item in work.puts:
            if named_set.owner(item.key) not in self._names:
                self.holder.failed(item.key, "not in this node's configuration", now_ns,
                                   for_good=True)  # fmt: skip

    def refresh(self, now_ns: int) -> None:
        """Everything is to be told: say how long is left as of now."""
        self._afresh, self._look_due_ns = True, 0
        self.look(now_ns)
        self._afresh = False

    # The active's side, and what both do.

    def _read(self, name: SetName, now_ns: int) -> dict[bytes, bytes]:
        found = self._table.find(name)
        why = "it does not exist" if found is None else named_set.unfit(found.flags)
        self.troubles.pop(str(name), None)
        if found is None or why:
            self.troubles[str(name)] = why
            # A ruleset may be on its way: keep what is known of it.
            return self._known(name)
        items = [named_set.item(name, each) for each in self._table.elements(name)]
        before = self._handles.get(str(name))
        self._handles[str(name)] = found.handle
        present = {item.key: item.value for item in items}
        if before is not None and before != found.handle:
            lost = [Item(*each) for each in self._known(name).items() if each[0] not in present]
            for start in range(0, len(lost), AT_ONCE):
                self._put(name, lost[start : start + AT_ONCE], now_ns)
            present |= dict(lost)
        return {key: self._steady(key, value, now_ns) for key, value in present.items()}

    def _known(self, name: SetName) -> dict[bytes, bytes]:
        known = self.holder.wanted if self.holder.believes else self.teller.known
        return {key: value for key, value in known.items() if named_set.owner(key) == str(name)}

    def _steady(self, key: bytes, value: bytes, now_ns: int) -> bytes:
        """Return what is known of an element, unless it is another one or ends at another time."""
        left = named_set.left_ms(value)
        ends_ns = now_ns + (left or 0) * MS_NS
        known = self.teller.known.get(key)
        if known is not None and named_set.essence(known) == named_set.essence(value):
            moved_ns = abs(ends_ns - self._ends_ns.get(key, ends_ns))
            same = moved_ns < named_set.tolerance_ms(value) * MS_NS
            if left is None or (same and not self._afresh):
                return known
        if left is not None and not self.holder.believes:
            self._ends_ns[key] = ends_ns
        return value

    # The passive's side.

    def _compare(self, present: dict[bytes, bytes], now_ns: int) -> None:
        """Make again what was lost, and remove what the active does not have."""
        for key in self.holder.wanted:
            if key not in present and self._ends_ns.get(key, now_ns + 1) > now_ns:
                self.holder.lost(key)
        if self.holder.complete:
            extra = [key for key in present if key not in self.holder.wanted]
            for name in self._names.values():
                self._remove(name, [key for key in extra if named_set.owner(key) == str(name)])

    def _remove(self, name: SetName, keys: list[bytes]) -> None:
        for key in keys:
            self._ends_ns.pop(key, None)
            self._received.pop(key, None)
            try:
                self._table.remove(name, [named_set.bare(key)])
            except KernelRefused:
                # It has ended by itself, or its set is gone.
                continue

    def _put(self, name: SetName, items: list[Item], now_ns: int) -> None:
        made: list[tuple[Item, int | None]] = []
        for item in items:
            left = self._left_ms(item, now_ns)
            if left is not None and left <= 0:
                self.holder.done(item.key)
            else:
                made.append((item, left))
        if not made:
            return
        found = [named_set.bare(item.key) for item, _left in made]
        why = ""
        for plain in (False, True):
            elements = [
                named_set.element(item.key, item.value, left, plain=plain) for item, left in made
            ]
            try:
                self._table.put(name, elements, found)
            except KernelRefused as error:
                why = str(error)
                continue
            why = ""
            break
        for item, _left in made:
            if why:
                self.holder.failed(item.key, f"{name}: {why}", now_ns)
            else:
                self.holder.done(item.key)

    def _left_ms(self, item: Item, now_ns: int) -> int | None:
        """Return how long an element has from now on; it had so long when it was received."""
        left = named_set.left_ms(item.value)
        if left is None:
            return None
        if self.holder.believes and self._received.get(item.key) != item.value:
            self._received[item.key] = item.value
            self._ends_ns[item.key] = now_ns + left * MS_NS
        return (self._ends_ns.get(item.key, now_ns) - now_ns) // MS_NS
