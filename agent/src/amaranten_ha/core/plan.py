# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not change while the agent runs: the pair, its links, its durations and keys."""

from __future__ import annotations

from dataclasses import dataclass

from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.timing import Timing


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """A logical interface as the engine needs it."""

    number: int
    name: str
    service: bool
    own: tuple[IPAddress, ...] = ()
    peer_own: tuple[IPAddress, ...] = ()
    shared: tuple[IPAddress, ...] = ()
    gateways: tuple[IPAddress, ...] = ()
    monitor: bool = False
    """Its carrier, lost here and present there, is a reason to hand over."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """The pair as one of its nodes sees it."""

    cluster: int
    name: str
    number: int
    peer_name: str
    peer_number: int
    links: tuple[LinkPlan, ...]
    timing: Timing
    keys: KeyRing
    version: str = ""
    wait_for_peer: bool = False
    """No isolated start: a node that starts alone waits for its peer."""
    damping: bool = True

    @property
    def shared(self) -> frozenset[IPAddress]:
        """Every shared address of the pair."""
        return frozenset(address for link in self.links for address in link.shared)

    @property
    def gateways(self) -> frozenset[IPAddress]:
        """Every next hop that is a third party."""
        return frozenset(address for link in self.links for address in link.gateways)
