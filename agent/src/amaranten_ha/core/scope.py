# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections the other node can carry on: the survivable set.

Both sides enter: the active to choose what it sends, the passive to choose what a sweep may remove.
A connection of a node's own addresses dies with that node, so it is neither sent nor swept: that
is the nodes' local traffic, the agent's own, and what was masqueraded to an own address.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from amaranten_ha.core.flow import TCP, Entry, TcpState, tcp_state

_IPV6_LOOPBACK = bytes(15) + b"\x01"


@dataclass(frozen=True, slots=True)
class Scope:
    """The addresses whose connections cannot move: own ones of both nodes, broadcasts."""

    tied: frozenset[bytes]

    def with_more(self, addresses: Iterable[bytes]) -> Scope:
        """Return a scope that knows more addresses of this node."""
        return Scope(self.tied | frozenset(addresses))

    def survives(self, entry: Entry) -> bool:
        """Say whether the entry is one that the other node could carry on."""
        orig, reply = entry.orig, entry.reply
        addresses = {orig.source, orig.target, reply.source, reply.target}
        if not self.tied.isdisjoint(addresses) or any(map(_local, addresses)):
            return False
        return orig.protocol != TCP or established(entry)


def established(entry: Entry) -> bool:
    """Say whether a TCP entry is in a state that is replicated (an offloaded one tells none)."""
    state = tcp_state(entry)
    return state is None or TcpState.ESTABLISHED <= state <= TcpState.CLOSE


def _local(address: bytes) -> bool:
    """Loopback, unspecified, multicast, broadcast and link-local addresses are never forwarded."""
    if len(address) == 4:
        return address[0] in (0, 127) or address[0] >= 224
    return (
        address[0] == 0xFF
        or (address[0] == 0xFE and address[1] & 0xC0 == 0x80)
        or address in (bytes(16), _IPV6_LOOPBACK)
    )
