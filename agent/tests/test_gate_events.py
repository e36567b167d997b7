# SPDX-License-Identifier: GPL-3.0-or-later
"""The bell that has heart read the gate back: once for a ruleset of any size, never for a beat."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest
from gate_bench import Bench, inside

from amaranten_ha.io.nft_channel import RulesetEvents

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def bell() -> Iterator[tuple[Bench, RulesetEvents]]:
    bench = Bench()
    try:
        bench.up()
        bench.service().ready()
        with inside(bench.node):
            events = RulesetEvents()
        yield bench, events
        events.close()
    finally:
        bench.down()


def rang(events: RulesetEvents) -> bool:
    """Say whether it rang; netlink tells before the command that changed something returns."""
    ready = bool(select.select([events], [], [], 0)[0])
    assert events.drain() is ready
    return ready


def test_a_change_of_any_ruleset_rings_once(bell: tuple[Bench, RulesetEvents]) -> None:
    bench, events = bell
    assert not rang(events)
    rules = "; ".join(f"add rule inet big some tcp dport {port} accept" for port in range(1, 3000))
    path = bench.directory / "big.nft"
    path.write_text(f"add table inet big; add chain inet big some; {rules}\n".replace("; ", "\n"))
    bench.shell(f"nft -f {path}")
    assert rang(events) and not rang(events)
    bench.shell("nft delete table inet big")
    assert rang(events) and not rang(events)


def test_a_beat_that_opens_the_gate_and_a_question_do_not_ring(
    bell: tuple[Bench, RulesetEvents],
) -> None:
    bench, events = bell
    bench.beat()
    bench.shell("nft list ruleset; ip link set lan0 mtu 1400")
    assert not rang(events)
