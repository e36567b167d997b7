# SPDX-License-Identifier: GPL-3.0-or-later
"""More traffic at once than a service of replication hears.

Tests enter with a pair of nodes. Faster and answered traffic is the bench's (`tests/bench`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from sync_pair import NOBODY, Pair


@contextlib.contextmanager
def unheard(pair: Pair, ports: range) -> Iterator[None]:
    """Begin a flow to nobody at each of these ports while A's service is stopped.

    None of them ends before the test leaves, and what was reported before is forgotten.
    """
    timeout = "net.netfilter.nf_conntrack_udp_timeout"
    pair.a.run("sysctl", "-qw", f"{timeout}=600")
    with pair.a.still(), pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            sender.sendto(b"x", (NOBODY, port))
        for node in (pair.a, pair.b):
            node.forget_reports()
    try:
        yield
    finally:
        pair.a.run("sysctl", "-qw", f"{timeout}=30")
