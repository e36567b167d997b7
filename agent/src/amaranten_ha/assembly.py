# SPDX-License-Identifier: GPL-3.0-or-later
"""From the settings and the state on disk to what the engine starts with; read once, at start."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from amaranten_ha import __version__
from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.timing import HELD_S_MAX
from amaranten_ha.settings import Settings


def plan_of(settings: Settings) -> NodePlan:
    """Return what the engine needs of the settings."""
    links = tuple(
        LinkPlan(
            number=each.link,
            name=each.name,
            service=each.role == "service",
            own=tuple(address.ip for address in each.own),
            peer_own=tuple(address.ip for address in each.peer_own),
            shared=tuple(address.ip for address in each.shared),
            gateways=tuple(
                gateway
                for gateway in settings.gateways
                if any(gateway in address.network for address in each.own + each.shared)
            ),
            monitor=each.monitor,
        )
        for each in settings.interfaces
    )
    return NodePlan(
        cluster=settings.cluster.id,
        name=settings.node.name,
        number=settings.node.number,
        peer_name=settings.peer.name,
        peer_number=settings.peer.number,
        links=links,
        timing=settings.timing,
        keys=settings.keys,
        version=__version__,
        wait_for_peer=settings.cluster.wait_for_peer,
        damping=settings.cluster.damping,
    )


def remembered_epochs(path: Path) -> tuple[int, int]:
    """Return (last active, highest known) epoch, as sync wrote them; zeros if there are none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text())
        return int(found["last_active"]), int(found["epoch"])
    return 0, 0


def remembered_hold(path: Path, wall_s: float) -> float:
    """Return for how many seconds this node is still held; 0 if it is not."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        left_s = float(json.loads(path.read_text())["until"]) - wall_s
        return max(0.0, min(left_s, HELD_S_MAX))
    return 0.0
