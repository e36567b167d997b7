# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw ctnetlink against the running kernel: what it accepts, what it refuses, what it says.

Each test has network namespaces of its own; `conntrack` of conntrack-tools is the oracle.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from sync_netns import Namespace, tcp
from sync_pair import SERVER, Pair
from sync_samples import direction, entries, entry, packed, tcp_entry, tcp_info, udp_entry

from amaranten_ha import walker as walker_module
from amaranten_ha.core import flow, rewrite, tlv
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source
from amaranten_ha.io import netlink
from amaranten_ha.io.events import Events
from amaranten_ha.io.netlink import (
    CREATE_EXCLUSIVE,
    CT_DELETE,
    CT_NEW,
    Request,
    Table,
)
from amaranten_ha.walker import RENEWAL_NS, WHOLE_NS, Walker

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]


@pytest.fixture(scope="module")
def box() -> Iterator[Namespace]:
    made = Namespace(f"sy{os.getpid()}n")
    # Tracking begins with the first rule that needs it, and so do labels.
    made.run("nft", "-f", "-", stdin=(
        "table inet fw {\n"
        "chain in { type filter hook input priority 0; ct state invalid ct label set 1; }\n"
        "chain before { type nat hook prerouting priority dstnat; }\n"
        "chain after { type nat hook postrouting priority srcnat; }\n"
        "}\n"
    ))  # fmt: skip
    made.run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=1")
    yield made
    made.remove()


@pytest.fixture
def table(box: Namespace) -> Iterator[Table]:
    box.run("conntrack", "-F", check=False)
    with box.inside():
        made = Table()
    yield made
    made.close()


def create(attributes: bytes, family: int = socket.AF_INET) -> Request:
    return Request(CT_NEW, CREATE_EXCLUSIVE, family, attributes)


