# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a change of a running pair may begin, and how the pair is shown."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils import _side_by_side as table
from ansible_collections.amaranten.ha.plugins.plugin_utils._admission import admit

NODES = ["fw-a", "fw-b"]
LINK = {"device": "enp1s0", "carrier": True, "heard": True, "in": {"lost": 3}}
STATUS = {
    "node": "fw-a",
    "role": "active",
    "reason": "elected",
    "since_s": 12.5,
    "held": False,
    "held_s": None,
    "damped": False,
    "epoch": 4,
    "version": "0.1.0",
    "profile": "virtual",
    "digests": {"config": "0123456789abcdef", "ruleset": "fedcba9876543210"},
    "peer": {"role": "passive", "silence": "alive"},
    "switchover": {"possible": True, "reasons": []},
    "ready": True,
    "reasons": [],
    "replica": {"state": "synced", "share_permille": 1000, "lag_ms": 0, "reason": ""},
    "sync": {"connections": {"survive": 99, "of": 103}},
    "gate": {"intact": True, "open": True, "owned": True, "problem": ""},
    "links": {"lan": LINK},
    "margin": {"near_misses": 0, "nodes": {}, "problems": []},
    "health": {
        "next_hops": {"198.51.100.254": True},
        "keys": {"send": 1, "heard": 1, "fw-a": [1], "fw-b": [1]},
    },
    "drill": None,
    "path": {"code": 1, "state": "WARNING", "text": "fw-a active, 2 ways; lan has no carrier"},
}


def pair_of(**changes):
    """Both nodes' states; a change is of the active one."""
    active = dict(copy.deepcopy(STATUS), **changes)
    passive = dict(copy.deepcopy(STATUS), node="fw-b", role="passive")
    return {"fw-a": {"status": active}, "fw-b": {"status": passive}}


def test_a_pair_in_sync_is_admitted_and_the_active_node_comes_last():
    found = admit(NODES, pair_of(), True)
    assert (found.active, found.order, found.reasons) == ("fw-a", ["fw-b", "fw-a"], [])


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"fw-a": pair_of()["fw-a"]}, "fw-b was not asked"),
        (dict(pair_of(), **{"fw-b": {"status": {}}}), "the agent of fw-b does not answer"),
        (pair_of(role="passive"), "fw-a is passive (elected); fw-b is passive (elected)"),
        (pair_of(role="fault", reason="fault: gate"), "fw-a is fault (fault: gate)"),
        (
            pair_of(switchover={"possible": False, "reasons": ["the replica is bulk"]}),
            "the replica is bulk",
        ),
    ],
)
def test_anything_else_is_refused_with_its_reason(states, words):
    assert words in "; ".join(admit(NODES, states, True).reasons)


def test_what_does_not_refuse_a_switchover_refuses_no_change():
    states = pair_of(ready=False, reasons=["the two nodes accept different keys"])
    assert admit(NODES, states, True).reasons == []


def test_an_older_agent_tells_all_its_reasons_at_once():
    states = pair_of(ready=False, reasons=["the replica is bulk"])
    del states["fw-a"]["status"]["switchover"]
    assert admit(NODES, states, True).reasons == ["the replica is bulk"]
    assert admit(NODES, states, False).reasons == []


def test_both_nodes_are_shown_side_by_side_and_fit_a_terminal():
    statuses = {node: state["status"] for node, state in pair_of().items()}
    text = table.text("edge", statuses)
    assert text.startswith("edge: fw-a is active, fw-b is passive; the spare would take over now")
    assert max(map(len, text.splitlines())) <= 110
    rows = {line[2:14].strip(): line for line in text.splitlines()[1:]}
    assert "99 of 103 would survive" in rows["connections"]
    assert rows["link lan"].count("enp1s0 heard, 3 lost") == 2
    assert rows["way through"].count("lan has no carrier") == 2
    assert table.well(statuses)


def test_a_node_that_is_down_has_an_empty_column_and_says_so():
    statuses = {node: state["status"] for node, state in pair_of().items()}
    statuses["fw-b"] = {}
    text = table.text("edge", statuses)
    assert text.startswith("edge: fw-a is active, fw-b is NOT REACHED; NOT ready")
    assert "- fw-b does not answer" in text
    assert not table.well(statuses)


def test_long_texts_go_on_below_and_reasons_are_said_once():
    reason = "no next hop on wan answers fw-b, and one answers fw-a"
    statuses = {
        node: dict(state["status"], reason="peer lost: " + "machine " * 20, ready=False)
        for node, state in pair_of().items()
    }
    for status in statuses.values():
        status["reasons"] = [reason]
    text = table.text("edge", statuses)
    assert max(map(len, text.splitlines())) <= 110
    assert text.count(reason) == 1
    assert not table.well(statuses)
