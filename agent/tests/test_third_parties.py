# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a node asks who is neither of the two: gateways, who has answered, whom the kernel knows."""

from __future__ import annotations

import ipaddress

from stories import settled

from amaranten_ha.core.third_parties import NEIGHBOURS_PER_LINK_MAX, ThirdParties

HOST = ipaddress.ip_address("10.1.0.77")


def test_whom_the_kernel_knows_is_asked_and_only_its_answer_counts() -> None:
    heart = settled().machines[2].heart
    assert heart is not None
    plan = heart.plan
    lan = next(link for link in plan.links if link.service)
    sync = next(link for link in plan.links if not link.service)
    parties = ThirdParties(plan)
    assert parties.to_ask(lan) == []
    parties.know({lan.number: [HOST], sync.number: [HOST]})
    assert parties.to_ask(lan) == [HOST]
    assert parties.to_ask(sync) == []
    assert not parties.answer(now_ns=1)
    parties.answered(lan.number, HOST, at_ns=1)
    assert parties.answer(now_ns=2)
    assert parties.to_ask(lan) == [HOST]
    many = [HOST + number for number in range(100)]
    parties.know({lan.number: many})
    assert len(parties.to_ask(lan)) <= NEIGHBOURS_PER_LINK_MAX + 1
    parties.know({})
    assert parties.to_ask(lan) == [HOST]


def test_the_engine_asks_them_when_their_time_has_come() -> None:
    world = settled()
    heart = world.machines[2].heart
    assert heart is not None
    lan = next(link.number for link in heart.plan.links if link.service)
    later_ns = world.now_ns + 2 * heart.timing.ask_ms * 1_000_000
    assert HOST not in {probe.address for probe in heart.probes(later_ns)}
    heart.third_parties.know({lan: [HOST]})
    later_ns += 2 * heart.timing.ask_ms * 1_000_000
    assert HOST in {probe.address for probe in heart.probes(later_ns)}
