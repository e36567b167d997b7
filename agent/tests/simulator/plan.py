# SPDX-License-Identifier: GPL-3.0-or-later
"""A schedule as data: the pair, its wires, and the faults that befall them at which instants.

Everything that a run depends on is in a `Plan`, so the same plan gives the same run, and its `repr`
is a Python literal that a test can keep. Nothing here executes; `faults` knows what the words mean.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, fields
from functools import lru_cache

from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.timing import PROFILES

RING = KeyRing({1: bytes(range(32))}, 1)
CLUSTER = 7
NAMES = {1: "fw-a", 2: "fw-b"}
TOPOLOGIES = {
    2: ("lan", "sync"),
    3: ("lan", "sync", "wan"),
    4: ("dmz", "lan", "sync", "wan"),
}
SYNC = "sync"


class Literal:
    """Prints a dataclass as the shortest call that makes it again."""

    __slots__ = ()

    def __repr__(self) -> str:
        said = [
            f"{field.name}={value!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, slots=True, repr=False)
class Fault(Literal):
    """One thing that happens: what, when, to whom, and when it ends by itself."""

    at_ms: int
    """Counted from the moment in which the pair has settled (or from its cold start)."""
    what: str
    node: int = 0
    """Which node it befalls; 0 is both, or the wires between them."""
    links: tuple[int, ...] = ()
    """Which links; empty is all of them."""
    for_ms: int = 0
    """How long it lasts; 0 is for good, until the quiet at the end."""
    amount: int = 0
    """How much of it, in the unit of the word: per cent, milliseconds, yes or no."""


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Literal):
    """One schedule."""

    seed: int = 0
    """Draws what is lost, late or doubled on the wires; nothing else is random."""
    profile: str = "virtual"
    links: int = 2
    gateways: bool = False
    """The service links have a third party that is asked."""
    latency_us: int = 250
    late_us: int = 0
    """How late a heart's timer may fire."""
    skew: str = ""
    """What the second node's version is: "" the same, "fields" unknown TLVs, "major" another."""
    damping: bool = False
    monitor: bool = False
    """Carrier lost on a link is a reason to hand over."""
    cold: bool = False
    """The faults begin with the cold start, not with a settled pair."""
    wire_bytes: bool = False
    """Messages really are encoded, sealed, opened and decoded."""
    clocks_ms: tuple[int, int] = (1000, 1000)
    """What the two monotonic clocks show at the start."""
    faults: tuple[Fault, ...] = ()


@lru_cache(maxsize=4)
def node_plan(plan: Plan, number: int) -> NodePlan:
    """Return what one of the two nodes is told about the pair."""
    peer, found = 3 - number, []
    for link, name in enumerate(TOPOLOGIES[plan.links], start=1):
        service = name != SYNC
        found.append(
            LinkPlan(
                link,
                name,
                service,
                own=(ipaddress.ip_address(f"10.{link}.0.{number}"),),
                peer_own=(ipaddress.ip_address(f"10.{link}.0.{peer}"),),
                shared=(ipaddress.ip_address(f"10.{link}.0.100"),) if service else (),
                gateways=(gateway(link),) if service and plan.gateways else (),
                monitor=plan.monitor and service,
            )
        )
    return NodePlan(
        CLUSTER,
        NAMES[number],
        number,
        NAMES[peer],
        peer,
        tuple(found),
        PROFILES[plan.profile],
        RING,
        damping=plan.damping,
    )


@lru_cache(maxsize=8)
def gateway(link: int) -> ipaddress.IPv4Address:
    """Return the address of the third party on a link."""
    return ipaddress.IPv4Address(f"10.{link}.0.254")
