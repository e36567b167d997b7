# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nodes that are not what the inventory says."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._node_checks import (
    check_keys,
    check_node,
    check_timers,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

from .pairs import KEY, OTHER_KEY, RIGHT, at, cluster_of, pair

BARE = {"manager": "", "manager_file": "", "dynamic": False, "addresses": [], "ppp": False}
NODE = {
    "systemd": True,
    "distribution": {"id": "debian"},
    "connection_address": "10.20.9.2",
    "devices": {
        "lo": dict(BARE, addresses=["127.0.0.1/8"]),
        "enp1s0": dict(BARE),
        "enp2s0": dict(BARE),
        "enp4s0": dict(BARE),
        "enp9s0": dict(BARE, addresses=["10.20.9.2/24"]),
    },
}


def sentences(change=None, raw=RIGHT):
    """What is said about a node after a change of what was found on it."""
    found = copy.deepcopy(NODE)
    if change:
        change(found)
    problems = Problems()
    check_node(cluster_of(raw), "fw-a", found, problems)
    return problems.sentences


def test_a_bare_node_is_fine():
    assert sentences() == []


def test_a_static_file_that_ours_takes_the_place_of_is_fine():
    theirs = {"manager": "systemd-networkd", "manager_file": "/etc/systemd/network/10-lan.network"}
    assert sentences(lambda n: n["devices"]["enp1s0"].update(theirs)) == []


