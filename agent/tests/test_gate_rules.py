# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate as data: which addresses are whose, and that no difference goes unnoticed."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

import pytest

from amaranten_ha.core import gate_compare, gate_rules
from amaranten_ha.core.gate_rules import Plan, Port
from amaranten_ha.core.nft_words import (
    Code,
    FoundChain,
    FoundSet,
    FoundTable,
    Hook,
    Renew,
    Rule,
    Table,
    Verdict,
)

ip = ipaddress.ip_address
net = ipaddress.ip_interface

PLAN = Plan(
    cluster=7,
    node=1,
    ports=(Port("lan", "enp1s0"), Port("wan", "enp2s0")),
    own=frozenset({ip("10.20.1.2"), ip("10.20.1.255"), ip("fd20:1::2")}),
    shared=frozenset({ip("10.20.1.1"), ip("fd20:1::1"), ip("fe80::1")}),
    lease_ms=324,
    linger_ms=104,
    damped_lease_ms=1284,
    restarting_ms=3004,
)
EXPECTED = gate_rules.table(PLAN)
DEVICES = ("enp1s0", "enp2s0")


def as_found(table: Table) -> FoundTable:
    """What a faithful kernel would tell about this table."""
    return FoundTable(
        flags=6,
        owner=4711,
        sets={
            s.name: FoundSet(s.name, s.key, s.key.length, 0 if s.lasting else 0x30)
            for s in table.sets
        },
        elements={s.name: s.elements for s in table.sets},
        chains={
            c.name: FoundChain(c.name, c.hook, -500 if c.device else 0, 1 if c.device else 0, devs)
            for c in table.chains
            for devs in [(c.device,) if c.device else ()]
        },
        rules={c.name: c.rules for c in table.chains},
    )


def test_own_addresses_come_with_their_directed_broadcasts() -> None:
    found = gate_rules.own_of([net("10.20.1.2/24"), net("192.0.2.0/31"), net("fd20:1::2/64")])
    wanted = {ip("10.20.1.2"), ip("10.20.1.255"), ip("192.0.2.0"), ip("fd20:1::2")}
    assert found == wanted


def test_the_subnet_router_anycast_address_belongs_to_the_active() -> None:
    own = [net("fd20:1::2/64"), net("fd20:9::2/127")]
    found = gate_rules.shared_of(own, [net("fd20:1::1/64"), net("fe80::1/64"), net("10.0.0.1/24")])
    assert found == {ip("fd20:1::1"), ip("fd20:1::"), ip("fe80::1"), ip("10.0.0.1")}


def test_what_the_running_system_has_is_own_unless_a_static_address_on_our_device() -> None:
    found = gate_rules.running_own(
        [
            ("enp9s0", ip("10.20.9.2"), True),
            ("lo", ip("127.0.0.1"), True),
            ("lo", ip("192.0.2.77"), True),
            ("enp1s0", ip("10.20.1.99"), True),
            ("enp1s0", ip("2001:db8::99"), True),
            ("enp1s0", ip("2001:db8::aaaa"), False),
            ("enp1s0", ip("fe80::5"), False),
        ],
        DEVICES,
    )
    assert found == {ip("10.20.9.2"), ip("192.0.2.77"), ip("2001:db8::aaaa")}


def test_a_faithful_kernel_differs_in_nothing() -> None:
    assert gate_compare.differences(EXPECTED, as_found(EXPECTED), DEVICES) == []


def _without(table: FoundTable, **changed: object) -> FoundTable:
    return dataclasses.replace(table, **changed)  # type: ignore[arg-type]


