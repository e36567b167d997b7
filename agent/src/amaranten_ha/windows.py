# SPDX-License-Identifier: GPL-3.0-or-later
"""Liberal first, then strict: copies whose windows the new active has learned are tightened again.

`walker` enters once a turn while this node is active. A copy is liberal, because its windows were
never seen here, and a liberal entry lets any segment of its connection pass. The kernel itself
notes (MAXACK_SET) that an acknowledgement from a side fitted into the windows that it knows; once
it did from both sides, the tracker can judge. An entry whose windows never fit stays liberal: it
lives on. A walk is paced, and ends at once when the traffic is to move away again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from amaranten_ha.core import flow, rewrite
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.io.netlink import CT_NEW, Reader, Request, Table

S_NS = 1_000_000_000
FIRST_NS = 2 * S_NS
"""What was under way when the traffic moved has arrived by then."""
AGAIN_NS_MIN, AGAIN_NS_MAX = 8 * S_NS, 120 * S_NS
PIECES, PAUSE_NS = 4, S_NS // 20
"""So much is read at once, and then the walk rests: about a thousand entries in 50 ms."""


class Windows:
    """The walks of an active node through its survivable entries."""

    def __init__(self, table: Table, mirror: Mirror, read: Callable[[], Reader]) -> None:
        self._table, self._mirror, self._read = table, mirror, read
        self._due_ns: int | None = None
        self._again_ns = AGAIN_NS_MIN
        self._reader: Reader | None = None
        self.liberal = 0
        """How many entries the last whole walk had to leave liberal."""
        self._left = 0

    def begin(self, now_ns: int) -> None:
        """The traffic comes here from now on."""
        self.stop()
        self._due_ns, self._again_ns = now_ns + FIRST_NS, AGAIN_NS_MIN

    def stop(self) -> None:
        """The traffic moves away: tighten nothing more."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self._due_ns = None

    def turn(self, now_ns: int) -> None:
        """Do a piece of the walk that is due."""
        if self._due_ns is None or now_ns < self._due_ns:
            return
        try:
            if self._reader is None:
                self._reader, self._left = self._read(), 0
            for _piece in range(PIECES):
                self._tighten(self._reader.read())
                if self._reader.done:
                    self._end(now_ns)
                    return
            self._due_ns = now_ns + PAUSE_NS
        except KernelRefused:
            self._reader, self._due_ns = None, now_ns + self._again_ns

    def _end(self, now_ns: int) -> None:
        self._reader, self.liberal = None, self._left
        self._due_ns = now_ns + self._again_ns if self._left else None
        self._again_ns = min(2 * self._again_ns, AGAIN_NS_MAX)

    def _tighten(self, entries: list[bytes]) -> None:
        requests = []
        for attributes in entries:
            with contextlib.suppress(PeerError):
                entry = flow.parse(attributes)
                if not rewrite.is_liberal(entry) or not self._mirror.scope.survives(entry):
                    continue
                change = rewrite.tightening(entry)
                if change is None:
                    self._left += 1
                else:
                    requests.append(Request(CT_NEW, 0, entry.family, change))
        # An entry that ended meanwhile needs no second thought: errors are of no interest.
        self._table.change(requests)
