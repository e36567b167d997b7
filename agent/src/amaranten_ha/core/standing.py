# SPDX-License-Identifier: GPL-3.0-or-later
"""How the replica stands, in one word and one sentence: what sync reports to heart.

`sync` enters at every report. The word gates a switchover, the sentence is what the operator reads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from amaranten_ha.core import census
from amaranten_ha.core.beat import Role
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.source import Source
from amaranten_ha.core.stream import State

SENDERS = (Role.ACTIVE, Role.HANDING_OVER)
REPAIRING = "events were lost: comparing the whole table"


class Troubles(NamedTuple):
    """What is wrong below: with this kernel's table, and with the way to the peer."""

    table: str
    channel: str
    repairing: bool = False
    """Events were lost, and the table was not compared since."""


def state(role: Role, source: Source, copy: Copy, now_ns: int, *, repairing: bool) -> State:
    """Return what the peer is told; `repairing` as in `Troubles`."""
    passive = role is Role.PASSIVE
    return State(
        role=role,
        want=copy.want,
        done=copy.done,
        position=copy.position if passive else source.position,
        age_us=(now_ns - copy.reached_ns) // 1000 if passive and copy.position else 0,
        barrier=copy.barrier,
        told=len(copy.mirror) if passive else source.told,
        lag_ms=0 if passive else source.lag_ms(now_ns),
        refused=copy.refused.total(),
        share_permille=copy.share_permille,
        missing=copy.audit.missing,
        stale=copy.audit.stale,
        own=source.census.counted[census.OWN],
        masquerade=source.census.counted[census.MASQUERADE],
        half_open=source.census.counted[census.HALF_OPEN],
        helpless=len(copy.helpless),
        lag_entries=0 if passive else source.lag_entries,
        newborn=0 if passive else source.ledger.births,
        repairing=repairing,
    )


def report(
    role: Role,
    peer: State | None,
    source: Source,
    copy: Copy,
    name: str,
    troubles: Troubles,
    now_ns: int,
) -> dict[str, Any]:
    """Return what heart is told; `peer` is what the peer, called `name`, said last."""
    word, reason = standing(role, peer, copy, name, troubles)
    synced = word == "synced"
    if role is Role.PASSIVE:
        lag_ms, lag_entries = (peer.lag_ms, peer.lag_entries) if peer else (0, 0)
        share = copy.share_permille if synced else 0
    else:
        lag_ms, lag_entries = source.lag_ms(now_ns), source.lag_entries
        share = peer.share_permille if peer and synced else 0
    return {
        "op": "replica",
        "state": word,
        "entries": len(copy.mirror),
        "lag_ms": lag_ms,
        "share_permille": share,
        "barrier": copy.barrier,
        "reason": reason,
        "missing": copy.audit.missing if role is Role.PASSIVE else peer.missing if peer else 0,
        "stale": copy.audit.stale if role is Role.PASSIVE else peer.stale if peer else 0,
        "lag_entries": lag_entries,
    }


def survival(
    role: Role, peer: State | None, source: Source, copy: Copy, *, synced: bool
) -> dict[str, Any]:
    """Return x of y: how many of the active's connections would survive a switch now."""
    peer = peer or State(Role.STARTING)
    passive = role is Role.PASSIVE
    here = source.census.counted
    counted = {
        census.OWN: peer.own if passive else here[census.OWN],
        census.MASQUERADE: peer.masquerade if passive else here[census.MASQUERADE],
        census.HALF_OPEN: peer.half_open if passive else here[census.HALF_OPEN],
        census.NO_HELPER: len(copy.helpless) if passive else peer.helpless,
    }
    return census.summary(
        counted,
        peer.told if passive else len(source.mirror),
        peer.newborn if passive else source.ledger.births,
        copy.audit.missing if passive else peer.missing,
        synced,
    )


def detail(said: dict[str, Any], source: Source, copy: Copy, now_ns: int) -> dict[str, Any]:
    """Return what sync answers to an operator: the report, and what is behind it."""
    compared_ns = copy.audit.compared_ns
    return {name: value for name, value in said.items() if name != "op"} | {
        "surplus": copy.audit.surplus,
        "compared_ms_ago": None if compared_ns is None else (now_ns - compared_ns) // 1_000_000,
        "refused": dict(copy.refused),
        "malformed": source.malformed,
    }


def standing(
    role: Role, peer: State | None, copy: Copy, name: str, troubles: Troubles
) -> tuple[str, str]:
    """Return the state and the reason; `peer` is what the peer, called `name`, said last."""
    if troubles.table:
        return "stale", troubles.table
    if peer is None:
        return "disconnected", troubles.channel
    if role is Role.PASSIVE:
        return _as_passive(peer, copy, name, repairing=troubles.repairing)
    if role in SENDERS:
        return _as_active(peer, name, repairing=troubles.repairing)
    return "stale", f"this node is {role.word}"


def _as_passive(peer: State, copy: Copy, name: str, *, repairing: bool) -> tuple[str, str]:
    if copy.complete:
        if repairing:
            return "bulk", REPAIRING
        if peer.repairing:
            return "bulk", f"{name} has lost events: it compares its whole table"
        if copy.audit.compared_ns is None:
            return "bulk", f"everything was received: comparing it with {name}"
        reasons = [f"{count} refused: {why}" for why, count in copy.refused.most_common()]
        return "synced", "; ".join(reasons + _wrong(copy.audit.missing, copy.audit.stale))
    if peer.role not in SENDERS:
        return "stale", f"{name} is {peer.role.word}: nobody sends"
    late = f"; it was not complete in time {copy.late} times in a row" if copy.late else ""
    return "bulk", f"receiving everything from {name}{late}"


def _as_active(peer: State, name: str, *, repairing: bool) -> tuple[str, str]:
    if peer.role is not Role.PASSIVE:
        return "stale", f"{name} is {peer.role.word}: it takes nothing"
    if not peer.want or peer.want != peer.done:
        return "bulk", f"sending everything to {name}"
    if repairing:
        return "bulk", REPAIRING
    refused = [f"{name} refused {peer.refused} entries"] if peer.refused else []
    return "synced", "; ".join(refused + _wrong(peer.missing, peer.stale))


def _wrong(missing: int, stale: int) -> list[str]:
    """Say how the copy differs."""
    return [
        f"{count} {word} on the passive"
        for count, word in ((missing, "missing"), (stale, "stale"))
        if count
    ]
