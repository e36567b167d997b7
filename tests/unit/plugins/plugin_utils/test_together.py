# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which pairs get their rules in step, judged by what was found on their nodes.

What is no pair at work is changed one node after the other by `site.yml`, and refused by
`rules.yml`.
"""

from __future__ import annotations

import copy

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._together import together

from .pairs import RIGHT, cluster_of

HEARD = {"peer": {"state": "alive", "ruleset": "0123456789abcdef"}}
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
def test_anything_else_is_no_pair_at_work(nodes):
    assert not together(cluster_of(RIGHT), nodes)
