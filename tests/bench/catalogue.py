# SPDX-License-Identifier: GPL-3.0-or-later
"""All contenders and all faults by name: what may be asked for on the command line.

Everybody who needs a list asks here, so that a new contender or fault appears in the runs and in
the tables at once. Data only.
"""

from __future__ import annotations

from tests.integration import steps

from .contenders import OUR_UNITS, Contender, Ours
from .rival import keepalived


def ours(profile: str) -> Ours:
    """The product in one profile."""
    return Ours(profile, f"ours, {profile}", OUR_UNITS, steps.HEART, (steps.SYNC,), profile)


MONITORED = Ours(
    "metal-monitor", "ours, metal, lan with monitor", OUR_UNITS, steps.HEART, (steps.SYNC,),
    profile="metal", monitored=True,
)  # fmt: skip

FAILOVER: tuple[Contender, ...] = (
    ours("metal"),
    keepalived("ka10-cached", "keepalived 10 ms, FTFW cached", advert_s="0.01", mode="cached"),
    keepalived("ka10-direct", "keepalived 10 ms, FTFW direct", advert_s="0.01", mode="direct"),
    ours("fast"),
    keepalived("ka20-cached", "keepalived 20 ms, FTFW cached", advert_s="0.02", mode="cached"),
    keepalived("ka20-direct", "keepalived 20 ms, FTFW direct", advert_s="0.02", mode="direct"),
    ours("virtual"),
    keepalived(
        "ka-default",
        "keepalived default (VRRPv2, 1 s)",
        version=2,
        advert_s="1",
        mode="cached",
        preempts=True,
    ),
    MONITORED,
    ours("relaxed"),
)
# VRRP at 100 ms: quiet enough that no switch disturbs a measurement of replication.
SYNC: tuple[Contender, ...] = (
    ours("virtual"),
    keepalived("ftfw-cached", "conntrackd FTFW, cached", advert_s="0.1", mode="cached"),
    keepalived(
        "ftfw-states",
        "conntrackd FTFW, cached, by state",
        advert_s="0.1",
        mode="cached",
        states=True,
    ),
    keepalived("ftfw-direct", "conntrackd FTFW, direct", advert_s="0.1", mode="direct"),
    keepalived("notrack", "conntrackd NOTRACK, no caches", advert_s="0.1", mode="notrack"),
)
ONLY = {MONITORED.name: ("cable",), "relaxed": ("switchover",)}
"""A variant is measured where it differs, and a profile without a rival where it must not lose."""
BY_NAME = {each.name: each for each in (*FAILOVER, *SYNC)}
