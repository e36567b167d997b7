# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections carried from one router's kernel into another's by the agent's own code.

The traffic goes on through the second router under a strict ruleset: invalid is dropped, new must
be SYN, tcp_loose is 0. What leaks or dies without the agent's rewrite is shown beside it.
"""

from __future__ import annotations

import socket
import struct
from errno import EBUSY, ENOMEM

from amaranten_ha.core import flow, rewrite
from amaranten_ha.io.events import Events
from amaranten_ha.io.netlink import CT_NEW, Request, Table

from ..guest import ctnetlink as ct
from ..guest.net import Net, until
from ..guest.routers import (
    CLIENT,
    CLIENT6,
    FILTER,
    SERVER,
    SERVER6,
    SHARED,
    SHARED6,
    Routers,
    create,
    entries,
    replicate,
)
from ..guest.talk import PORT, Ear, Mouth

V4, V6 = socket.AF_INET, socket.AF_INET6


def _udp(routers: Routers, text: bytes, v6: bool = False) -> str:
    """Send a datagram of one and the same flow; the source that the server sees."""
    ear = Ear(routers.server, V6 if v6 else V4)
    mouth = Mouth(routers.client, CLIENT6 if v6 else CLIENT, 4000)
    mouth.says(text, SERVER6 if v6 else SERVER)
    ear.hears(text)
    return ear.sources[text]


def check_udp_goes_on_translated() -> None:
    routers = Routers()
    assert [_udp(routers, b"by a", v6) for v6 in (False, True)] == [SHARED, SHARED6]
    told = replicate(routers.a, routers.b)
    assert len(told) == 2, told
    routers.use("b")
    assert [_udp(routers, b"by b", v6) for v6 in (False, True)] == [SHARED, SHARED6]
    copies = {flow.stable(each) for each in entries(routers.b)}
    assert {flow.stable(each) for each in told} <= copies, "the copy is not what was told"


def check_untouched_event_leaks_untranslated() -> None:
    """Why there is a rewrite: the kernel takes the entry as it was told and translates nothing."""
    routers = Routers()
    _udp(routers, b"by a")
    original = entries(routers.a)[0]
    assert not create(routers.b, [(V4, original.record)])
    routers.use("b")
    assert _udp(routers, b"leaked") == CLIENT


def check_translation_needs_nat_chains() -> None:
    """A passive whose ruleset is not loaded cannot carry translated connections."""
    routers = Routers()
    routers.b.nft("delete table inet nat\n")
    _udp(routers, b"by a")
    replicate(routers.a, routers.b)
    routers.use("b")
    assert _udp(routers, b"leaked") == CLIENT


def _ports(attributes: bytes) -> tuple[int, int]:
    """The two ports of the original tuple, read without the agent's help."""
    said = ct.parse(ct.parse(ct.parse(attributes)[ct.TUPLE_ORIG])[2])
    return int.from_bytes(said[2], "big"), int.from_bytes(said[3], "big")


class _Tcp:
    """One TCP connection, from the side that opens it to the side that listens."""

    def __init__(self, near: Net, far: Net, target: str, port: int, listen: str) -> None:
        family = V6 if ":" in target else V4
        with far:
            listener = socket.create_server((listen, port if port != 8080 else 80), family=family)
        with near:
            self.near = socket.socket(family, socket.SOCK_STREAM)
        for end in (listener, self.near):
            end.settimeout(20)
        self.near.connect((target, port))
        self.far, self.source = listener.accept()
        self.far.settimeout(20)
        listener.close()

    def exchange(self, size: int = 20_000) -> None:
        """Bytes both ways; more than one window, so that the tracker has to follow."""
        for sender, receiver in ((self.near, self.far), (self.far, self.near)):
            sender.sendall(b"x" * size)
            left = size
            while left:
                left -= len(receiver.recv(left))


def _opened(routers: Routers) -> list[_Tcp]:
    """Outgoing through source NAT and incoming through a port forward, v4 and v6."""
    client, server = routers.client, routers.server
    made = [
        _Tcp(client, server, SERVER, 5001, SERVER),
        _Tcp(client, server, SERVER6, 5001, SERVER6),
        _Tcp(server, client, SHARED, 8080, CLIENT),
        _Tcp(server, client, SHARED6, 8080, CLIENT6),
    ]
    assert [made[0].source[0], made[1].source[0]] == [SHARED, SHARED6]
    return made


