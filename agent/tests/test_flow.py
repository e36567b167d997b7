# SPDX-License-Identifier: GPL-3.0-or-later
"""The rewrite of a connection entry: what is carried, what never is, and what bytes cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_samples import direction, entries, entry, packed, tcp_entry, tcp_info, udp_entry

from amaranten_ha.core import flow, rewrite, tlv
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.scope import Scope


def test_creation_says_the_plain_inverse_and_the_translation_with_its_port() -> None:
    found = tlv.index(rewrite.creation(flow.parse(tcp_entry(sport=40000))))
    assert found[flow.REPLY] == direction("198.51.100.7", "10.1.0.9", flow.TCP, 443, 40000)
    nat = tlv.index(found[flow.NAT_SRC])
    assert nat[1] == nat[2] == packed("198.51.100.1")
    port = tlv.index(nat[3])
    assert port[1] == port[2] == (40001).to_bytes(2, "big")
    assert flow.NAT_DST not in found


def test_a_port_forward_is_a_translation_of_the_target() -> None:
    orig = direction("2001:db8::9", "2001:db8:51::1", flow.TCP, 40000, 8080)
    reply = direction("fd20:3::80", "2001:db8::9", flow.TCP, 80, 40000)
    found = tlv.index(rewrite.creation(flow.parse(entry(orig, reply, tcp_info()))))
    nat = tlv.index(found[flow.NAT_DST])
    assert nat[4] == nat[5] == packed("fd20:3::80")
    assert tlv.index(nat[3])[1] == (80).to_bytes(2, "big")
    assert flow.NAT_SRC not in found


def test_ping_behind_nat_keeps_its_translated_id() -> None:
    orig = direction("10.1.0.9", "198.51.100.7", flow.ICMP, 8, 77)
    reply = direction("198.51.100.7", "198.51.100.1", flow.ICMP, 0, 78)
    found = tlv.index(rewrite.creation(flow.parse(entry(orig, reply))))
    assert found[flow.REPLY] == direction("198.51.100.7", "10.1.0.9", flow.ICMP, 0, 77)
    assert tlv.index(tlv.index(found[flow.NAT_SRC])[3])[1] == (78).to_bytes(2, "big")


def test_an_untranslated_flow_stays_untranslated_where_nat_has_been_asked() -> None:
    asked = tlv.index(rewrite.creation(flow.parse(udp_entry(status=0x188))))
    never = tlv.index(rewrite.creation(flow.parse(udp_entry(status=0x8))))
    assert asked[flow.NAT_SRC] == b""
    assert flow.NAT_SRC not in never


@pytest.mark.parametrize("make", [rewrite.creation, rewrite.update])
def test_tcp_is_liberal_scaled_and_has_no_window_of_its_own(make: object) -> None:
    assert callable(make)
    found = tlv.index(make(flow.parse(tcp_entry(state=4))))
    info = tlv.index(tlv.index(found[flow.PROTOINFO])[1])
    assert info[1] == b"\x04"
    assert (info[2], info[3]) == (b"\x07", b"\x09")
    # 0x23 was: scaling, SACK, MAXACK_SET.
    assert info[4] == info[5] == bytes([0x1 | 0x2 | 0x8] * 2)


def test_gre_keeps_a_timeout_of_its_own() -> None:
    orig = direction("10.1.0.9", "198.51.100.7", flow.GRE, 0, 7)
    reply = direction("198.51.100.7", "10.1.0.9", flow.GRE, 7, 0)
    parsed = flow.parse(entry(orig, reply, timeout=30))
    found = tlv.index(rewrite.creation(parsed))
    assert int.from_bytes(found[flow.STATUS], "big") & flow.FIXED_TIMEOUT
    assert int.from_bytes(found[flow.TIMEOUT], "big") == flow.COPY_FIXED_S


@given(entries())
def test_what_a_creation_never_carries(attributes: bytes) -> None:
    parsed = flow.parse(attributes)
    found = tlv.index(rewrite.creation(parsed))
    status = int.from_bytes(found[flow.STATUS], "big")
    assert flow.ID not in found
    assert status & flow.CONFIRMED
    assert not status & (0x1 | 0x200)
    assert int.from_bytes(found[flow.TIMEOUT], "big") >= flow.COPY_S_MIN
    assert found.keys() >= {flow.ORIG, flow.REPLY, flow.TIMEOUT}


@given(entries())
def test_an_update_never_carries_what_only_a_creation_may(attributes: bytes) -> None:
    found = tlv.index(rewrite.update(flow.parse(attributes)))
    assert not found.keys() & {flow.NAT_SRC, flow.NAT_DST, flow.HELP, flow.MASTER, flow.ID}
    assert flow.STATUS not in tlv.index(rewrite.update(flow.parse(attributes), with_status=False))


@given(entries())
def test_the_record_travels_without_loss(attributes: bytes) -> None:
    parsed = flow.parse(attributes)
    again = flow.parse(parsed.record)
    assert rewrite.creation(again) == rewrite.creation(parsed)
    assert (again.key, flow.stable(again)) == (parsed.key, flow.stable(parsed))
    assert flow.ID not in again.fields
    assert flow.key_family(parsed.key) == parsed.family


@given(entries(), st.integers(1, 400_000))
def test_timeouts_and_ids_are_not_part_of_the_stable_part(attributes: bytes, left: int) -> None:
    parsed = flow.parse(attributes)
    other = tlv.index(attributes) | {flow.TIMEOUT: left.to_bytes(4, "big"), flow.ID: b"zzzz"}
    kinds = (kind | (tlv.NESTED if kind in flow.NESTS else 0) for kind in other)
    again = flow.parse(b"".join(map(tlv.attribute, kinds, other.values())))
    assert again.timeout_s == left
    assert flow.stable(again) == flow.stable(parsed)


@given(entries())
def test_both_ways_of_reading_give_the_same_entry(attributes: bytes) -> None:
    assert flow.parse(attributes) == flow._parse_any(attributes)
    assert flow.key_of(attributes) == flow.parse(attributes).key


@given(entries())
def test_both_ways_of_rewriting_give_the_same_message(attributes: bytes) -> None:
    parsed = flow.parse(attributes)
    if parsed.split in (52, 76) and parsed.protocol not in (flow.ICMP, flow.ICMPV6):
        assert rewrite._by_ports(parsed) == rewrite._by_attributes(parsed)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_entry_or_one_kind_of_error(data: bytes) -> None:
    for decoder in (flow.parse, flow.key_family):
        try:
            decoder(data)
        except PeerError:
            continue


@given(entries(), st.data())
def test_a_damaged_entry_is_an_entry_or_one_kind_of_error(
    attributes: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(attributes)
    for _byte in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    scope = Scope(frozenset())
    try:
        parsed = flow.parse(bytes(damaged))
        scope.survives(parsed)
        rewrite.creation(parsed)
        rewrite.creation(parsed, plain=True)
        rewrite.update(parsed)
        rewrite.loosening(parsed)
        rewrite.reply_key(parsed)
        flow.stable(parsed)
    except PeerError:
        pass


def test_a_later_event_adds_to_what_is_pending_and_takes_nothing_away() -> None:
    labels = tlv.attribute(flow.LABELS, b"\x01" * 16)
    older = flow.parse(tcp_entry() + labels)
    newer = flow.parse(tcp_entry(state=4))
    merged = flow.merge(older, newer)
    assert merged.fields[flow.LABELS] == b"\x01" * 16
    assert merged.state == flow.TcpState.FIN_WAIT


def _udp(source: str, target: str, reply_source: str = "", reply_target: str = "") -> flow.Entry:
    orig = direction(source, target, 17, 1000, 2000)
    reply = direction(reply_source or target, reply_target or source, 17, 2000, 1000)
    return flow.parse(entry(orig, reply))


def test_survivable_is_what_does_not_hang_on_one_node() -> None:
    scope = Scope(frozenset({packed("10.1.0.2"), packed("198.51.100.2"), packed("fd00::2")}))
    assert scope.survives(_udp("10.1.0.9", "198.51.100.7", "", "198.51.100.1"))
    assert scope.survives(_udp("fd00::9", "2001:db8::7"))
    tied = [
        _udp("10.1.0.9", "10.1.0.2"),
        _udp("10.1.0.2", "198.51.100.7"),
        _udp("10.1.0.9", "198.51.100.7", "", "198.51.100.2"),  # masqueraded
        _udp("198.51.100.7", "198.51.100.2", "10.1.0.80"),  # a forward on an own address
        _udp("127.0.0.1", "127.0.0.1"),
        _udp("0.0.0.0", "255.255.255.255"),
        _udp("10.1.0.9", "224.0.0.251"),
        _udp("fd00::9", "ff02::1"),
        _udp("fe80::1", "fe80::2"),
        _udp("fd00::9", "fd00::2"),
    ]
    assert not [each for each in tied if scope.survives(each)]


@pytest.mark.parametrize("state", range(10))
def test_tcp_is_replicated_from_established_on_until_it_is_closed(state: int) -> None:
    parsed = flow.parse(tcp_entry(state=state))
    assert Scope(frozenset()).survives(parsed) == (3 <= state <= 6)
    assert parsed.over == (state in (7, 8))
    # A passive node may still hold closed ones, but of moving addresses only.
    assert Scope(frozenset()).belongs(parsed) == (3 <= state <= 8)
    assert not Scope(frozenset({parsed.addresses[3]})).belongs(parsed)
