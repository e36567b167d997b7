# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject of neighbours: whom the active reaches, so that the passive need not ask first.

`vital` enters. The passive notes them as STALE: the first packet after a take-over leaves at once,
and the kernel asks the neighbour itself whether it is still there. What this node has learned by
itself just now, or was told by its administrator, is never replaced; own and shared addresses of
either node are never told and never made.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable

from amaranten_ha.core import neighbour
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.neighbour import Neighbour
from amaranten_ha.core.vital import Holder, Item, Teller, Topic
from amaranten_ha.io.neighbours import NeighbourTable
from amaranten_ha.settings import Interface

S_NS = 1_000_000_000
LOOK_NS = 20 * S_NS


class Neighbours:
    """Whom the nodes reach on the service interfaces."""

    topic = Topic.NEIGHBOURS
    what = "neighbours"

    def __init__(
        self, interfaces: Iterable[Interface], ours: Callable[[], frozenset[bytes]]
    ) -> None:
        """`ours` returns the addresses that belong to the pair."""
        self.teller = Teller(neighbour.COUNT_MAX)
        self.holder = Holder(neighbour.COUNT_MAX)
        self._devices = {each.link: each.device for each in interfaces if each.role == "service"}
        self._ours = ours
        self._table = NeighbourTable()
        self._links: dict[int, int] = {}
        """Number of the device -> number of the logical interface."""
        self._look_due_ns = 0
        self.troubles: dict[str, str] = {}

    def fileno(self) -> int:
        """Return the descriptor of the events."""
        return self._table.fileno()

    def hear(self, now_ns: int) -> None:
        """Take in who was learned, and who is not there any more."""
        rows, overrun = self._table.events()
        ours = self._ours() if rows else frozenset()
        for row, gone in rows:
            link = self._links.get(row.device)
            if link is None or row.address in ours:
                continue
            key = neighbour.key(link, row.address)
            if row.learned and not gone:
                self.teller.put(key, row.mac)
            elif gone or not row.state & (neighbour.NOARP | neighbour.PERMANENT):
                self.teller.remove(key)
                # The kernel collects what nobody uses; the peer still knows better.
                if gone:
                    self.holder.lost(key)
        if overrun:
            self._look_due_ns = now_ns

    def look(self, now_ns: int) -> None:
        """Compare with the whole table."""
        if now_ns < self._look_due_ns:
            return
        self._look_due_ns = now_ns + LOOK_NS
        self._links = {}
        for link, device in self._devices.items():
            with contextlib.suppress(OSError):
                self._links[socket.if_nametoindex(device)] = link
        rows = self._rows()
        learned = sorted((row for row in rows.values() if row.learned), key=lambda row: row.used)
        self.teller.present(
            {
                neighbour.key(self._links[row.device], row.address): row.mac
                for row in learned[: neighbour.COUNT_MAX]
            }
        )
        for key in self.holder.wanted:
            if key not in rows:
                self.holder.lost(key)

    def refresh(self, now_ns: int) -> None:
        """Look once more at once."""
        self._look_due_ns = 0
        self.look(now_ns)

    def make(self, now_ns: int, *, again: bool) -> None:
        """Note the peer's neighbours as one's own."""
        work = self.holder.work(now_ns, again=again)
        if not (work.puts or work.removals):
            return
        indexes = {link: index for index, link in self._links.items()}
        rows, ours = self._rows(), self._ours()
        for item in work.removals:
            row = rows.get(item.key)
            if row is not None and row.state == neighbour.STALE and row.mac == item.value:
                self._table.remove(row)
        for item in work.puts:
            row = self._wanted(item, indexes, ours)
            found = rows.get(item.key)
            why = ""
            if row is not None and (found is None or found.yields(row.mac)):
                if found is None or not (found.learned and found.mac == row.mac):
                    why = self._table.put(row)
            if why:
                self.holder.failed(item.key, why, now_ns)
            else:
                self.holder.done(item.key)

    def _wanted(
        self, item: Item, indexes: dict[int, int], ours: frozenset[bytes]
    ) -> Neighbour | None:
        try:
            link, address, mac = neighbour.unpacked(item)
        except PeerError:
            return None
        if link not in indexes or address in ours:
            return None
        return Neighbour(indexes[link], address, mac, neighbour.STALE, 0)

    def _rows(self) -> dict[bytes, Neighbour]:
        """The own table on the service interfaces, without the addresses of the pair."""
        ours = self._ours()
        try:
            return {
                neighbour.key(self._links[row.device], row.address): row
                for row in self._table.rows()
                if row.device in self._links and row.address not in ours
            }
        except KernelRefused:
            return {}
