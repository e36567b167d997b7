# SPDX-License-Identifier: GPL-3.0-or-later
"""Liberal first, then strict: what a new active does with the windows of its copies.

Counters of dropped invalid packets are the proof: none in the traffic of the connection, before,
during and after a switch and the way back; and one for a forged segment, once the copy is strict.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import SERVER, SHARED_WAN, Node, Pair

from amaranten_ha.core import flow, rewrite

pytestmark = pytest.mark.live

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OFF_NO_WP = 19, 20, 21, -1
"""linux/tcp.h; the socket module does not have them."""


def liberal(node: Node, port: int) -> list[bool]:
    """Whether the connections to this port are liberal here."""
    return [
        rewrite.is_liberal(each)
        for each in node.dumped()
        if each.protocol == flow.TCP and each.key[48:50] == port.to_bytes(2, "big")
    ]


def sequence(end: socket.socket, queue: int) -> int:
    """The next sequence number of one queue of an end: 1 what it receives, 2 what it sends.

    tcp(7) has no option for it outside of repair, which is left without a window probe.
    """
    end.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    try:
        end.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        return end.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF
    finally:
        end.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)


def forge(pair: Pair, talk: Talk, port: int) -> None:
    """Send a segment from far beyond the windows, in the name of the server.

    Beyond and not before them: the kernel takes one with old numbers for a late repetition and
    lets it pass, strict or not.
    """
    client_port = talk.far.getpeername()[1]
    number = (sequence(talk.far, 2) + (1 << 30)) & 0xFFFFFFFF
    known = sequence(talk.far, 1)
    head = struct.pack(">HHIIBBHHH", port, client_port, number, known, 5 << 4, 0x10, 512, 0, 0)
    pseudo = socket.inet_aton(SERVER) + socket.inet_aton(SHARED_WAN) + struct.pack(">HH", 6, 20)
    total = sum(struct.unpack(">16H", pseudo + head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    segment = head[:16] + struct.pack(">H", ~total & 0xFFFF) + head[18:]
    with pair.server.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, 6) as raw:
        raw.bind((SERVER, 0))
        raw.sendto(segment, (SHARED_WAN, 0))


def test_copies_are_tightened_once_traffic_was_seen(pair: Pair) -> None:
    busy = tcp(pair.client, pair.server, SERVER, SERVER, 5101)
    quiet = tcp(pair.client, pair.server, SERVER, SERVER, 5102)
    assert busy.exchange() and quiet.exchange()
    pair.settle()
    assert liberal(pair.b, 5101) == liberal(pair.b, 5102) == [True]
    pair.hand_over(pair.a, pair.b, 2)
    assert busy.exchange()
    forge(pair, busy, 5101)
    assert pair.b.drops() == [], "while it is liberal any segment passes"

    def tightened() -> bool:
        assert busy.exchange()
        return liberal(pair.b, 5101) == [False]

    wait_for(tightened, 20, "the busy connection is strict")
    assert liberal(pair.b, 5102) == [True], "nothing is known of the quiet one's windows"
    for _try in range(50):
        assert busy.exchange()
    assert pair.b.drops() == []
    forge(pair, busy, 5101)
    wait_for(lambda: len(pair.b.drops()) == 1, 10, "the forged segment is invalid now")
    assert "invalid counter packets 1 " in pair.b.drops()[0]
    assert busy.exchange() and quiet.exchange()
    # The copy on the node that was active stays liberal: it sees nothing of this.
    assert liberal(pair.a, 5101) == [True]
    for talk in (busy, quiet):
        talk.close()


def test_on_the_way_back_nothing_is_invalid_and_stale_windows_stay_liberal(pair: Pair) -> None:
    near = tcp(pair.client, pair.server, SERVER, SERVER, 5103)
    far = tcp(pair.client, pair.server, SERVER, SERVER, 5104)
    assert near.exchange() and far.exchange()
    pair.hand_over(pair.a, pair.b, 2)
    assert near.exchange() and far.exchange()
    move(far, 8 << 20)
    pair.settle()
    pair.hand_over(pair.b, pair.a, 3)
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert near.exchange() and far.exchange()
        time.sleep(0.05)
    # A's own entries never catch up: what they have not seen acknowledged fits into no window.
    assert liberal(pair.a, 5103) == liberal(pair.a, 5104) == [True]
    move(far, 1 << 20)
    assert pair.a.drops() + pair.b.drops() == []
    for talk in (near, far):
        talk.close()


def move(talk: Talk, total: int) -> None:
    """Bring the numbers of one side far ahead of what the other node has seen."""
    talk.near.setblocking(False)
    sent = received = 0
    while received < total:
        if sent < total:
            with contextlib.suppress(BlockingIOError):
                sent += talk.near.send(b"x" * min(65536, total - sent))
        received += len(talk.far.recv(65536))
    talk.near.setblocking(True)
