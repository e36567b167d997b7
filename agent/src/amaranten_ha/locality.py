# SPDX-License-Identifier: GPL-3.0-or-later
"""What ties connections to one machine: the own addresses of both nodes, declared or not.

`sync` enters once a second to learn what this machine has, and when the peer says what it has. The
shared addresses are never among them. Nothing in here decides what is done about it.
"""

from __future__ import annotations

from collections.abc import Iterable

from amaranten_ha.io import locals as local_facts
from amaranten_ha.io.inventory import host_addresses
from amaranten_ha.settings import Address, Settings


class Locality:
    """The addresses whose connections cannot move, and whether this kernel tracks any at all."""

    def __init__(self, settings: Settings) -> None:
        self._shared = _packed(each.shared for each in settings.interfaces)
        self._declared = _packed(each.own + each.peer_own for each in settings.interfaces)
        self._declared |= {
            address.network.broadcast_address.packed
            for each in settings.interfaces
            for address in each.own
            if address.version == 4
        }
        self._peer_own: frozenset[bytes] = frozenset()
        self.own: frozenset[bytes] = frozenset()
        self.said = False
        """The peer knows them."""
        self.trouble = ""

    @property
    def tied(self) -> frozenset[bytes]:
        """All addresses whose connections cannot move."""
        return self._declared | self.own | self._peer_own

    @property
    def ours(self) -> frozenset[bytes]:
        """All addresses of the pair, those that move included."""
        return self.tied | self._shared

    def learn(self) -> None:
        """Look at this machine."""
        self.trouble = local_facts.conntrack_trouble()
        own = frozenset(each.address.packed for each in host_addresses()) - self._shared
        if own != self.own:
            self.own, self.said = own, False

    def peer_said(self, addresses: frozenset[bytes]) -> None:
        """Take in what the peer has, beyond what is declared: a management address for example."""
        self._peer_own = addresses - self._shared


def _packed(groups: Iterable[tuple[Address, ...]]) -> frozenset[bytes]:
    return frozenset(address.ip.packed for group in groups for address in group)
