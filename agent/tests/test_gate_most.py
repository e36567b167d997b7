# SPDX-License-Identifier: GPL-3.0-or-later
"""The short way of most packets of an active node, in a real kernel.

The common chains would let the same packets through, so a base chain whose rules never match would
be slow and nothing else. Here the common chains drop every packet.
"""

from __future__ import annotations

import dataclasses
import os

import gate_frames as gf
import pytest
from gate_bench import LAN, WAN, inside
from gate_node import running_node

from amaranten_ha.core import gate_rules
from amaranten_ha.core.nft_words import Chain, Code, Compare, Meta, MetaKey, Relation, Rule, Verdict
from amaranten_ha.io import gate, nft
from amaranten_ha.io.nft_channel import Channel

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


def dropped(kind: int) -> Rule:
    """A rule that drops every packet of a protocol."""
    is_kind = Meta(MetaKey.PROTOCOL), Compare(Relation.EQUAL, kind.to_bytes(2))
    return Rule((*is_kind, Verdict(Code.DROP)))


def emptied(chain: Chain) -> Chain:
    """The chain, if it is a common one with heart's frames and nothing else in it."""
    if chain.name not in ("arriving", "leaving"):
        return chain
    beats = [rule for rule in chain.rules if Verdict(Code.GOTO, "heartbeat") in rule.expressions]
    return dataclasses.replace(chain, rules=(*beats, dropped(gf.IP), dropped(gf.IP6)))


def test_an_active_nodes_packets_pass_in_the_base_chains() -> None:
    with running_node(served=False) as node:
        # As long as it takes: on a slow machine the packets outlast the lease of every profile.
        plan = dataclasses.replace(gate.plan_of(node.bench.settings), lease_ms=60_000)
        table = gate_rules.table(plan)
        whole = dataclasses.replace(table, chains=tuple(map(emptied, table.chains)))
        with inside(node.bench.node):
            channel = Channel()
        channel.transact([nft.new_table(0), *gate._contents(whole)])
        channel.close()
        for is_open in (False, True):
            if is_open:
                node.bench.beat()
            assert node.forwards() is is_open and node.forwards(WAN, LAN) is is_open
            assert node.forwards6() is is_open and node.forwards6(WAN, LAN) is is_open
