# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node says of itself to an operator: the status and the events as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amaranten_ha import __version__
from amaranten_ha.core import greeting
from amaranten_ha.core.beat import MAJOR, Flag, Floors, LinkMargin
from amaranten_ha.core.health import DISK_UNKNOWN, Trial
from amaranten_ha.core.node import Node
from amaranten_ha.core.timing import MS_NS, PROFILES, Timing
from amaranten_ha.core.trace import Event
from amaranten_ha.io.ports import Port
from amaranten_ha.settings import Settings


def status(
    node: Node,
    settings: Settings,
    ports: Iterable[Port],
    gate: dict[str, Any],
    replica_reason: str,
    notes: Iterable[str],
    now_ns: int,
) -> dict[str, Any]:
    """Return the status object; its keys are documented in docs/status.md."""
    beat = node.pulse.beat
    reasons = node.ready_reasons(now_ns)
    replica = node.replica
    return {
        "node": settings.node.name,
        "role": node.role.word,
        "reason": node.reason,
        "since_s": round((now_ns - node.since_ns) / 1e9, 1),
        "held": node.held,
        "held_s": _held_s(node, now_ns),
        "damped": node.timing.damped,
        "epoch": node.epoch,
        "version": __version__,
        "protocol": f"{MAJOR}/{greeting.MAJOR}",
        "cluster": {"id": settings.cluster.id, "name": settings.cluster.name},
        "profile": settings.cluster.profile,
        "timers": _timers(node.timing),
        "digests": _digests(node.config_digest, node.ruleset_digest),
        "peer": {
            "node": settings.peer.name,
            "role": beat.role.word if beat else "unknown",
            "state": _peer_state(node, now_ns),
            "silence": node.pulse.silence(now_ns).value,
            "version": beat.version if beat else "",
            "epoch": beat.epoch if beat else 0,
            "held": beat is not None and Flag.HELD in beat.flags,
            "digests": _digests(beat.config_digest, beat.ruleset_digest) if beat else {},
        },
        "switchover": _switchover(node, now_ns),
        "ready": not reasons,
        "reasons": list(reasons),
        "replica": {
            "state": replica.state.name.lower(),
            "entries": replica.entries,
            "lag_ms": replica.lag_ms,
            "share_permille": replica.share_permille,
            "reason": replica_reason,
        },
        "gate": gate,
        "links": {port.interface.name: _link(node, port, now_ns) for port in ports},
        "health": _health(node, settings, now_ns),
        "margin": _margin(node, settings),
        "rejected": dict(node.rejected),
        "notes": list(notes),
    }


def _switchover(node: Node, now_ns: int) -> dict[str, Any]:
    """Return whether a switchover would be granted now, asked of the active node."""
    reasons = node.hand_over_reasons(now_ns)
    return {"possible": not reasons, "reasons": list(reasons)}


def _health(node: Node, settings: Settings, now_ns: int) -> dict[str, Any]:
    beat = node.pulse.beat
    theirs = beat.health if beat else None
    return {
        "clock_ms": node.peer.clock_ms,
        "disk_permille": {
            settings.node.name: _known(node.condition.disk_permille),
            settings.peer.name: _known(theirs.disk_permille) if theirs else None,
        },
        "trial": {
            settings.node.name: node.condition.trial.word,
            settings.peer.name: (theirs.trial if theirs else Trial.NONE).word,
        },
        "next_hops": {str(hop): said for hop, said in node.third_parties.hops(now_ns).items()},
        "keys": {
            "send": node.send_key,
            "heard": node.peer.key_id,
            settings.node.name: list(node.accepted_keys),
            settings.peer.name: list(beat.keys) if beat else [],
        },
    }


def _known(permille: int) -> int | None:
    return None if permille == DISK_UNKNOWN else permille


def events(found: Iterable[Event], now_ns: int, wall_ns: int) -> list[dict[str, Any]]:
    """Return events with their time on the monotonic clock, their age and their time of day."""
    return [
        {
            "kind": event.kind,
            "text": event.text,
            "at_ns": event.at_ns,
            "age_s": round((now_ns - event.at_ns) / 1e9, 3),
            "time": round((wall_ns - (now_ns - event.at_ns)) / 1e9, 3),
        }
        for event in found
    ]


def _digests(config: bytes, ruleset: bytes) -> dict[str, str]:
    return {"config": config.hex(), "ruleset": ruleset.hex()}


def peer(node: Node, now_ns: int) -> dict[str, Any]:
    """Return what sync must know of the peer."""
    beat = node.pulse.beat
    return {
        "peer_role": beat.role.word if beat else "unknown",
        "peer_state": _peer_state(node, now_ns),
    }


def _held_s(node: Node, now_ns: int) -> int | None:
    """Return for how many seconds the node is still held; None if it is not."""
    if not node.held or node.held_until_ns is None:
        return None
    return max(0, (node.held_until_ns - now_ns) // 1_000_000_000)


def _peer_state(node: Node, now_ns: int) -> str:
    pulse = node.pulse
    if pulse.heard_ns is None:
        return "unknown"
    if pulse.alive(now_ns):
        return "silent" if pulse.probing(now_ns) else "alive"
    return "lost"


def _link(node: Node, port: Port, now_ns: int) -> dict[str, Any]:
    link = port.interface.link
    pulse, arrivals = node.pulse.links[link], node.margins.links[link].margin()
    age_ns = None if pulse.heard_ns is None else now_ns - pulse.heard_ns
    return {
        "device": port.interface.device,
        "role": port.interface.role,
        "carrier": port.carrier,
        "heard": age_ns is not None and age_ns < node.timing.dead_ms * MS_NS,
        "last_heard_ms": None if age_ns is None else age_ns // MS_NS,
        "in": _direction(arrivals),
        "out": _direction(node.margins.out.get(link)),
        "dropped": port.dropped(),
        "problem": port.problem,
    }


def _direction(margin: LinkMargin | None) -> dict[str, Any] | None:
    if margin is None:
        return None
    return {
        "beats": margin.beats,
        "lost": margin.lost,
        "near_misses": margin.near_misses,
        "outages": margin.outages,
        "jitter_ms": margin.jitter_us / 1000,
        "silence_ms": margin.silence_us / 1000,
    }


def _margin(node: Node, settings: Settings) -> dict[str, Any]:
    margins = node.margins
    limits = margins.limits()
    return {
        "near_misses": margins.peer.near_misses,
        "nodes": {
            settings.node.name: _floors(margins.floors()),
            settings.peer.name: _floors(margins.peer_floors),
        },
        "floor": {
            "dead_ms": limits.dead_us / 1000,
            "lease_ms": limits.lease_us / 1000,
            "delay_ms": limits.excess_us / 1000,
        },
        "profiles": {name: _timers(row) for name, row in PROFILES.items()},
        "problems": list(limits.problems(node.timing)),
        "advice": limits.advice(settings.cluster.profile, node.timing),
    }


def _timers(timing: Timing) -> dict[str, int]:
    return {name: getattr(timing, name) for name in ("beat_ms", "dead_ms", "lease_ms")}


def _floors(floors: Floors) -> dict[str, Any]:
    return {
        "late_ms": floors.late_us / 1000,
        "answer_ms": floors.answer_us / 1000 if floors.answer_us else None,
        "silence_ms": floors.silence_us / 1000,
        "measured_s": floors.measured_s,
    }
