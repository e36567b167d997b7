# SPDX-License-Identifier: GPL-3.0-or-later
"""Heartbeats between two kernels: no rule that a user writes cuts them, and only they are heard.

The frames are heart's own, sealed, sent and received by heart's ports; on a plain device, on a
VLAN and on a bond.
"""

from __future__ import annotations

import select
import socket
import time

from amaranten_ha.core import beat, ether
from amaranten_ha.core.beat import ETHERTYPE, GROUP_MAC

from ..guest.bench import HOST, NODE_MAC, OWN, Asker, Bench, Shape
from ..guest.net import until
from ..guest.talk import LATE_S, Ear, Mouth


def _beats(host: Asker, sealer_of: Bench, number: int = 1) -> list[tuple[int, str]]:
    """Wait for a number of beats; sequence and sender of each that arrived."""
    found: list[tuple[int, str]] = []
    deadline = time.monotonic() + LATE_S
    while len(found) < number:
        for received in host.frames(deadline):
            if int.from_bytes(received.data[12:14]) != ETHERTYPE:
                continue
            message = received.data[14:]
            body = next(
                opened
                for size in range(len(message), 0, -1)  # the frame may be padded
                if (opened := sealer_of.sealer.open(message[:size]))
            )
            found.append((beat.decode(body).sequence, received.data[6:12].hex(":")))
    return found


def _is_heard(bench: Bench) -> None:
    host = Asker(bench.lan, HOST)
    bench.beat()
    bench.beat()
    assert _beats(host, bench, 2) == [(1, NODE_MAC), (2, NODE_MAC)]


def check_is_heard() -> None:
    _is_heard(Bench())


def check_is_heard_on_vlan() -> None:
    _is_heard(Bench(Shape.VLAN))


def check_is_heard_on_bond() -> None:
    """Once: the frame goes to a group, but only one cable of the bond carries it."""
    _is_heard(Bench(Shape.BOND))


def check_beat_teaches_the_switch_on_bond() -> None:
    """The idle cable of a bond may have misled the switch; the next beat puts it right."""
    bench = Bench(Shape.BOND)
    ear, mouth = Ear(bench.node), Mouth(bench.lan, HOST)
    mac = bytes.fromhex(NODE_MAC.replace(":", ""))
    for cable, port in (("slave0", "port0"), ("slave1", "port1")):
        with bench.node:
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            wire.bind((cable, 0x9000))
        frame = ether.frame(ether.BROADCAST_MAC, mac, 0x9000, b"the wrong cable")

        # Whatever else the node says on its good cable teaches the bridge at once: say it again.
        def misled(wire: socket.socket = wire, frame: bytes = frame, port: str = port) -> bool:
            wire.send(frame)
            return NODE_MAC in bench.lan.run("bridge", "fdb", "show", "brport", port)

        until(f"the bridge learns {port}", misled)
        bench.beat()
        mouth.says(cable.encode(), OWN)
        ear.hears(cable.encode())


def check_is_heard_with_the_gate_closed() -> None:
    bench = Bench()
    bench.gate()
    host = Asker(bench.lan, HOST)
    bench.beat(role=beat.Role.PASSIVE)
    assert _beats(host, bench) == [(1, NODE_MAC)]


def check_passes_a_users_policy_drop() -> None:
    """Input, output and forward closed on both ends, in every family that a user may write."""
    bench = Bench()
    drops = "".join(
        f"table {family} user {{ "
        + "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; policy drop; }}; "
            for hook in hooks
        )
        + "}\n"
        for family, hooks in (
            ("inet", ("input", "output", "forward", "prerouting", "postrouting")),
            ("arp", ("input", "output")),
        )
    )
    bench.node.nft(drops)
    bench.lan.nft(drops)
    _is_heard(bench)


def check_passes_a_users_ingress_drop() -> None:
    """Heart listens to every EtherType, before the hook; one bound to its own hears nothing."""
    bench = Bench()
    bench.lan.nft(
        "table netdev user { chain c {"
        " type filter hook ingress device eth0 priority -600; policy drop; } ; }\n"
    )
    with bench.lan:
        bound = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        bound.bind(("eth0", ETHERTYPE))
    _is_heard(bench)
    assert not select.select([bound], [], [], 0)[0], "the ingress chain let a frame through"


