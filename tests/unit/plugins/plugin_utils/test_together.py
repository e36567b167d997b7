# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which pairs get their rules in step, and why a change is refused."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._together import refusals, together

from .pairs import RIGHT, cluster_of

HEARD = {"reasons": [], "peer": {"state": "alive", "ruleset": "0123456789abcdef"}}
NODES = {
    "fw-a": {"role": "active", "agent": HEARD},
    "fw-b": {"role": "passive", "agent": HEARD},
}


def changed(node, **values):
    """The two nodes, with one of them otherwise."""
    nodes = copy.deepcopy(NODES)
    nodes[node].update(values)
    return nodes


def test_a_pair_at_work_changes_its_rules_in_step():
    assert together(cluster_of(RIGHT), NODES)
    assert refusals(cluster_of(RIGHT), NODES, False) == []


@pytest.mark.parametrize(
    "nodes",
    [
        {},
        {"fw-a": NODES["fw-a"]},
        changed("fw-b", role=""),
        changed("fw-b", role="active"),
        changed("fw-b", role="fault"),
        changed("fw-b", agent={}),
        changed("fw-a", agent={"peer": {"state": "lost", "ruleset": "0123456789abcdef"}}),
        # An agent of before, which does not say what its peer has.
        changed("fw-a", agent={"peer": {"state": "alive", "ruleset": ""}}),
    ],
)
def test_anything_else_is_no_pair_at_work_and_refused_unless_forced(nodes):
    assert not together(cluster_of(RIGHT), nodes)
    (sentence,) = refusals(cluster_of(RIGHT), nodes, False)
    assert "expected" in sentence
    assert "ha_force_rules" in sentence
    assert refusals(cluster_of(RIGHT), nodes, True) == []


def test_every_reason_of_a_spare_that_is_not_ready_is_said_once():
    said = dict(HEARD, reasons=["the replica on fw-b is bulk", "fw-b is held in maintenance"])
    nodes = {node: dict(NODES[node], agent=said) for node in NODES}
    found = refusals(cluster_of(RIGHT), nodes, False)
    assert len(found) == 2
    assert "because the replica on fw-b is bulk, expected one that is ready" in found[0]


def test_different_rules_are_what_a_change_of_the_rules_mends():
    said = dict(HEARD, reasons=["the two nodes have different rulesets"])
    assert refusals(cluster_of(RIGHT), changed("fw-a", agent=said), False) == []