def mutants() -> Iterator[tuple[str, FoundTable]]:
    """Every single rule, expression, chain, set and element, missing or changed."""
    true = as_found(EXPECTED)
    for name, rules in true.rules.items():
        for index, rule in enumerate(rules):
            less = rules[:index] + rules[index + 1 :]
            yield f"{name} without rule {index}", _without(true, rules={**true.rules, name: less})
            for place in range(len(rule.expressions)):
                kept = rule.expressions[:place] + rule.expressions[place + 1 :]
                bent = (*rules[:index], Rule(kept, rule.comment), *rules[index + 1 :])
                text = f"{name} rule {index} without expression {place}"
                yield text, _without(true, rules={**true.rules, name: bent})
        opened = (Rule((Verdict(Code.ACCEPT),)), *rules)
        yield f"{name} opened", _without(true, rules={**true.rules, name: opened})
    for name, chain in true.chains.items():
        gone = {k: v for k, v in true.chains.items() if k != name}
        yield f"no chain {name}", _without(true, chains=gone)
        hook = Hook.EGRESS if chain.hook != Hook.EGRESS else Hook.INGRESS
        for bent_chain in (
            dataclasses.replace(chain, hook=hook),
            dataclasses.replace(chain, hook=0, devices=("lo",)),
            dataclasses.replace(chain, hook=0, priority=0, devices=("enp1s0",)),
        ):
            yield f"bent {bent_chain}", _without(true, chains={**true.chains, name: bent_chain})
    for name, held in true.sets.items():
        yield (
            f"no set {name}",
            _without(true, sets={k: v for k, v in true.sets.items() if k != name}),
        )
        yield (
            f"flags of {name}",
            _without(
                true, sets={**true.sets, name: dataclasses.replace(held, flags=held.flags ^ 0x10)}
            ),
        )
        for element in true.elements[name]:
            fewer = true.elements[name] - {element}
            yield f"{name} less one", _without(true, elements={**true.elements, name: fewer})
    yield "dormant", _without(true, flags=7)
    stranger = FoundChain("stranger", None, 0, 0, ())
    yield "a chain more", _without(true, chains={**true.chains, "stranger": stranger})


def test_no_difference_goes_unnoticed() -> None:
    tried = 0
    for text, mutant in mutants():
        assert gate_compare.differences(EXPECTED, mutant, DEVICES), text
        assert gate_compare.differences(EXPECTED, mutant, DEVICES, exact=False), text
        tried += 1
    assert tried > 150


def test_a_missing_chain_is_told_with_its_device_and_forgiven_without_it() -> None:
    true = as_found(EXPECTED)
    chains = {k: v for k, v in true.chains.items() if not k.endswith("_wan")}
    found = _without(true, chains=chains)
    problems = gate_compare.differences(EXPECTED, found, DEVICES)
    assert problems == [
        "device enp2s0: chain arriving_wan is missing",
        "device enp2s0: chain leaving_wan is missing",
    ]
    assert gate_compare.differences(EXPECTED, found, ("enp1s0",)) == []


def test_heart_forgives_a_further_own_address_but_never_a_shared_one() -> None:
    true = as_found(EXPECTED)
    for extra, forgiven in (("10.20.9.2", True), ("10.20.1.1", False)):
        more = true.elements["own4"] | {ip(extra).packed}
        found = _without(true, elements={**true.elements, "own4": more})
        problems = gate_compare.differences(EXPECTED, found, DEVICES, exact=False)
        assert (problems == []) is forgiven
        assert gate_compare.differences(EXPECTED, found, DEVICES)


@pytest.mark.parametrize(("drift_ms", "same"), [(4, True), (9, True), (10, False), (100, False)])
def test_a_timeout_may_be_read_back_rounded_to_a_jiffy(drift_ms: int, same: bool) -> None:
    def bend(rule: Rule) -> Rule:
        parts = (
            dataclasses.replace(e, timeout_ms=e.timeout_ms - drift_ms)
            if isinstance(e, Renew) and e.timeout_ms
            else e
            for e in rule.expressions
        )
        return Rule(tuple(parts), rule.comment)

    true = as_found(EXPECTED)
    bent = tuple(map(bend, true.rules["heartbeat"]))
    found = _without(true, rules={**true.rules, "heartbeat": bent})
    assert (gate_compare.differences(EXPECTED, found, DEVICES) == []) is same