def test_our_own_file_is_fine():
    mine = {
        "manager": "systemd-networkd",
        "manager_file": "/etc/systemd/network/05-amaranten-ha-lan.network",
    }
    assert sentences(lambda n: n["devices"]["enp1s0"].update(mine)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n["devices"].pop("enp1s0"), ["device is 'enp1s0'", "which has enp2s0, enp4s0"]),
        (lambda n: n["devices"]["enp1s0"].update(ppp=True), ["no PPPoE device"]),
        (
            lambda n: n["devices"]["enp1s0"].update(
                manager="ifupdown", manager_file="/etc/network/interfaces"
            ),
            ["ifupdown leaves alone", "delete its stanza in /etc/network/interfaces"],
        ),
        (
            lambda n: n["devices"]["enp1s0"].update(manager="NetworkManager"),
            ["NetworkManager leaves alone", "nmcli device set enp1s0 managed no"],
        ),
        (
            lambda n: n["devices"]["enp1s0"].update(
                manager="systemd-networkd", manager_file="/etc/x.network", dynamic=True
            ),
            ["gets them by DHCP from systemd-networkd in /etc/x.network"],
        ),
        (
            lambda n: n["devices"]["enp1s0"].update(
                manager="systemd-networkd", manager_file="/etc/systemd/network/00-all.network"
            ),
            [
                "no file of systemd-networkd comes before ours",
                "/etc/systemd/network/00-all.network",
            ],
        ),
        (lambda n: n.update(systemd=False), ["does not run systemd"]),
        (lambda n: n.update(distribution={"id": "fedora"}), ["runs fedora, expected Debian"]),
        (
            lambda n: n["devices"]["enp9s0"].update(addresses=["10.20.1.200/24"]),
            ["fw-a has 10.20.1.200/24 on enp9s0", "ha_cluster.interfaces.lan"],
        ),
        (
            lambda n: (
                n.update(connection_address="10.20.1.50"),
                n["devices"]["enp1s0"].update(addresses=["10.20.1.50/24"]),
            ),
            ["The controller reaches fw-a at 10.20.1.50 on enp1s0"],
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_remedy(change, words):
    found = sentences(change)
    assert [s for s in found if all(word in s for word in words)], found


def test_somebody_else_may_manage_the_addresses_but_not_by_dhcp():
    raw = at("interfaces.lan.manage_addresses", False)
    mine = {"manager": "ifupdown", "manager_file": "/etc/network/interfaces"}
    assert sentences(lambda n: n["devices"]["enp1s0"].update(mine), raw) == []
    mine["dynamic"] = True
    assert sentences(lambda n: n["devices"]["enp1s0"].update(mine), raw)


def keys(wanted, send, *deployed):
    """What is said about a change of keys; deployed: (ids, the one that is sent with) per node."""
    raw = pair(keys=dict(zip((1, 2), (KEY, OTHER_KEY), strict=False)), send_key=send)
    found = {
        node: {"key_ring": {"ids": ids, "send_key": key}} if ids else {"key_ring": {"ids": {}}}
        for node, (ids, key) in zip(("fw-a", "fw-b"), deployed, strict=False)
    }
    problems = Problems()
    check_keys(cluster_of(raw), wanted, found, problems)
    return problems.sentences


OLD = ({"1": "aa"}, 1)
BOTH = ({"1": "aa", "2": "bb"}, 1)
NONE = ({}, None)


def test_keys_are_changed_in_steps_of_which_each_keeps_the_nodes_in_touch():
    assert keys({"1": "aa", "2": "bb"}, 1, OLD, OLD) == []
    assert keys({"1": "aa", "2": "bb"}, 2, BOTH, BOTH) == []
    assert keys({"2": "bb"}, 2, ({"1": "aa", "2": "bb"}, 2), ({"1": "aa", "2": "bb"}, 2)) == []


def test_a_step_too_far_is_refused():
    assert "fw-a does not have yet" in keys({"1": "aa", "2": "bb"}, 2, OLD, OLD)[0]
    assert "fw-a does not have yet" in keys({"1": "cc"}, 1, OLD, OLD)[0]
    assert "lacks the key 1 that fw-a still sends with" in keys({"2": "bb"}, 2, BOTH, BOTH)[0]


def test_a_bare_node_and_one_that_was_left_behind_are_mended():
    assert keys({"1": "aa"}, 1, NONE, NONE) == []
    assert keys({"1": "aa"}, 1, OLD, NONE) == []
    assert keys({"1": "aa"}, 1, OLD, ({"1": "zz"}, 1)) == []


VIRTUAL = {"beat_ms": 40, "dead_ms": 250, "lease_ms": 320}
FAST = {"beat_ms": 20, "dead_ms": 50, "lease_ms": 120}


def too_fast(wanted, floor, present):
    """What is said about a change of timers on a node that has measured these floors."""
    found = {
        "timers": present,
        "margin": {"profiles": {"virtual": VIRTUAL, "fast": FAST}, "floor": floor},
    }
    problems = Problems()
    check_timers(cluster_of(wanted), "fw-a", found if present else {}, problems)
    return problems.sentences


QUIET = {"dead_ms": 3, "lease_ms": 30, "delay_ms": 5}
OWN = pair(profile=None, timers={"beat_ms": 10, "dead_ms": 30, "lease_ms": 100})


@pytest.mark.parametrize(
    ("wanted", "floor", "words"),
    [
        (pair(profile="fast"), QUIET, None),
        (OWN, QUIET, None),
        (pair(profile="fast"), dict(QUIET, lease_ms=121.5), "profile makes lease_ms 120, expected"),
        (pair(profile="fast"), dict(QUIET, dead_ms=51), "makes dead_ms 50, expected at least 51"),
        (pair(profile="fast"), dict(QUIET, delay_ms=31), "makes dead_ms 50, expected at least 51"),
        (OWN, dict(QUIET, dead_ms=40), "timers.dead_ms makes dead_ms 30, expected at least 40"),
    ],
)
def test_faster_timers_than_the_floors_are_refused_with_the_figure(wanted, floor, words):
    said = too_fast(wanted, floor, VIRTUAL)
    assert len(said) == (words is not None)
    assert all(words in sentence and "fw-a measured" in sentence for sentence in said)


def test_slower_or_equal_timers_and_a_first_deployment_are_never_refused():
    bad = {"dead_ms": 900, "lease_ms": 900, "delay_ms": 900}
    assert too_fast(pair(profile="virtual"), bad, VIRTUAL) == []
    assert too_fast(pair(profile="virtual"), bad, FAST) == []
    assert too_fast(pair(profile="fast"), bad, None) == []
