# SPDX-License-Identifier: GPL-3.0-or-later
"""The active's side as tests have it: a source whose peer has everything, and all that it says."""

from __future__ import annotations

from amaranten_ha.core import flow, stream, tlv
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source, Survey

S_NS = 1_000_000_000
LABELS = tlv.attribute(flow.LABELS, b"\x01" + bytes(15))


def sending() -> Source:
    """The source of an active node whose peer has everything."""
    source = Source(Mirror(Scope(frozenset())))
    source.alone = True
    assert source.begin_survey(Survey.BULK, 1) == stream.BulkBegin(1)
    source.end_survey(0)
    assert source.take(S_NS, urgent=True) == stream.BulkEnd(1)
    return source


def told(source: Source, now_ns: int = S_NS) -> list[tuple[Op, bytes]]:
    """Everything that is said now."""
    said: list[tuple[Op, bytes]] = []
    while (message := source.take(now_ns, urgent=True)) is not None:
        if isinstance(message, stream.Changes):
            said += message.changes
    return said
