# SPDX-License-Identifier: GPL-3.0-or-later
"""The event socket against the running kernel: what is heard, what is dropped before it costs."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest
from sync_netns import Namespace
from sync_samples import direction, entry, tcp_entry, tcp_info, udp_entry

from amaranten_ha.core import flow, rewrite, tlv
from amaranten_ha.io.events import Events
from amaranten_ha.io.netlink import CREATE_EXCLUSIVE, CT_DELETE, CT_NEW, Request, Table

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]

LABELS = tlv.attribute(flow.LABELS, b"\x01" + bytes(15))


@pytest.fixture(scope="module")
def box() -> Iterator[Namespace]:
    made = Namespace(f"sy{os.getpid()}e")
    made.run("nft", "-f", "-", stdin=(
        "table inet fw {\n"
        "chain in { type filter hook input priority 0; ct state invalid counter;"
        " ct label 1 counter; tcp dport 9 drop; }\n"
        "}\n"
    ))  # fmt: skip
    made.run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=1")
    yield made
    made.remove()


class Ears:
    """An event socket, and a stranger who changes the table."""

    def __init__(self, box: Namespace) -> None:
        box.run("conntrack", "-F", check=False)
        with box.inside():
            self.ours, self.stranger = Table(), Table()
            self.events = Events(self.ours.port)

    def heard(self, *requests: Request) -> list[tuple[bool, int, int]]:
        """Have the stranger make changes; return what is heard: gone, protocol, state."""
        assert self.stranger.change(requests) == {}
        found = []
        for gone, attributes in self.events.drain(1000):
            if gone:
                found.append((True, 0, 0))
            else:
                said = flow.parse(attributes)
                found.append((False, said.protocol, said.state))
        return found

    def close(self) -> None:
        for each in (self.ours, self.stranger, self.events):
            each.close()


@pytest.fixture
def ears(box: Namespace) -> Iterator[Ears]:
    made = Ears(box)
    yield made
    made.close()


def create(attributes: bytes, *more: bytes) -> Request:
    wanted = flow.parse(attributes)
    plain = rewrite.creation(wanted) + b"".join(more)
    return Request(CT_NEW, CREATE_EXCLUSIVE, wanted.family, plain)


def update(attributes: bytes) -> Request:
    wanted = flow.parse(attributes)
    return Request(CT_NEW, 0, wanted.family, rewrite.update(wanted))


def delete(attributes: bytes) -> Request:
    wanted = flow.parse(attributes)
    return Request(CT_DELETE, 0, wanted.family, wanted.key)


def test_half_open_connections_make_no_noise(box: Namespace, ears: Ears) -> None:
    with box.inside():
        deaf = Events(0)
        deaf._attach(struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF))  # the control: everything
    lines = []
    for _number in range(20):
        line = box.socket(socket.AF_INET, socket.SOCK_STREAM)
        line.setblocking(False)
        line.connect_ex(("127.0.0.1", 9))
        lines.append(line)
    assert box.run("conntrack", "-L", "-p", "tcp").count("SYN_SENT") == 20
    for line in lines:  # a SYN that is sent again would begin anew
        line.close()
    box.run("conntrack", "-D", "-p", "tcp")
    assert ears.events.drain(1000) == []
    assert len(deaf.drain(1000)) == 40
    deaf.close()


@pytest.mark.parametrize("state", range(3, 9))
def test_established_and_closing_ones_are_heard(ears: Ears, state: int) -> None:
    whole = tcp_entry(2, state=state)
    assert ears.heard(create(whole)) == [(False, flow.TCP, state)]
    # What was heard to be closed is forgotten already: its end is of no interest.
    assert ears.heard(delete(whole)) == ([(True, 0, 0)] if state < 7 else [])


def test_the_end_of_what_nobody_has_answered_is_heard(ears: Ears) -> None:
    """A reset removes it, and the kernel does not say before that it is closed."""
    ears.heard(create(tcp_entry(2, state=8, status=0x188)))
    assert ears.heard(delete(tcp_entry(2))) == [(True, 0, 0)]


def test_a_half_open_connection_is_heard_when_it_is_established(ears: Ears) -> None:
    ears.heard(create(tcp_entry(3, state=2)))
    assert ears.heard(update(tcp_entry(3, state=3))) == [(False, flow.TCP, 3)]


def test_what_is_told_only_once_is_heard_also_while_half_open(ears: Ears) -> None:
    assert ears.heard(create(tcp_entry(4, state=1), LABELS)) == [(False, flow.TCP, 1)]


def test_other_protocols_are_all_heard(ears: Ears) -> None:
    tags = tlv.attribute(1, b"\x04") + tlv.attribute(2, b"abcd") + tlv.attribute(3, b"efgh")
    sctp = entry(
        direction("10.1.0.9", "198.51.100.7", flow.SCTP, 1, 2),
        direction("198.51.100.7", "10.1.0.9", flow.SCTP, 2, 1),
        tlv.nest(flow.PROTOINFO, tlv.nest(3, tags)),
    )
    six = entry(
        direction("fd71::9", "2001:db8::7", flow.TCP, 1, 2),
        direction("2001:db8::7", "fd71::9", flow.TCP, 2, 1),
        tcp_info(3),
    )
    esp = entry(
        direction("10.1.0.9", "198.51.100.7", 50), direction("198.51.100.7", "10.1.0.9", 50)
    )
    found = ears.heard(*map(create, (udp_entry(), sctp, six, esp)))
    assert [protocol for _gone, protocol, _state in found] == [17, flow.SCTP, flow.TCP, 50]


def test_many_are_read_at_once_and_none_is_lost(ears: Ears) -> None:
    requests = [create(udp_entry(sport)) for sport in range(1, 2001)]
    assert ears.stranger.change(requests) == {}
    found = []
    while part := ears.events.drain(300):
        assert len(part) <= 300 + 256
        found += part
    ports = {flow.parse(attributes).key for _gone, attributes in found}
    assert len(found) == len(ports) == 2000 == ears.events.count
    assert not ears.events.overrun


def test_a_loss_is_noticed(ears: Ears) -> None:
    ears.events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert ears.stranger.change([create(udp_entry(sport)) for sport in range(1, 200)]) == {}
    ears.events.drain(1000)
    assert ears.events.overrun
    assert ears.events.losses == 1
