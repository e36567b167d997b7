# SPDX-License-Identifier: GPL-3.0-or-later
"""When an active node must tell the network where the shared addresses are, on real wires.

Two real hearts. Who follows a lost peer announces at once, whatever keeps its kernel from adding an
address: it waits until the test lets it go. And whose cable was pulled announces when it is back.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from gate_bench import Wire, batch, run, until
from heart_pair import running_pair
from held_heart import ADDRESSES_FIRST, AT_THE_END

from amaranten_ha.core.announcer import REPEATS_MS
from amaranten_ha.core.beat import ETHERTYPE, Role

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
SHARED = "10.71.1.100"
ARP = 0x0806


def announces(frame: bytes) -> bool:
    """Say whether a frame is a gratuitous ARP for the shared address."""
    packed = socket.inet_aton(SHARED)
    return int.from_bytes(frame[12:14]) == ARP and frame[28:32] == frame[38:42] == packed


def claims(frame: bytes) -> bool:
    """Say whether a frame is a beat of an active node."""
    return int.from_bytes(frame[12:14]) == ETHERTYPE and frame[14 + 9] == Role.ACTIVE


@pytest.mark.parametrize(
    ("mutant", "at_once"), [("", True), (ADDRESSES_FIRST, False), (AT_THE_END, False)]
)
def test_the_first_announcement_waits_for_no_address(
    tmp_path: Path, mutant: str, at_once: bool
) -> None:
    hold = tmp_path / "hold"
    program = [str(Path(__file__).with_name("held_heart.py")), str(hold), mutant]
    with running_pair(tmp_path / "pair", program=program) as pair:
        lost, follower = pair.active, pair.passive
        wire = Wire(lost.namespace, "lan0")

        def follows(frame: bytes) -> bool:
            return frame[6:12] != wire.mac and claims(frame)

        def told(frame: bytes) -> bool:
            return frame[6:12] != wire.mac and announces(frame)

        def has_it() -> bool:
            return f" {SHARED}/32 " in run("ip", "-n", follower.namespace, "addr").stdout

        hold.touch()
        lost.services["heart"].kill()
        before = wire.collect(follows)
        assert not any(map(told, before)), "a claim leaves before anything else"
        if at_once:
            wire.collect(told)
        else:
            with pytest.raises(AssertionError, match="the last frame did not come"):
                wire.collect(told, 0.5)
        assert not has_it()
        hold.unlink()
        until(has_it, "the address is on")
        if not at_once:
            wire.collect(told)
        wire.close()


def test_an_active_node_announces_when_its_cable_is_back(tmp_path: Path) -> None:
    with running_pair(tmp_path, switched=True) as pair:
        port, wire = f"lan{pair.active.number}", Wire(pair.passive.namespace, "lan0")
        batch(f"link set {port} down", namespace=pair.switches)
        # What the take-over repeats is over then: without a cause nobody announces.
        time.sleep(REPEATS_MS[-1] / 1000 + 0.5)
        wire.drain()
        with pytest.raises(AssertionError, match="the last frame did not come"):
            wire.collect(announces, 0.5)
        batch(f"link set {port} up", namespace=pair.switches)
        wire.collect(announces, 2)
        wire.close()
