# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames open the gate, for how long, and which close it: asked of the agent's reader.

All checks share one gated node, closed at the beginning of each. The frames leave through heart's
own ports; the kernel's packet path does the rest. Durations are the relaxed profile's, so that a
slow emulator does not decide a check.
"""

from __future__ import annotations

import socket
from dataclasses import replace

from amaranten_ha.core import ether
from amaranten_ha.core.beat import ETHERTYPE, GROUP_MAC, MARK, Kind, Role
from amaranten_ha.core.seal import Sealer
from amaranten_ha.io.gate import GateReader, GateState

from ..guest.bench import Bench
from ..guest.net import until

ETH_P_ALL = 3
SO_MARK = 36


_shared: list[tuple[Bench, GateReader]] = []


def prepare() -> None:
    """One gated bench for all checks of this room: none of them changes more than the lease."""
    bench = Bench()
    _shared.append((bench, bench.gate()))


def _gated() -> tuple[Bench, GateReader]:
    """The shared bench with its gate closed."""
    assert _shared, "the gated bench could not be made; the guest's console says why"
    bench, reader = _shared[0]
    bench.beat(Kind.CLOSE)
    assert _both(bench.look(reader)) == (False, False)
    return bench, reader


def _both(state: GateState) -> tuple[bool, bool]:
    assert state.intact, state
    return state.open_lease, state.open_voice


def check_every_role_but_the_forwarding_ones_opens_nothing() -> None:
    bench, reader = _gated()
    for role in (Role.STARTING, Role.PASSIVE, Role.FAULT):
        bench.beat(role=role)
        assert _both(bench.look(reader)) == (False, False), role
    for role in (Role.HANDING_OVER, Role.ACTIVE):
        bench.beat(role=role)
        assert _both(bench.look(reader)) == (True, True), role
        bench.beat(Kind.CLOSE)
        assert _both(bench.look(reader)) == (False, False), "CLOSE"


def check_unsure_renews_nothing() -> None:
    bench, reader = _gated()
    bench.beat(Kind.UNSURE)
    assert _both(bench.look(reader)) == (False, False)


def check_another_node_or_cluster_opens_nothing() -> None:
    """What a peer or another pair on the same wire says must not matter if we send it along."""
    bench, reader = _gated()
    port = bench.ports["lan"]
    for frame in (bench.frame(node=2), bench.frame(cluster=8)):
        port.beat(frame, None)
        assert _both(bench.look(reader)) == (False, False)
    port.beat(b"AmHB" + bench.frame()[4:], None)
    assert _both(bench.look(reader)) == (False, False), "another magic"


def check_frame_without_the_mark_opens_nothing() -> None:
    """The right bytes from any other program, root's included, are not heart's."""
    bench, reader = _gated()
    mac = bench.ports["lan"].socket.mac
    data = ether.frame(GROUP_MAC, mac, ETHERTYPE, bench.frame())
    with bench.node:
        stranger = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        stranger.bind((bench.device, ETH_P_ALL))
    stranger.send(data)
    assert _both(bench.look(reader)) == (False, False)
    stranger.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
    stranger.send(data)
    assert _both(bench.look(reader)) == (True, True), "it was not the mark that kept it closed"


def check_heard_frame_opens_nothing() -> None:
    """Only what leaves renews: the peer's beats, and recordings of our own, come in."""
    bench, reader = _gated()
    data = ether.frame(GROUP_MAC, b"\x02" + bytes(5), ETHERTYPE, bench.frame())
    with bench.lan:
        attacker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        attacker.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
        attacker.bind(("eth0", ETH_P_ALL))
    attacker.send(data)
    assert _both(bench.look(reader)) == (False, False)


def check_linger_keeps_lease_without_voice() -> None:
    bench, reader = _gated()
    for _try in range(10):  # the linger is short: an interrupted try proves nothing
        bench.beat()
        bench.beat(Kind.LINGER, Role.PASSIVE)
        lease, voice = _both(bench.look(reader))
        assert not voice, "the voice outlived LINGER"
        if lease:
            break
    assert lease, "LINGER did not keep the lease"
    until("the linger has ended", lambda: not bench.look(reader).open_lease)


def check_linger_and_restarting_open_nothing() -> None:
    bench, reader = _gated()
    for kind in (Kind.LINGER, Kind.RESTARTING):
        bench.beat(kind)
        assert _both(bench.look(reader)) == (False, False), kind


def check_restarting_prolongs_and_next_beat_shortens() -> str:
    bench, reader = _gated()
    lease_ms = bench.settings.timing.lease_kernel_ms
    bench.beat()
    bench.beat(Kind.RESTARTING)
    long_ms = reader.lease_left_ms()
    assert _both(bench.look(reader)) == (True, True)
    assert lease_ms < long_ms <= 3100, f"{long_ms} ms after RESTARTING"
    bench.beat()
    short_ms = reader.lease_left_ms()
    assert 0 < short_ms <= lease_ms, f"{short_ms} ms after the next beat"
    return f"{long_ms} ms left after RESTARTING, {short_ms} ms after the next beat"


def check_close_and_farewell_close_at_once() -> None:
    bench, reader = _gated()
    for kind in (Kind.CLOSE, Kind.FAREWELL):
        bench.beat()
        assert _both(bench.look(reader)) == (True, True)
        bench.beat(kind)
        assert _both(bench.look(reader)) == (False, False), kind


def check_beat_renews_on_a_port_without_carrier() -> None:
    """The last cable pulled must not end the lease: monitoring, not the gate, judges links."""
    bench, reader = _gated()
    bench.lan.ip("link set eth0 down")
    bench.beat()
    open_now = _both(bench.look(reader))
    bench.lan.ip("link set eth0 up")
    assert open_now == (True, True)


def check_beat_on_any_gated_port_renews() -> None:
    bench, reader = _gated()
    bench.ports["wan"].beat(bench.frame(), None)
    assert _both(bench.look(reader)) == (True, True)


def check_renewal_changes_no_ruleset_generation() -> None:
    """What the agent's cheap check relies on: opening and closing is no change of rules."""
    bench, reader = _gated()
    before = bench.node.run("nft", "-j", "list", "table", "netdev", "amaranten_ha")
    bench.beat()
    bench.beat(Kind.CLOSE)
    after = bench.node.run("nft", "-j", "list", "table", "netdev", "amaranten_ha")
    assert before == after
    assert bench.look(reader).intact


def check_other_key_is_the_peers_business() -> None:
    """The kernel checks no seal: a beat of our own with any key renews our own lease."""
    bench, reader = _gated()
    other = replace(bench.settings.keys, keys={1: bytes(32)})
    bench.sealer = Sealer(other)
    bench.beat()
    assert _both(bench.look(reader)) == (True, True)