@how(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(entries(rare=True))
def test_every_entry_goes_through_a_real_kernel_and_comes_out_the_same(
    box: Namespace, table: Table, attributes: bytes
) -> None:
    wanted = flow.parse(attributes)
    table.change([Request(CT_DELETE, 0, socket.AF_UNSPEC, b"")])
    assert table.change([create(rewrite.creation(wanted), wanted.family)]) == {}
    answer = table.look_up(wanted.family, wanted.key)
    assert answer is not None
    got = flow.parse(answer)
    assert got.key == wanted.key
    assert got.fields[flow.REPLY] == wanted.fields[flow.REPLY], "the kernel translates otherwise"
    assert got.fields.get(flow.MARK) == wanted.fields.get(flow.MARK)
    assert got.state == wanted.state
    assert flow.stable(got) == flow.stable(wanted)
    # A fixed timeout cannot be changed: such a copy is renewed by making it anew.
    refused = {0: errno.EPERM} if wanted.protocol == flow.GRE else {}
    assert table.change([Request(CT_NEW, 0, wanted.family, rewrite.update(wanted))]) == refused
    assert [each.key for each in box.dumped()] == [wanted.key]
    assert table.change([Request(CT_DELETE, 0, wanted.family, wanted.key)]) == {}
    assert table.look_up(wanted.family, wanted.key) is None


def test_a_batch_goes_on_behind_a_refusal_and_says_which_it_was(table: Table) -> None:
    wanted = [flow.parse(udp_entry(sport=port)) for port in (1, 2, 2, 3)]
    requests = [create(rewrite.creation(each)) for each in wanted]
    requests.append(Request(CT_NEW, 0, socket.AF_INET, rewrite.update(flow.parse(udp_entry(9)))))
    many = [flow.parse(udp_entry(sport)) for sport in range(100, 500)]
    requests += [create(rewrite.creation(each)) for each in many]
    assert table.change(requests) == {2: errno.EEXIST, 4: errno.ENOENT}
    assert table.look_up(socket.AF_INET, flow.parse(udp_entry(499)).key) is not None


def test_own_changes_do_not_echo_and_those_of_others_do(box: Namespace, table: Table) -> None:
    with box.inside():
        events = Events(table.port)
        other = Table()
    mine, theirs = flow.parse(udp_entry(1)), flow.parse(udp_entry(2))
    table.change([create(rewrite.creation(mine))])
    other.change([create(rewrite.creation(theirs))])
    table.change([Request(CT_DELETE, 0, socket.AF_INET, mine.key)])
    other.change([Request(CT_DELETE, 0, socket.AF_INET, theirs.key)])
    heard = events.drain(100)
    assert [gone for gone, _attributes in heard] == [False, True]
    assert {flow.parse(attributes).key for _gone, attributes in heard} == {theirs.key}
    events.close()
    other.close()


def test_common_entries_are_read_at_their_places_as_this_kernel_writes_them(
    box: Namespace, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    with box.inside():
        events = Events(table.port)
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_connection(listener.getsockname()) as line, listener.accept()[0] as end:
            line.send(b"x")
            assert end.recv(1) == b"x"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as lone:
            lone.sendto(b"x", ("::1", 9))
    listener.close()
    wanted = [flow.parse(each) for each in (tcp_entry(), udp_entry())]
    table.change([create(rewrite.creation(each)) for each in wanted])

    def never(attributes: bytes) -> flow.Entry:
        raise AssertionError(f"read attribute by attribute: {attributes.hex()}")

    monkeypatch.setattr(flow, "_parse_any", never)
    heard = [flow.parse(said) for gone, said in events.drain(100) if not gone]
    assert {entry.family for entry in heard} == {flow.AF_INET, flow.AF_INET6}
    assert {entry.state for entry in heard if entry.protocol == flow.TCP} >= {3, 7}
    walked = {entry.key: entry for entry in box.dumped()}
    assert len(walked) == 4
    assert [flow.stable(walked[each.key]) for each in wanted] == list(map(flow.stable, wanted))
    events.close()


def test_a_key_that_makes_no_sense_is_refused_and_ends_nothing(table: Table) -> None:
    source = Source(Mirror(Scope(frozenset())))
    walker = Walker(table, source, Copy(source.mirror), lambda commands, now_ns: None)
    odd = flow.parse(tcp_entry()).key.replace(b"\x06\x00\x00\x00\x06", b"\x84\x00\x00\x00\x05")
    for key in (b"", b"\x04\x00\x01\x80", odd, flow.parse(udp_entry()).key):
        walker.look_up(key, 0)
    assert source.take(1 << 40, urgent=True) is None


def begun(table: Table, entries: list[bytes]) -> tuple[Walker, Source]:
    """Entries of the kernel, and a walker whose first survey has seen them."""
    table.change([create(rewrite.creation(flow.parse(each))) for each in entries])
    source = Source(Mirror(Scope(frozenset())))
    walker = Walker(table, source, Copy(source.mirror), lambda commands, now_ns: None)
    survey(walker, 1)
    return walker, source


def survey(walker: Walker, now_ns: int) -> None:
    """Let one survey begin and end."""
    ended = walker.surveys_ended
    for _turn in range(1000):
        walker.turn(now_ns)
        if walker.surveys_ended > ended:
            return
    raise AssertionError("the survey does not end")


def dumps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often the kernel's whole table is read."""
    made: list[int] = []

    class Counted(netlink.Dump):
        def __init__(self) -> None:
            made.append(1)
            super().__init__()

    monkeypatch.setattr(walker_module, "Dump", Counted)
    return made


def test_few_known_entries_are_looked_up_and_the_whole_table_is_read_now_and_then(
    box: Namespace, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump of a table with few entries holds its processor: 12 ms have been seen."""
    whole = dumps(monkeypatch)
    with box.inside():
        known = [udp_entry(port) for port in range(1, 300)] + [tcp_entry(9)]
        walker, source = begun(table, [])
        survey(walker, RENEWAL_NS + 2)
        assert len(whole) == 1, "nothing is known: nothing is looked up"
        walker, source = begun(table, known)
        assert (len(whole), len(source.mirror)) == (2, 300)
        gone, unheard = flow.parse(known[0]), flow.parse(udp_entry(5000))
        table.change([
            Request(CT_DELETE, 0, socket.AF_INET, gone.key),
            create(rewrite.creation(unheard)),
        ])  # fmt: skip
        survey(walker, RENEWAL_NS + 2)
        assert len(whole) == 2
        assert gone.key not in source.mirror and len(source.mirror) == 299
        assert unheard.key not in source.mirror, "nothing told of it: only a whole survey can"
        survey(walker, WHOLE_NS + 2)
        assert len(whole) == 3
        assert unheard.key in source.mirror and len(source.mirror) == 300


@pytest.mark.parametrize(
    "cause", [Walker.repair, Walker.compare, Walker.fresh_survey], ids=lambda each: each.__name__
)
def test_whatever_doubts_what_is_known_has_the_whole_table_read(
    box: Namespace, table: Table, monkeypatch: pytest.MonkeyPatch, cause: Callable[..., object]
) -> None:
    whole = dumps(monkeypatch)
    with box.inside():
        walker, source = begun(table, [udp_entry(1)])
        cause(walker, 1000)
        walker.turn(1000)
        # A bulk takes its place before it has seen everything, and is whole as well.
        table.change([create(rewrite.creation(flow.parse(udp_entry(2))))])
        assert walker.begin_bulk(1, 1000, whole=False) is not None
        survey(walker, 1000)
        assert flow.parse(udp_entry(2)).key in source.mirror
        before = len(whole)
        assert walker.begin_bulk(2, 2000, whole=False) is not None
        survey(walker, 2000)
        assert len(whole) == before, "nothing is doubted any more"


def test_many_known_entries_are_read_from_the_whole_table(
    box: Namespace, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dumps(monkeypatch)
    monkeypatch.setattr(walker_module, "KNOWN_FEW", 10)
    with box.inside():
        walker, _source = begun(table, [udp_entry(port) for port in range(1, 12)])
        survey(walker, RENEWAL_NS + 2)
    assert len(whole) == 2


def test_lost_events_are_said(box: Namespace, table: Table) -> None:
    with box.inside():
        events = Events(0)
    events._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    table.change([create(rewrite.creation(flow.parse(udp_entry(port)))) for port in range(1, 200)])
    events.drain(1000)
    assert events.overrun
    events.overrun = False
    table.change([Request(CT_DELETE, 0, socket.AF_INET, flow.parse(udp_entry(1)).key)])
    assert len(events.drain(1000)) == 1 and not events.overrun
    events.close()


def test_a_helper_that_is_missing_here_is_refused_and_the_plain_creation_is_not(
    table: Table,
) -> None:
    helper = tlv.nest(flow.HELP, tlv.attribute(1, b"no-such-one\0"))
    wanted = flow.parse(tcp_entry() + helper)
    assert table.change([create(rewrite.creation(wanted))]) == {0: errno.EOPNOTSUPP}
    assert table.change([create(rewrite.creation(wanted, plain=True))]) == {}


def test_a_master_that_is_unknown_here_is_refused_and_the_plain_creation_is_not(
    table: Table,
) -> None:
    master = tlv.nest(flow.MASTER, direction("10.1.0.9", "198.51.100.7", flow.TCP, 1, 21))
    wanted = flow.parse(tcp_entry() + master)
    assert table.change([create(rewrite.creation(wanted))]) == {0: errno.ENOENT}
    assert table.change([create(rewrite.creation(wanted, plain=True))]) == {}


def test_loosening_makes_a_strict_entry_liberal_and_leaves_the_rest(
    box: Namespace, table: Table
) -> None:
    strict = flow.parse(tcp_entry())
    message = rewrite.creation(strict)
    # What the kernel makes itself is not liberal: take the flag away again.
    off = tlv.nest(1, tlv.attribute(4, b"\x00\x08"), tlv.attribute(5, b"\x00\x08"))
    table.change([create(message)])
    quiet = strict.key + tlv.nest(flow.PROTOINFO, off)
    assert table.change([Request(CT_NEW, 0, socket.AF_INET, quiet)]) == {}
    assert _flags(box.dumped()[0]) & 0x8 == 0
    loose = rewrite.loosening(box.dumped()[0])
    assert loose is not None
    before = box.dumped()[0]
    assert table.change([Request(CT_NEW, 0, socket.AF_INET, loose)]) == {}
    after = box.dumped()[0]
    assert _flags(after) & 0x8
    assert flow.stable(after) == flow.stable(before)


def _flags(of: flow.Entry) -> int:
    info = tlv.index(tlv.index(of.fields[flow.PROTOINFO])[1])
    assert info[4][0] == info[5][0]
    return info[4][0]


def test_an_injected_gre_entry_outlives_its_first_packet(box: Namespace, table: Table) -> None:
    tunnel = (direction("127.0.0.1", "127.0.0.2", flow.GRE, 0, 0),
              direction("127.0.0.2", "127.0.0.1", flow.GRE, 0, 0))  # fmt: skip
    wanted = flow.parse(entry(*tunnel, status=0xE, timeout=30))
    fixed = rewrite.creation(wanted)
    status = tlv.attribute(flow.STATUS, (flow.FIXED_TIMEOUT | 0xE).to_bytes(4, "big"))
    naive = fixed.replace(status, tlv.attribute(flow.STATUS, (0xE).to_bytes(4, "big")))
    assert naive != fixed
    for message, survives in ((naive, False), (fixed, True)):
        table.change([Request(CT_DELETE, 0, socket.AF_INET, wanted.key)])
        assert table.change([create(message)]) == {}
        with box.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, flow.GRE) as line:
            line.bind(("127.0.0.1", 0))
            line.sendto(struct.pack(">HH", 0, 0x0800) + bytes(20), ("127.0.0.2", 0))
        time.sleep(0.05)
        answer = table.look_up(socket.AF_INET, wanted.key)
        left = flow.parse(answer).timeout_s if answer else 0
        assert (left is not None and left > 60) == survives, (left, survives)


def test_a_raw_translated_entry_injected_unchanged_leaks(tmp_path: Path) -> None:
    """The trap that the rewrite is there for: accepted, looks right, translates nothing."""
    pair = Pair(tmp_path / "trap")
    try:
        pair.activate(pair.a)
        talk = tcp(pair.client, pair.server, SERVER, SERVER, 5010)
        assert talk.exchange()
        original = next(each for each in pair.a.dumped() if each.protocol == flow.TCP)
        assert original.addresses[3] == packed("192.0.2.1"), "translated at A"
        with pair.b.inside():
            table = Table()
        raw = tlv.nest(flow.ORIG, original.fields[flow.ORIG])
        raw += tlv.nest(flow.REPLY, original.fields[flow.REPLY])
        raw += tcp_info(flags=0x29)
        raw += tlv.attribute(flow.STATUS, (0x18E).to_bytes(4, "big"))
        raw += tlv.attribute(flow.TIMEOUT, (300).to_bytes(4, "big"))
        assert table.change([create(raw)]) == {}, "the kernel does not mind"
        pair.activate(pair.b)
        assert not talk.exchange(timeout_s=0.5)
        assert pair.b.leaked() > 0

        table.change([Request(CT_DELETE, 0, socket.AF_INET, original.key)])
        assert table.change([create(rewrite.creation(original))]) == {}
        leaked = pair.b.leaked()
        talk.far.settimeout(10)
        assert talk.far.recv(64), "what was lost is sent again"
        assert talk.exchange()
        assert pair.b.leaked() == leaked
        table.close()
        talk.close()
    finally:
        pair.remove()


def test_no_netfilter_netlink_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_NETFILTER", 31)
    with pytest.raises(netlink.KernelRefused, match="ctnetlink socket: Protocol not supported"):
        Table()
