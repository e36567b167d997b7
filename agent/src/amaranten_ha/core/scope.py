# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections the other node can carry on: the survivable set.

Both sides enter: the active to choose what it sends, the passive to choose what a sweep may remove.
A connection of a node's own addresses dies with that node, so it is neither sent nor swept: that
is the nodes' local traffic, the agent's own, and what was masqueraded to an own address. A TCP
connection that is closed is sent once more and then left to itself on both nodes.
"""

from __future__ import annotations

from amaranten_ha.core.flow import TCP, UNSAID, Entry, TcpState

KNOWN_MAX = 65_536
_IPV6_LOOPBACK = bytes(15) + b"\x01"
_FIRST, _LAST = TcpState.ESTABLISHED, TcpState.LAST_ACK


class Scope:
    """The addresses whose connections cannot move: own ones of both nodes, broadcasts."""

    __slots__ = ("_known", "tied")

    def __init__(self, tied: frozenset[bytes]) -> None:
        self.tied = tied
        self._known: dict[bytes, bool] = {}

    def survives(self, entry: Entry) -> bool:
        """Say whether the entry is one that the other node could carry on.

        A TCP entry that does not tell its state counts: whoever needs the state looks it up.
        """
        if entry.protocol == TCP and not (_FIRST <= entry.state <= _LAST or entry.state == UNSAID):
            return False
        return self._all_move(entry)

    def belongs(self, entry: Entry) -> bool:
        """Say whether a copy may hold the entry: one that survives, or a closed one."""
        return self.survives(entry) or (entry.over and self._all_move(entry))

    def _all_move(self, entry: Entry) -> bool:
        known = self._known
        for address in entry.addresses:
            moves = known.get(address)
            if moves is None:
                moves = self._learn(address)
            if not moves:
                return False
        return True

    def moves(self, address: bytes) -> bool:
        """Say whether connections of this address can move."""
        moves = self._known.get(address)
        return self._learn(address) if moves is None else moves

    def _learn(self, address: bytes) -> bool:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        moves = self._known[address] = address not in self.tied and not _local(address)
        return moves


def _local(address: bytes) -> bool:
    """Loopback, unspecified, multicast, broadcast and link-local addresses are never forwarded."""
    if len(address) == 4:
        return address[0] in (0, 127) or address[0] >= 224
    return (
        address[0] == 0xFF
        or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
        or address in (bytes(16), _IPV6_LOOPBACK)
    )
