# SPDX-License-Identifier: GPL-3.0-or-later
"""A passive whose kernel takes no more: said with its reason, no obstacle to a take-over, and over.

The maximum is one for all namespaces of a machine, but each counts its own entries: so the table of
the passive router is filled to the last entry with what is nobody's business, its loopback's. To
the passive this is the same as a smaller nf_conntrack_max. The service is the real one.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import SERVER, Node, Pair
from sync_samples import direction

from amaranten_ha.core import flow, tlv
from amaranten_ha.io.netlink import CREATE, CT_DELETE, CT_NEW, Request, Table

MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")
ASSURED = 0xE
AT_ONCE = 4096
ROOM = 64
V4 = 2
UDP = 17

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not MAX.exists() or int(MAX.read_text()) > 300_000, reason="more entries than a test makes"
    ),
]


def pieces() -> list[bytes]:
    """An entry of the node with itself, cut where its two ports are; in all there are four."""
    first, second = 0x7171, 0x7272
    there = direction("127.0.0.1", "127.0.0.2", UDP, first, second)
    back = direction("127.0.0.2", "127.0.0.1", UDP, second, first)
    whole = tlv.nest(flow.ORIG, there) + tlv.nest(flow.REPLY, back)
    whole += tlv.attribute(flow.STATUS, ASSURED.to_bytes(4, "big"))
    whole += tlv.attribute(flow.TIMEOUT, (600).to_bytes(4, "big"))
    return re.split(b"qq|rr", whole)


def requests(kind: int, flags: int, numbers: range) -> list[Request]:
    """The same change of each of these entries."""
    begin, middle, between, last, end = pieces()
    made = []
    for number in numbers:
        one = (number % 60_000 + 1).to_bytes(2, "big")
        two = (number // 60_000 + 1).to_bytes(2, "big")
        entry = b"".join((begin, one, middle, two, between, two, last, one, end))
        made.append(Request(kind, flags, V4, entry))
    return made


def fill(table: Table, made: int) -> int:
    """Make entries until the kernel takes no more; returns how many there are."""
    while True:
        refused = table.change(requests(CT_NEW, CREATE, range(made, made + AT_ONCE)))
        made += AT_ONCE - len(refused)
        if refused:
            return made


def several(pair: Pair, first: int) -> dict[int, Talk]:
    """Connections by their ports: more than entries of the passive may end while it is full.

    The kernel itself makes room then: what is not assured goes with its next collection.
    """
    ports = range(first, first + 24)
    return {port: tcp(pair.client, pair.server, SERVER, SERVER, port) for port in ports}


def held(node: Node, talks: dict[int, Talk]) -> set[int]:
    """Those of them that a node has an entry of."""
    lines = node.entries("-p", "tcp")
    return {port for port in talks if any(f"dport={port} " in line for line in lines)}


def wait_full(pair: Pair) -> None:
    """Wait until both say that the passive's kernel takes no more."""

    def said() -> bool:
        here, there = str(pair.b.report.get("reason")), str(pair.a.report.get("reason"))
        return "refused: table full" in here and "refused" in there

    try:
        wait_for(said, 40, "")
    except AssertionError:
        raise AssertionError(f"{pair.a.report} {pair.b.report} {pair.b.log}") from None


def test_a_full_table_is_said_blocks_no_take_over_and_heals(wired: Pair) -> None:
    wired.begin()
    known = tcp(wired.client, wired.server, SERVER, SERVER, 5401)
    assert known.exchange()
    wired.settle()
    wired.b.kill()
    with wired.b.inside():
        table = Table()
    made = fill(table, 0)
    assert made > 0.9 * int(MAX.read_text())
    # The session is tracked too: it needs a little room to begin, and none to go on.
    assert not table.change(requests(CT_DELETE, 0, range(made - ROOM, made)))
    wired.b.start()
    wired.settle(60)
    made = fill(table, made - ROOM)
    late = several(wired, 5410)
    wait_full(wired)
    # What is there goes on through the other node, at once; what is not there does not.
    wired.roles("passive", "active", 2)
    wired.activate(wired.b)
    assert known.exchange()
    refused = late.keys() - held(wired.b, late)
    assert refused
    assert not late[min(refused)].exchange(timeout_s=0.6)
    # Active again, A has lost what B never had. What begins now is refused, then copied by itself.
    wired.roles("active", "passive", 3)
    wired.activate(wired.a)
    wired.settle(60)
    assert known.exchange()
    # What B had of the lost ones is gone from its table too: that was room.
    fill(table, made)
    later = several(wired, 5440)
    wait_full(wired)
    assert held(wired.b, later) != later.keys()
    assert not table.change(requests(CT_DELETE, 0, range(ROOM)))
    table.close()
    for node in (wired.a, wired.b):
        node.wait_report(40, state="synced", share_permille=1000, reason="")
    assert held(wired.b, later) == later.keys()
    wired.roles("passive", "active", 4)
    wired.activate(wired.b)
    assert known.exchange() and all(talk.exchange() for talk in later.values())
    for talk in (known, *late.values(), *later.values()):
        talk.close()
