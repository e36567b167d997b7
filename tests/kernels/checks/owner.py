# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may touch the gate's table, and what becomes of it when its owner or a device goes.

The owner flag, the fallback for kernels without ``persist`` (6.1: the socket is held elsewhere),
and devices that are deleted and made again.
"""

from __future__ import annotations

import os
import platform
import signal

from amaranten_ha.io.gate import GateKeeper
from amaranten_ha.io.nft_channel import Channel

from ..guest.bench import HOST, OWN, WAN_HOST, Bench, Shape
from ..guest.talk import Ear, Mouth

USERS_TABLE = "table inet user { chain c { type filter hook forward priority 0; }; }\n"


def _persist_known() -> bool:
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor)) >= (6, 9)


def check_strangers_flush_bounces() -> str:
    bench = Bench()
    keeper = bench.keeper()
    bench.ensure(keeper)
    bench.node.nft(USERS_TABLE)
    with bench.node:
        flush = os.spawnlp(os.P_WAIT, "nft", "nft", "flush", "ruleset")
    assert bench.look(bench.reader()).intact
    gone = "inet user" not in bench.node.run("nft", "list", "tables")
    assert bench.ensure(keeper) == []
    left = "gone" if gone else "still there"
    return f"nft flush ruleset exits with {flush}, the user's own table is {left}"


def check_strangers_delete_is_refused() -> None:
    bench = Bench()
    keeper = bench.keeper()
    bench.ensure(keeper)
    for words in (
        "delete table netdev amaranten_ha",
        "flush table netdev amaranten_ha",
        "flush chain netdev amaranten_ha leaving",
        "flush set netdev amaranten_ha own4",
        "add rule netdev amaranten_ha leaving accept",
        "add element netdev amaranten_ha lease { 0 }",
    ):
        said = bench.node.run("nft", *words.split(), refused=True)
        assert "not permitted" in said, f"{words}: {said}"
    assert bench.look(bench.reader()).intact
    assert bench.ensure(keeper) == []


def _owner_killed(bench: Bench, held: Channel | None) -> None:
    """A gate service makes the table and dies without a word; ``held`` stays with us, or not."""
    ready, tell = os.pipe()
    service = os.fork()
    if service == 0:
        with bench.node:
            keeper = GateKeeper(held or Channel())
            bench.ensure(keeper)
        os.write(tell, b"!")
        signal.pause()
    os.close(tell)
    assert os.read(ready, 1) == b"!", "the owner could not make the gate"
    os.kill(service, signal.SIGKILL)
    os.waitpid(service, 0)


def check_gate_after_its_owner_was_killed() -> str:
    """With persist it stays and is adopted; without, the kernel takes it along."""
    bench = Bench()
    _owner_killed(bench, None)
    state = bench.look(bench.reader())
    assert state.intact == _persist_known(), state
    keeper = bench.keeper()
    found = bench.ensure(keeper)
    assert len(found) == 1, found
    assert bench.look(bench.reader()).owned
    return f"found by the next service: {found[0]}"


def check_held_socket_keeps_the_gate() -> None:
    """The fallback of 6.1: whoever holds the owner's socket holds the table."""
    bench = Bench()
    with bench.node:
        held = Channel()
    _owner_killed(bench, held)
    state = bench.look(bench.reader())
    assert state.intact and state.owned, state
    with bench.node:
        assert os.spawnlp(os.P_WAIT, "nft", "nft", "flush", "ruleset") in (0, 1)
    again = GateKeeper(Channel(os.dup(held.fileno())))
    assert bench.ensure(again) == [], "the adopted gate needed mending"
    assert bench.look(bench.reader()).intact


def check_release_leaves_a_closed_gate() -> None:
    """The service stops for good: the table stays, and nothing is open that was not."""
    bench = Bench()
    keeper = bench.keeper()
    bench.ensure(keeper)
    with bench.node:
        keeper.release()
    del keeper
    state = bench.look(bench.reader())
    assert state.intact and not state.open_lease, state
    bench.beat()
    assert bench.look(bench.reader()).open_lease, "a released gate must go on working"
    after = bench.keeper()
    assert len(bench.ensure(after)) <= 1
    assert bench.look(bench.reader()).owned


def _closed(bench: Bench) -> None:
    near, far = Ear(bench.node), Ear(bench.wan)
    mouth = Mouth(bench.lan, HOST)
    mouth.says(b"through", WAN_HOST)
    mouth.says(b"to the node", OWN)
    near.hears(b"to the node")
    assert not far.heard(b"through"), "a device that came back is not gated"


def _device_comes_back(bench: Bench) -> str:
    keeper = bench.keeper()
    bench.ensure(keeper)
    bench.disconnect()
    reader = bench.reader()
    gone = bench.look(reader)
    assert gone.intact, f"an absent device is no broken gate: {gone.problem}"
    bench.connect()
    back = bench.look(reader)
    mended = bench.ensure(keeper)
    assert bench.look(bench.reader()).intact
    bench.bind()
    _closed(bench)
    bench.beat()
    assert bench.look(bench.reader()).open_lease, "the new device's beats do not renew"
    assert back.intact != bool(mended), (back, mended)
    return "the hook came back by itself" if not mended else f"mended: {mended[0]}"


def check_device_deleted_and_made_again() -> str:
    return _device_comes_back(Bench())


def check_vlan_deleted_and_made_again() -> str:
    return _device_comes_back(Bench(Shape.VLAN))


def check_bond_deleted_and_made_again() -> str:
    return _device_comes_back(Bench(Shape.BOND))


def check_gate_made_before_its_device() -> None:
    """At boot the gate service is early: the device appears later and is gated."""
    bench = Bench()
    bench.disconnect()
    keeper = bench.keeper()
    bench.ensure(keeper)
    assert bench.look(bench.reader()).intact
    bench.connect()
    bench.ensure(keeper)
    bench.bind()
    _closed(bench)