def check_tcp_goes_on_and_comes_back() -> None:
    routers = Routers()
    talks = _opened(routers)
    for talk in talks:
        talk.exchange()
    assert len(replicate(routers.a, routers.b)) == len(talks)
    _loosen(routers.a)
    routers.use("b")
    for talk in talks:
        talk.exchange(100_000)
    assert routers.refused(routers.b) == 0, "router b dropped segments of a copied connection"
    routers.use("a")
    for talk in talks:
        talk.exchange()
    assert routers.refused(routers.a) == 0, "router a's own entries were too strict"


def _loosen(router: Net) -> None:
    """As an active does that steps down: its own windows will be stale when it is back."""
    with router:
        table = Table()
    updates = [(each.family, rewrite.loosening(each)) for each in entries(router)]
    errors = table.change([Request(CT_NEW, 0, family, said) for family, said in updates if said])
    assert not errors, errors


def check_tcp_dies_without_the_copy() -> None:
    """The bench would notice: the same switch without replication loses the connection."""
    routers = Routers()
    talk = _opened(routers)[0]
    talk.exchange()
    routers.use("b")
    talk.near.sendall(b"lost")
    assert _udp(routers, b"a new one") == SHARED
    assert routers.refused(routers.b) > 0
    talk.far.setblocking(False)
    try:
        got = talk.far.recv(100)
    except BlockingIOError:
        return
    raise AssertionError(f"it went on without an entry: {got!r}")


def check_loosened_entry_is_liberal() -> None:
    routers = Routers()
    talk = _Tcp(routers.client, routers.server, SERVER, 5001, SERVER)
    port = talk.near.getsockname()[1]
    _loosen(routers.a)
    with routers.a:
        flags = ct.Table().tcp_flags(ct.Tuple(CLIENT, SERVER, ct.TCP, (port, 5001)))
    assert all(each & ct.BE_LIBERAL for each in flags), flags


