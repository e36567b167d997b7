# SPDX-License-Identifier: GPL-3.0-or-later
"""What sync has done since it was started, in figures: what an operator and a measurement read.

`sync` enters when somebody asks. Nothing is counted in here, only gathered.
"""

from __future__ import annotations

import time

from amaranten_ha.core.copy import Copy
from amaranten_ha.core.source import Source
from amaranten_ha.io.channel import Channel
from amaranten_ha.io.events import Events
from amaranten_ha.io.locals import memory_kib
from amaranten_ha.walker import Walker


def counters(
    events: Events, source: Source, copy: Copy, channel: Channel, walker: Walker
) -> dict[str, int]:
    """Return the figures; their names are those of `sync.counters` in docs/status.md."""
    return {
        "events": events.count,
        "events_lost": events.losses,
        "batches_sent": source.position,
        "changes_sent": source.changes,
        "batches_received": copy.batches,
        "changes_received": copy.changes,
        "bytes_sent": channel.bytes_sent,
        "bytes_received": channel.bytes_received,
        "bytes_saved": channel.bytes_saved,
        "surveys": walker.surveys_ended,
        "sessions": channel.session,
        "cpu_us": time.process_time_ns() // 1000,
        "memory_kib": memory_kib(),
    }
