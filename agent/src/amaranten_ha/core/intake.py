# SPDX-License-Identifier: GPL-3.0-or-later
"""Many events of one connection, heard together, are one: the newest, before any of it is read.

`sync` enters with what one turn has heard. An event of the usual shape says everything that
matters of its connection, so a later one makes it superfluous; what says more (marks, labels, a
helper) is never left out. A TCP connection that was reset is as good as gone: what was heard of it
before is superfluous, too; and what follows one that was closed is another connection. No other
meaning is read in here.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranten_ha.core import flow

Heard = tuple[bool, bytes]
"""Whether the connection is gone, and its attributes."""

_STATE4_AT, _STATE6_AT = 140, 188
"""Where an event of the usual shape says the state of a TCP connection."""


def condense(events: Sequence[Heard]) -> list[Heard]:
    """Return the events that matter; those of one connection stay in their order."""
    kept: list[Heard] = []
    newest: dict[bytes, Heard] = {}
    orig4, orig6, number = flow.ORIG4, flow.ORIG6, flow.ID_IS
    for event in events:
        gone, attributes = event
        head = attributes[:12]
        if head == orig4 and attributes[104:108] == number:
            key, state_at = attributes[:52], _STATE4_AT
            tcp = attributes[32] == flow.TCP
            usual = len(attributes) == (176 if tcp else 128)
        elif head == orig6 and attributes[152:156] == number:
            key, state_at = attributes[:76], _STATE6_AT
            tcp = attributes[56] == flow.TCP
            usual = len(attributes) == (224 if tcp else 176)
        else:
            kept.append(event)
            continue
        if gone or (tcp and usual and attributes[state_at] == flow.TcpState.CLOSE):
            newest.pop(key, None)
            kept.append((True, attributes))
        elif usual:
            before = newest.get(key)
            if tcp and before is not None and before[1][state_at] == flow.TcpState.TIME_WAIT:
                kept.append(before)
            newest[key] = event
        else:
            before = newest.pop(key, None)
            if before is not None:
                kept.append(before)
            kept.append(event)
    kept.extend(newest.values())
    return kept