def check_icmp_copy_is_the_same() -> None:
    routers = Routers()
    with routers.client:
        ping = socket.socket(V4, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    ping.settimeout(10)
    body = struct.pack("!BBHHH", 8, 0, 0, 77, 1)
    checksum = ~sum(struct.unpack("!4H", body)) & 0xFFFF
    echo = struct.pack("!BBHHH", 8, 0, checksum - 1 if checksum > 0xFFFF else checksum, 77, 1)
    ping.sendto(echo, (SERVER, 0))
    assert ping.recv(1500)[20] == 0, "no echo reply through router a"
    told = replicate(routers.a, routers.b)
    copies = [flow.stable(each) for each in entries(routers.b)]
    assert [flow.stable(each) for each in told] == copies, "the copy of an ICMP entry differs"
    routers.use("b")
    ping.sendto(echo, (SERVER, 0))
    assert ping.recv(1500)[20] == 0, "no echo reply through router b"


def check_gre_copy_survives_its_first_packet() -> None:
    """The tracker's timeouts are zero in an injected entry: the agent fixes the timeout."""
    routers = Routers()
    with routers.client:
        tunnel = socket.socket(V4, socket.SOCK_RAW, 47)
    with routers.server:
        end = socket.socket(V4, socket.SOCK_RAW, 47)
    end.settimeout(10)
    packet = struct.pack("!HH", 0, 0x0800) + b"inside"
    tunnel.sendto(packet, (SERVER, 0))
    assert end.recvfrom(1500)[1][0] == SHARED
    replicate(routers.a, routers.b)
    routers.use("b")
    for _packet in range(2):
        tunnel.sendto(packet, (SERVER, 0))
        assert end.recvfrom(1500)[1][0] == SHARED
    left = [each.timeout_s for each in entries(routers.b)]
    assert len(left) == 1 and left[0] > 3000, f"seconds left: {left}"


def check_own_changes_raise_no_events() -> None:
    """The loop guard: what the agent injects is not told back to it, everything else is."""
    net = Net.here()
    net.nft(FILTER)
    net.set("net/netfilter/nf_conntrack_events", 1)
    table = Table()
    events = Events(table.port)
    request = (V4, ct.entry(ct.Tuple("10.1.0.1", "10.2.0.1", ct.UDP, (1, 53))))
    assert not table.change([Request(CT_NEW, 0x600, *request)])
    other = ct.Tuple("10.1.0.1", "10.2.0.1", ct.UDP, (2, 53))
    ct.expect(ct.Table().create(ct.entry(other)), 0, "a stranger's entry")
    heard = until("the stranger's event", lambda: events.drain(10))
    assert {_ports(attributes) for _gone, attributes in heard} == {(2, 53)}


def check_events_of_flows_older_than_the_listener() -> None:
    """Set to 1 at boot; the kernel's default leaves older flows without their end."""
    net = Net.here()
    net.nft(FILTER)
    for setting, told in ((2, 0), (1, 1)):
        net.set("net/netfilter/nf_conntrack_events", setting)
        port = PORT + setting
        ear, mouth = Ear(net, port=port), Mouth(net, "127.0.0.1")
        mouth.says(b"before", "127.0.0.1", port)
        ear.hears(b"before")
        events = Events(1)
        net.run("conntrack", "-D", "-p", "udp", "--dport", str(port))
        mark = ct.Tuple("10.1.0.1", "10.2.0.1", ct.UDP, (setting, 53))
        ct.expect(ct.Table().create(ct.entry(mark)), 0, "the mark that ends the wait")
        heard = []
        while not any(_ports(each) == (setting, 53) for _gone, each in heard):
            heard += until("any event", lambda: events.drain(10))  # noqa: B023  called at once
        gone = [each for is_gone, each in heard if is_gone]
        assert len(gone) == told, f"nf_conntrack_events={setting}: {len(gone)} ends told"


def check_event_layout_is_the_fixed_one() -> None:
    """Where the agent reads without looking: the places of an IPv4 event of a TCP connection."""
    routers = Routers()
    with routers.a:
        events = Events(1)
    _Tcp(routers.client, routers.server, SERVER, 5001, SERVER)
    heard: list[bytes] = []

    def established() -> bool:
        heard.extend(attributes for _gone, attributes in events.drain(10))
        return any(flow.parse(each).state == ct.ESTABLISHED for each in heard)

    until("the event of an established connection", established)
    told = next(each for each in heard if flow.parse(each).state == ct.ESTABLISHED)
    places = {0: ct.TUPLE_ORIG, 52: ct.TUPLE_REPLY, 104: ct.ID, 112: ct.STATUS, 120: ct.TIMEOUT}
    found = {at: struct.unpack_from("=H", told, at + 2)[0] & 0x3FFF for at in places}
    assert found == places, found
    kinds = ct.parse(told)
    assert told[128 + 12] == ct.ESTABLISHED, "the state is not where it should be"
    assert flow.parse(told).record[:104] == told[:104]
    assert ct.parse(ct.parse(kinds[ct.PROTOINFO])[1])[1] == bytes([ct.ESTABLISHED])


def check_update_without_status_after_ebusy() -> None:
    """An older report would take bits away; the agent then says all but the status."""
    routers = Routers()
    _udp(routers, b"by a")
    told = replicate(routers.a, routers.b)[0]
    answered = told.record.replace(
        ct.number(ct.STATUS, told.status), ct.number(ct.STATUS, told.status | ct.USUAL)
    )
    replied = flow.parse(answered)
    with routers.b:
        table = Table()
    assert not table.change([Request(CT_NEW, 0, V4, rewrite.update(replied))])
    assert table.change([Request(CT_NEW, 0, V4, rewrite.update(told))]) == {0: EBUSY}
    bare = rewrite.update(told, with_status=False)
    assert not table.change([Request(CT_NEW, 0, V4, bare)])


def check_smaller_maximum_refuses_with_enomem() -> None:
    """One value for all namespaces of a machine, so only an emulated one can be this small."""
    machine = Net.of_process(1)
    before = machine.get("net/netfilter/nf_conntrack_max")
    flows = [ct.Tuple("10.1.0.1", "10.2.0.1", ct.UDP, (port, 53)) for port in range(1, 9)]
    machine.set("net/netfilter/nf_conntrack_max", 4)
    try:
        refused = create(Net.here(), [(V4, ct.entry(each)) for each in flows])
    finally:
        machine.set("net/netfilter/nf_conntrack_max", before)
    assert set(refused.values()) == {ENOMEM}, refused
    assert 0 not in refused, "nothing was accepted at all"


def check_masqueraded_entries_go_with_their_address() -> None:
    """Why `snat to` the shared address: masquerade dies with the address, and says DESTROY."""
    rules = """
    table inet nat { chain after { type nat hook postrouting priority srcnat;
        iifname lan0 oifname wan0 udp dport 7777 masquerade
        iifname lan0 oifname wan0 udp dport 7778 snat ip to 192.0.2.1
    }
    }
    """
    routers = Routers(rules + FILTER)
    _udp(routers, b"masqueraded")
    ear = Ear(routers.server, port=PORT + 1)
    Mouth(routers.client, CLIENT, 4001).says(b"translated", SERVER, PORT + 1)
    ear.hears(b"translated")
    assert len(entries(routers.a)) == 2
    routers.a.ip(f"addr del {SHARED}/24 dev wan0")
    until("the masqueraded entry is gone", lambda: len(entries(routers.a)) == 1)
    assert _ports(entries(routers.a)[0].key)[1] == PORT + 1, "the wrong one is gone"
