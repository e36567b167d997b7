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