def check_mark_reaches_the_egress_hook() -> None:
    bench = Bench()
    bench.node.nft(
        "table netdev user { chain c { type filter hook egress device lan0 priority 0;"
        f" meta mark {beat.MARK:#x} ether type {ETHERTYPE:#x} counter ; }} ; }}\n"
    )
    bench.beat()
    bench.beat()
    shown = bench.node.run("nft", "list", "chain", "netdev", "user", "c")
    assert "counter packets 2 " in shown, shown


def check_arrival_is_told_by_the_kernel() -> None:
    """A late wake-up must accuse nobody: the time is that of arrival, not of reading."""
    bench = Bench()
    host = Asker(bench.lan, HOST)
    before_ns = time.monotonic_ns()
    bench.beat()
    after_ns = time.monotonic_ns()
    time.sleep(0.3)  # the lateness under test
    received = [each for each in host.frames(0) if each.data[12:14] == b"\x88\xb5"]
    assert len(received) == 1, received
    # The wall clock and the monotonic one are read one after the other: allow for that.
    slack_ns = 100_000_000
    assert before_ns - slack_ns <= received[0].at_ns <= after_ns + slack_ns, (
        before_ns,
        received[0].at_ns,
        after_ns,
    )


def check_filter_takes_nothing_else() -> None:
    """Other EtherTypes, magics and traffic stay in the kernel."""
    bench = Bench()
    host = Asker(bench.lan, HOST)
    ear = Ear(bench.lan)
    mac = bytes.fromhex(NODE_MAC.replace(":", ""))
    with bench.node:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        wire.bind((bench.device, ETHERTYPE))
    good = bench.frame()
    for ethertype, message in (
        (0x88B6, good),
        (ETHERTYPE, b"AmHB" + good[4:]),
        (ether.ARP, bytes(46)),
    ):
        wire.send(ether.frame(GROUP_MAC, mac, ethertype, message))
    Mouth(bench.node, OWN).says(b"a datagram", HOST)
    ear.hears(b"a datagram")
    wire.send(ether.frame(GROUP_MAC, mac, ETHERTYPE, good))
    heard = host.frames(time.monotonic() + LATE_S)
    assert [each.data[14 : 14 + len(good)] for each in heard] == [good], heard


def check_own_frames_are_not_heard() -> None:
    bench = Bench()
    bench.beat()
    port = bench.ports["lan"].socket
    Asker(bench.lan, HOST).who_has(OWN)
    heard = [each.data[6:12].hex(":") for each in port.drain(256)]
    assert NODE_MAC not in heard, heard


def check_tagged_frames_belong_to_the_vlan() -> None:
    """A port on the trunk does not hear the beats of a VLAN on it, and the other way round."""
    bench = Bench(Shape.VLAN)
    trunk, vlan = Asker(bench.lan, HOST, "trunk1"), Asker(bench.lan, HOST)
    bench.beat()
    assert _beats(vlan, bench) == [(1, NODE_MAC)]
    below = Asker(bench.node, OWN, "trunk0")
    below.says(bench.frame())
    assert _beats(trunk, bench) == [(2, NODE_MAC)]
    assert not [each for each in vlan.socket.drain(256) if each.data[12:14] == b"\x88\xb5"]


def check_port_follows_a_device_made_again() -> None:
    bench = Bench()
    _is_heard(bench)
    bench.disconnect()
    bench.bind()
    assert bench.ports["lan"].socket is None, "a port on a deleted device"
    bench.connect()
    bench.bind()
    host = Asker(bench.lan, HOST)
    bench.beat()
    assert _beats(host, bench) == [(3, NODE_MAC)]


def check_lossy_link_loses_some() -> None:
    """netem works here: the foundation for tests of loss, delay and reordering."""
    bench = Bench()
    host = Asker(bench.lan, HOST)
    bench.node.run("tc", "qdisc", "add", "dev", "lan0", "root", "netem", "loss", "50%")
    for _beat in range(100):
        bench.beat()
    bench.node.run("tc", "qdisc", "del", "dev", "lan0", "root")
    bench.beat()
    arrived: list[int] = []
    while 101 not in arrived:
        arrived += [sequence for sequence, _heard in _beats(host, bench)]
    assert 10 < len(arrived) < 91, f"{len(arrived)} of 101 arrived"
