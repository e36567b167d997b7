# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject of expectations: what helpers wait for, and what their masters had changed meanwhile.

`vital` enters. A new expectation is also the only sign that a helper has rewritten something in its
control connection, and may have moved the sequence numbers: the kernel raises no event for that. So
its master is looked up at once, and goes to the peer as it is now.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from amaranten_ha.core import expectation
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.vital import Holder, Teller, Topic
from amaranten_ha.io.events import EXPECTATIONS, Events
from amaranten_ha.io.netlink import (
    CREATE,
    EXPECT_DELETE,
    EXPECT_GET,
    EXPECT_NEW,
    Dump,
    Request,
    Table,
)

S_NS = 1_000_000_000
LOOK_NS = 20 * S_NS
SOON_NS = S_NS // 5
EVENTS_PER_TURN = 512
_WHY = {
    errno.ENOENT: "their connection is not here",
    errno.EOPNOTSUPP: "their helper is not loaded here",
    errno.EINVAL: "their helper is not loaded here",
    errno.EBUSY: "another one is in the way",
    errno.EMFILE: "too many (compare nf_conntrack_expect_max of both nodes)",
}
_FOR_GOOD = (errno.EBUSY, errno.EMFILE)


class Expectations:
    """What helpers wait for."""

    topic = Topic.EXPECTATIONS
    what = "expectations"

    def __init__(self, table: Table, mirror: Mirror, look_up: Callable[[bytes, int], None]) -> None:
        """`look_up` asks for one connection and tells the peer of it."""
        self.teller = Teller(expectation.COUNT_MAX)
        self.holder = Holder(expectation.COUNT_MAX)
        self._table, self._mirror, self._look_up = table, mirror, look_up
        self._events = Events(table.port, EXPECTATIONS)
        self._look_due_ns = 0
        self.troubles: dict[str, str] = {}

    def fileno(self) -> int:
        """Return the descriptor of the events."""
        return self._events.fileno()

    def hear(self, now_ns: int) -> None:
        """Take in what helpers have begun to wait for, and what they wait for no more."""
        for gone, attributes in self._events.drain(EVENTS_PER_TURN):
            try:
                item = expectation.parse(attributes)
                master = expectation.master(item.key)
            except PeerError:
                continue
            if gone:
                self.teller.remove(item.key)
                self.holder.wanted.pop(item.key, None)
            elif master in self._mirror:
                self.teller.put(item.key, item.value)
            else:
                # Its connection may be a moment behind.
                self._look_due_ns = min(self._look_due_ns, now_ns + SOON_NS)
            if self.teller.sending and master in self._mirror:
                self._look_up(master, now_ns)
        if self._events.overrun:
            self._events.overrun = False
            self._look_due_ns = now_ns

    def look(self, now_ns: int) -> None:
        """Compare with the whole list; it is short."""
        if now_ns < self._look_due_ns:
            return
        self._look_due_ns = now_ns + LOOK_NS
        try:
            walk, found = Dump(EXPECT_GET), {}
            while not walk.done:
                for attributes in walk.read():
                    item = expectation.parse(attributes)
                    if expectation.master(item.key) in self._mirror:
                        found[item.key] = item.value
        except (KernelRefused, PeerError):
            return
        self.teller.present(found)

    def refresh(self, now_ns: int) -> None:
        """Look once more at once."""
        self._look_due_ns = 0
        self.look(now_ns)

    def make(self, now_ns: int, *, again: bool) -> None:
        """Make what is wanted, remove what is not."""
        work = self.holder.work(now_ns, again=again)
        for item in work.removals:
            self._change(EXPECT_DELETE, 0, item.key, expectation.deletion(item.key))
        for item in work.puts:
            code = self._change(EXPECT_NEW, CREATE, item.key, expectation.creation(item))
            if code:
                why = _WHY.get(code, errno.errorcode.get(code, str(code)))
                self.holder.failed(item.key, why, now_ns, for_good=code in _FOR_GOOD)
            else:
                self.holder.done(item.key)

    def _change(self, kind: int, flags: int, key: bytes, attributes: bytes) -> int:
        try:
            request = Request(kind, flags, expectation.family(key), attributes)
        except PeerError:
            return errno.EINVAL
        return self._table.change([request]).get(0, 0)
