# SPDX-License-Identifier: GPL-3.0-or-later
"""Many events of one connection, heard together, are one: the newest, before any of it is read.

`sync` enters with what one turn has heard. An event of the usual shape says everything that
matters of its connection, so a later one makes it superfluous; what says more (marks, labels, a
helper) is never left out. A TCP connection that was reset is as good as gone: what was heard of it
before is superfluous, too. No other meaning is read in here.
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
            key = attributes[:52]
            tcp = attributes[32] == flow.TCP
            usual = len(attributes) == (176 if tcp else 128)
            reset = tcp and usual and attributes[_STATE4_AT] == flow.TcpState.CLOSE
        elif head == orig6 and attributes[152:156] == number:
            key = attributes[:76]
            tcp = attributes[56] == flow.TCP
            usual = len(attributes) == (224 if tcp else 176)
            reset = tcp and usual and attributes[_STATE6_AT] == flow.TcpState.CLOSE
        else:
            kept.append(event)
            continue
        if gone or reset:
            newest.pop(key, None)
            kept.append((True, attributes))
        elif usual:
            newest[key] = event
        else:
            before = newest.pop(key, None)
            if before is not None:
                kept.append(before)
            kept.append(event)
    kept.extend(newest.values())
    return kept
