# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel accepts and refuses when a connection entry is created from outside.

The table of ``IPCTNL_MSG_CT_NEW``: one check per rule, judged by the kernel's answer and by what
``conntrack -L`` (a program that is not ours) then shows.
"""

from __future__ import annotations

import socket
from errno import EBUSY, EEXIST, EINVAL, ENOENT, EOPNOTSUPP

from ..guest import ctnetlink as ct
from ..guest.ctnetlink import Table, Tuple, entry, expect
from ..guest.net import command

AF_BRIDGE = 7

UDP = Tuple("10.1.0.1", "10.2.0.1", ct.UDP, (4000, 53))
TCP = Tuple("10.1.0.1", "10.2.0.1", ct.TCP, (4000, 443))
ESTABLISHED = ct.tcp_info(ct.ESTABLISHED, ct.WINDOW_SCALE | ct.BE_LIBERAL, 0x9, scale=7)


def listed(family: str = "ipv4") -> str:
    """The whole table, as conntrack prints it."""
    return command("conntrack", "-L", "-f", family, "-o", "extended,id")


def check_usual_entry_is_created() -> None:
    table = Table()
    expect(table.create(entry(UDP)), 0, "UDP")
    expect(table.create(entry(TCP, None, ESTABLISHED)), 0, "TCP")
    shown = listed()
    assert "ESTABLISHED src=10.1.0.1 dst=10.2.0.1 sport=4000 dport=443" in shown, shown
    assert "udp" in shown, shown
    assert shown.count("[ASSURED]") == 2, shown


def check_ipv6_entry_is_created() -> None:
    flow = Tuple("fd10::1", "fd20::1", ct.UDP, (4000, 53))
    expect(Table().create(entry(flow), socket.AF_INET6), 0, "UDP over IPv6")
    assert "src=fd10::1 dst=fd20::1 sport=4000" in listed("ipv6")


def check_both_tuples_are_needed() -> None:
    table = Table()
    rest = ct.number(ct.TIMEOUT, 300) + ct.number(ct.STATUS, ct.USUAL)
    original, reply = UDP.pack(ct.TUPLE_ORIG), UDP.inverse().pack(ct.TUPLE_REPLY)
    expect(table.create(original + rest), EINVAL, "without the reply tuple")
    expect(table.create(reply + rest), EINVAL, "without the original tuple")
    expect(table.create(original + reply + rest), 0, "with both")


def check_tuples_of_one_protocol() -> None:
    other = Tuple(UDP.destination, UDP.source, ct.TCP, (53, 4000))
    expect(Table().create(entry(UDP, other)), EINVAL, "UDP one way, TCP the other")


def check_timeout_is_mandatory() -> None:
    expect(Table().create(entry(UDP, timeout_s=None)), EINVAL, "without a timeout")


def check_family_must_be_an_ip_family() -> None:
    table = Table()
    expect(table.create(entry(UDP), socket.AF_UNSPEC), EOPNOTSUPP, "AF_UNSPEC")
    expect(table.create(entry(UDP), AF_BRIDGE), EOPNOTSUPP, "AF_BRIDGE")


def check_status_needs_confirmed() -> None:
    table = Table()
    expect(table.create(entry(UDP, status=ct.SEEN_REPLY)), EBUSY, "without CONFIRMED")
    expect(table.create(entry(UDP, status=ct.USUAL | ct.EXPECTED)), EBUSY, "with EXPECTED")
    expect(table.create(entry(UDP, status=ct.USUAL | ct.DYING)), EBUSY, "with DYING")
    expect(table.create(entry(UDP, status=None)), 0, "without any status")


def check_nat_bits_in_status_are_ignored() -> None:
    status = ct.USUAL | ct.SRC_NAT | ct.DST_NAT
    expect(Table().create(entry(UDP, status=status)), 0, "with NAT bits")
    assert "src=10.2.0.1 dst=10.1.0.1 sport=53 dport=4000" in listed()


def check_master_must_exist() -> None:
    table = Table()
    data = Tuple("10.1.0.1", "10.2.0.1", ct.TCP, (4001, 20))
    child = entry(data, None, TCP.pack(ct.TUPLE_MASTER))
    expect(table.create(child), ENOENT, "with an unknown master")
    expect(table.create(entry(TCP, None, ESTABLISHED)), 0, "the master")
    expect(table.create(child), 0, "with its master there")


def check_generic_protocols_need_no_ports() -> None:
    expect(Table().create(entry(Tuple("10.1.0.1", "10.2.0.1", ct.ESP))), 0, "ESP, addresses only")
    assert "unknown  50" in listed() or "esp" in listed()


def check_gre_and_udplite_need_their_keys() -> None:
    table = Table()
    for name, protocol in (("GRE", ct.GRE), ("UDP-Lite", ct.UDPLITE)):
        bare = Tuple("10.1.0.1", "10.2.0.1", protocol)
        expect(table.create(entry(bare)), EINVAL, f"{name} without keys")
        keyed = Tuple("10.1.0.1", "10.2.0.1", protocol, (7, 9))
        expect(table.create(entry(keyed)), 0, f"{name} with keys")


def check_icmp_needs_type_code_id() -> None:
    table = Table()
    echo = Tuple("10.1.0.1", "10.2.0.1", ct.ICMP, (77, 8, 0))
    bare = Tuple("10.2.0.1", "10.1.0.1", ct.ICMP)
    expect(table.create(entry(echo, bare)), EINVAL, "ICMP, reply without type, code and id")
    expect(table.create(entry(echo)), 0, "ICMP echo")
    assert "type=0 code=0 id=77" in listed()


def check_sctp_needs_all_of_its_protoinfo() -> None:
    table = Table()
    flow = Tuple("10.1.0.1", "10.2.0.1", ct.SCTP, (4000, 3868))
    state = ct.attribute(1, bytes([4]))
    vtags = ct.number(2, 0x11111111) + ct.number(3, 0x22222222)
    half = ct.nest(ct.PROTOINFO, ct.nest(3, state))
    whole = ct.nest(ct.PROTOINFO, ct.nest(3, state, vtags))
    expect(table.create(entry(flow, None, half)), EINVAL, "SCTP state without vtags")
    expect(table.create(entry(flow, None, whole)), 0, "SCTP state with both vtags")


def check_either_tuple_there_is_eexist() -> None:
    table = Table()
    expect(table.create(entry(UDP)), 0, "first")
    expect(table.create(entry(UDP)), EEXIST, "the same again")
    expect(table.create(entry(UDP.inverse())), EEXIST, "the other way round")
    shares_reply = Tuple("10.9.0.1", "10.2.0.1", ct.UDP, (4000, 53))
    expect(table.create(entry(shares_reply, UDP.inverse())), EEXIST, "the same reply tuple")


def check_create_without_excl_is_upsert() -> None:
    table = Table()
    expect(table.update(entry(UDP)), ENOENT, "update of nothing")
    expect(table.ask(ct.NEW, ct.REPLACE, entry(UDP)), ENOENT, "REPLACE alone creates nothing")
    expect(table.upsert(entry(UDP, timeout_s=100)), 0, "upsert, absent")
    expect(table.upsert(entry(UDP, timeout_s=9000)), 0, "upsert, present")
    flows = [line for line in listed().splitlines() if "src=10.1.0.1" in line]
    assert len(flows) == 1, flows
    assert int(flows[0].split()[4]) > 8000, flows


def check_update_matches_either_direction() -> None:
    table = Table()
    expect(table.create(entry(UDP, timeout_s=100)), 0, "create")
    other_way = UDP.inverse().pack(ct.TUPLE_REPLY) + ct.number(ct.TIMEOUT, 7000)
    expect(table.update(other_way), 0, "update that names the reply tuple")
    assert " 69" in listed() or " 70" in listed(), listed()


def check_create_only_attributes() -> None:
    """A helper, a master or NAT cannot be given to an entry that is there already."""
    table = Table()
    expect(table.create(entry(TCP, None, ESTABLISHED)), 0, "create")
    expect(table.create(entry(UDP)), 0, "a master to be")
    for what, more in (
        ("NAT", ct.nat(ct.NAT_SRC, "192.0.2.1", 5000)),
        ("a master", UDP.pack(ct.TUPLE_MASTER)),
        ("a helper", ct.nest(ct.HELP, ct.attribute(1, b"ftp\0"))),
    ):
        expect(table.update(TCP.pack(ct.TUPLE_ORIG) + more), EOPNOTSUPP, f"{what} by update")


def check_window_scale_needs_its_flag() -> None:
    """Read back from the kernel: the scale is kept with the flag in both directions only."""
    table = Table()
    without = Tuple("10.1.0.1", "10.2.0.1", ct.TCP, (4001, 443))
    expect(table.create(entry(TCP, None, ESTABLISHED)), 0, "with the flag")
    flagless = ct.tcp_info(ct.ESTABLISHED, 0, 0x9, scale=7)
    expect(table.create(entry(without, None, flagless)), 0, "without")
    assert table.tcp_scales(TCP) == (7, 7), table.tcp_scales(TCP)
    assert table.tcp_scales(without) == (0, 0), table.tcp_scales(without)


def check_liberal_can_be_cleared_later() -> None:
    table = Table()
    expect(table.create(entry(TCP, None, ESTABLISHED)), 0, "create")
    assert table.tcp_flags(TCP) == (0x9, 0x9), table.tcp_flags(TCP)
    tighten = ct.tcp_info(ct.ESTABLISHED, 0, ct.BE_LIBERAL)
    expect(table.update(TCP.pack(ct.TUPLE_ORIG) + tighten), 0, "flags 0, mask 8")
    assert table.tcp_flags(TCP) == (0x1, 0x1), table.tcp_flags(TCP)


def check_update_moves_tcp_state_back() -> None:
    """Why the agent merges by itself: the kernel lets an older state overwrite a newer one."""
    table = Table()
    expect(table.create(entry(TCP, None, ct.tcp_info(ct.FIN_WAIT))), 0, "create in FIN_WAIT")
    older = TCP.pack(ct.TUPLE_ORIG) + ct.tcp_info(ct.ESTABLISHED)
    expect(table.update(older), 0, "an older state")
    assert "ESTABLISHED" in listed(), listed()


def check_update_adds_status_bits_and_takes_none() -> None:
    """SEEN_REPLY and ASSURED only ever come; an update that lacks one that is set is refused."""
    table = Table()
    expect(table.create(entry(UDP, status=ct.CONFIRMED)), 0, "create, unreplied")
    for status in (ct.CONFIRMED | ct.SEEN_REPLY, ct.USUAL):
        more = UDP.pack(ct.TUPLE_ORIG) + ct.number(ct.STATUS, status)
        expect(table.update(more), 0, f"status {status:#x}")
    for status in (ct.CONFIRMED, ct.CONFIRMED | ct.SEEN_REPLY, ct.CONFIRMED | ct.ASSURED):
        less = UDP.pack(ct.TUPLE_ORIG) + ct.number(ct.STATUS, status)
        expect(table.update(less), EBUSY, f"status {status:#x} after {ct.USUAL:#x}")
    assert "[ASSURED]" in listed(), listed()


def check_refused_update_is_half_done() -> None:
    table = Table()
    expect(table.create(entry(UDP, timeout_s=100)), 0, "create")
    wrong = UDP.pack(ct.TUPLE_ORIG) + ct.number(ct.TIMEOUT, 5000) + ct.number(ct.STATUS, ct.DYING)
    expect(table.update(wrong), EBUSY, "an update with a wrong status")
    flow = next(line for line in listed().splitlines() if "src=10.1.0.1" in line)
    assert int(flow.split()[4]) > 4000, f"the timeout was left alone: {flow}"


def check_delete_with_id_spares_a_successor() -> None:
    table = Table()
    expect(table.create(entry(UDP)), 0, "create")
    first = table.identity(UDP)
    expect(table.delete(UDP.pack(ct.TUPLE_ORIG)), 0, "delete")
    expect(table.create(entry(UDP)), 0, "the successor")
    second = table.identity(UDP)
    by_old_id = UDP.pack(ct.TUPLE_ORIG) + ct.attribute(ct.ID, first)
    if first != second:  # the kernel may place the new entry where the old one was
        expect(table.delete(by_old_id), ENOENT, "delete of the predecessor")
    by_wrong_id = UDP.pack(ct.TUPLE_ORIG) + ct.attribute(ct.ID, bytes(b ^ 0xFF for b in second))
    expect(table.delete(by_wrong_id), ENOENT, "delete with another id")
    expect(table.delete(UDP.pack(ct.TUPLE_ORIG) + ct.attribute(ct.ID, second)), 0, "delete, own id")


def check_maximum_is_one_for_all_namespaces() -> None:
    """nf_conntrack_max can be written in the first namespace only."""
    try:
        with open("/proc/sys/net/netfilter/nf_conntrack_max", "w") as knob:
            knob.write("1000")
    except PermissionError:
        return
    raise AssertionError("nf_conntrack_max was written inside a network namespace")
