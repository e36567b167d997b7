# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A drill's request is refused in a sentence, and what was not measured never passes for good."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import BY_NAME
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_findings import (
    dual_active_ns,
    judge,
    measure,
    node_times,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_request import read
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_timeline import of_wire

VANTAGE = {
    "desk": {"vantage_side": "client"},
    "web": {"vantage_side": "server", "vantage_addresses": ["198.51.100.100"]},
}
FLOW = {"from": "desk", "to": "web", "address": "198.51.100.100"}
UDP = {
    "silence_ms": 220.0, "late_ms": 0.0, "send_gap_ms": 1.1, "packets_lost": 210, "sent": 3000,
    "answered": 2790,
}  # fmt: skip
MS = 1_000_000


def asked(vantage=None, **arguments):
    """What is refused of a drill, a sentence each."""
    try:
        read({"drill": "crash", **arguments}, VANTAGE if vantage is None else vantage, ["lan"])
    except ValueError as refusal:
        return str(refusal).splitlines()
    return []


def failed(flows, kinds, budget=None):
    """The names of the checks that fail after a crash that moved the role."""
    found = measure(flows, kinds, None)
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


@pytest.mark.parametrize(
    ("silence_ms", "late_ms", "fails"), [(60.0, 30.0, []), (90.0, 30.0, ["silence_ms"])]
)
def test_a_silence_in_which_the_probe_was_late_passes_only_if_all_of_it_does(
    silence_ms, late_ms, fails
):
    flow = {**UDP, "silence_ms": silence_ms, "late_ms": late_ms}
    assert failed({"nat": flow}, {"nat": "udp"}, {"silence_ms": 100}) == fails


@pytest.mark.parametrize("result", [{}, {**UDP, "silence_ms": 0.0, "answered": 0}])
def test_a_flow_that_carried_nothing_fails_the_drill(result):
    assert failed({"nat": result}, {"nat": "udp"}) == ["traffic"]


def test_a_limit_that_was_asked_for_and_not_measured_fails_the_drill():
    assert failed({}, {}, {"silence_ms": 50}) == ["silence_ms"]
    assert failed({}, {}) == []


def passed(begin_ms, end_ms):
    """A packet each millisecond."""
    return [at * MS for at in range(begin_ms, end_ms)]


@pytest.mark.parametrize(
    ("one", "other", "expected_ms"),
    [
        (passed(0, 100), passed(103, 300), 0),
        (passed(0, 300), passed(200, 500), 98),
        (passed(0, 100) + [150 * MS + 1], passed(103, 300), 0),
        (passed(0, 100) + passed(400, 500), passed(101, 399), 0),
        (passed(0, 300), [], 0),
    ],
    ids=["hand-over", "both", "one stray packet", "there and back", "one alone"],
)
def test_both_are_active_while_each_passes_packets_between_those_of_the_other(
    one, other, expected_ms
):
    found = dual_active_ns({"fw-a": one, "fw-b": other}, 0)
    assert abs(found / MS - expected_ms) <= 2


def test_an_overlap_within_the_blur_of_the_clocks_is_none():
    times = {"fw-a": passed(0, 100), "fw-b": passed(95, 300)}
    assert dual_active_ns(times, 0) > 0
    assert dual_active_ns(times, 10 * MS) == 0


def test_packets_of_a_node_are_put_together_on_one_clock():
    taps = {
        "desk": {"nodes": {"02:a": {"packets": 3, "from_ns": 5 * MS, "after_us": [1000, 2000]}}},
        "web": {
            "nodes": {
                "02:aa": {"packets": 1, "from_ns": 1 * MS, "after_us": []},
                "02:b": {"packets": 0, "from_ns": 0, "after_us": []},
            }
        },
    }
    nodes = {"02:a": "fw-a", "02:aa": "fw-a", "02:b": "fw-b"}
    times, blur_ns = node_times(taps, {"desk": (100, 7), "web": (5 * MS, 3)}, nodes)
    assert times == {"fw-a": [5 * MS + 100, 6 * MS, 6 * MS + 100, 8 * MS + 100]}
    assert blur_ns == 7


def test_the_first_packet_through_a_node_is_a_moment():
    times = {"fw-a": passed(0, 110), "fw-b": passed(330, 900)}
    told = [(each.ms, each.text) for each in of_wire(times, 100 * MS, 100 * MS)]
    assert told == [(9.0, "last packet through fw-a"), (230.0, "first packet through fw-b")]
