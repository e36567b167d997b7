# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A drill's request is refused in a sentence, and what was not measured never passes for good."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import BY_NAME
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_findings import judge, measure
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_request import read

VANTAGE = {
    "desk": {"vantage_side": "client"},
    "web": {"vantage_side": "server", "vantage_addresses": ["198.51.100.100"]},
}
FLOW = {"from": "desk", "to": "web", "address": "198.51.100.100"}
UDP = {"silence_ms": 220.0, "packets_lost": 210, "sent": 3000, "answered": 2790}


def asked(vantage=None, **arguments):
    """What is refused of a drill, a sentence each."""
    try:
        read({"drill": "crash", **arguments}, VANTAGE if vantage is None else vantage, ["lan"])
    except ValueError as refusal:
        return str(refusal).splitlines()
    return []


def failed(flows, kinds, budget=None):
    """The names of the checks that fail after a crash that moved the role."""
    found = measure(flows, kinds, {}, {}, {})
    checks = judge(BY_NAME["crash"], budget or {}, found, ("fw-a", "fw-b"), True, 1.0)
    return [check.name for check in checks if not check.ok]


def test_what_is_right_is_read():
    assert asked() == []
    assert asked(flows=[{**FLOW, "rate": 500, "port": 8000, "to_port": 7000}]) == []
    assert asked(vantage={}) == []
    assert asked(budget={"silence_ms": "300"}) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"flows": [{**FLOW, "port": 99999}]},
            "drill_flows[0].port is 99999, expected a number from 1 to 65535.",
        ),
        (
            {"flows": [{**FLOW, "to_port": "ssh"}]},
            "drill_flows[0].to_port is 'ssh', expected a number from 1 to 65535.",
        ),
        (
            {"flows": [{**FLOW, "rate": -5}]},
            "drill_flows[0].rate is -5, expected a number from 1 to 20000.",
        ),
        (
            {"flows": [{**FLOW, "kind": "tcp", "connections": 0}]},
            "drill_flows[0].connections is 0, expected a number from 1 to 2000.",
        ),
        (
            {"budget": {"silence_ms": "nan"}},
            "drill_budget.silence_ms is 'nan', expected a number from 0 to 1e+09.",
        ),
        ({"budget": {"lost": -1}}, "drill_budget.lost is -1, expected a number from 0 to 1e+09."),
        (
            {"vantage": {"desk": {"vantage_side": "clinet"}}},
            "desk: vantage_side is 'clinet', expected one of client, server.",
        ),
        (
            {"vantage": {"web": {"vantage_side": "server", "vantage_addresses": ["web.example"]}}},
            "web: vantage_addresses is 'web.example', expected IP addresses.",
        ),
    ],
)
def test_a_mistake_is_named(arguments, sentence):
    assert sentence in asked(**arguments)


def test_a_flow_that_worked_is_judged_by_its_silence():
    assert failed({"nat": UDP}, {"nat": "udp"}) == []
    assert failed({"nat": UDP}, {"nat": "udp"}, {"silence_ms": 200}) == ["silence_ms"]


@pytest.mark.parametrize("result", [{}, {**UDP, "silence_ms": 0.0, "answered": 0}])
def test_a_flow_that_carried_nothing_fails_the_drill(result):
    assert failed({"nat": result}, {"nat": "udp"}) == ["traffic"]


def test_a_limit_that_was_asked_for_and_not_measured_fails_the_drill():
    assert failed({}, {}, {"silence_ms": 50}) == ["silence_ms"]
    assert failed({}, {}) == []
