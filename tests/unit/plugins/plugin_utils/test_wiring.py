# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict on the wiring: each fault by its own name, on its interface, and nothing else."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring import judge

from .observed import LINKS, NODES, Paper, mac

STRANGER = "02:ff:ff:ff:ff:ff"
HOST = "02:00:00:00:00:64"


def found(paper):
    """(check, status, verdict, interfaces, nodes) of each finding, and the verdicts."""
    verdict = judge(paper.seen(), 7)
    findings = [(f.check, f.status, f.verdict, f.interfaces, f.nodes) for f in verdict.findings]
    return findings, {name: each["verdict"] for name, each in verdict.interfaces.items()}


def changed(change):
    """A paper lab with something wrong in it."""
    paper = Paper()
    change(paper)
    return paper


BOTH = ("fw-a", "fw-b")


def swapped(p):
    p.network["fw-b", "lan"], p.network["fw-b", "dmz"] = "dmz", "lan"


def swapped_and_told(p):
    swapped(p)
    p.answers["fw-a", "lan"] = {"10.20.1.100": [HOST]}


def swapped_and_overheard(p):
    swapped(p)
    p.state["fw-b", "dmz"] = {"speakers": [["10.20.1.100", HOST]]}


def wrong_bridge(p):
    p.network["fw-b", "lan"] = "dmz"


def management(p):
    p.network["fw-b", "lan"] = "mgmt"
    p.extra = {("fw-a", "mgmt0"): "mgmt", ("fw-b", "mgmt0"): "mgmt"}


def nowhere(p):
    p.network["fw-b", "lan"] = "elsewhere"


def joined(p):
    p.joined["dmz"] = "lan"


def sync_in_lan(p):
    p.joined["sync"] = "lan"


def no_carrier(p):
    p.down.add(("fw-a", "wan"))


def no_cable(p):
    p.down.update({("fw-a", "sync"), ("fw-b", "sync")})


def one_way(p):
    p.drops = lambda s, r, kind, size: (s, r) == (("fw-a", "lan"), ("fw-b", "lan"))


def narrow(p):
    p.drops = lambda s, r, kind, size: "lan" in (s[1], r[1]) and size > 1000


def ip_only(p):
    p.drops = lambda s, r, kind, size: s[1] == "lan" and kind in ("beat", "probe")


def no_beats(p):
    p.drops = lambda s, r, kind, size: kind == "beat"


def no_ip(p):
    p.drops = lambda s, r, kind, size: s == ("fw-a", "wan") and kind in ("ip", "ip6")


def small_device(p):
    p.state["fw-b", "dmz"] = {"mtu": 1400, "sent_mtu": 1400}


def jumbo_not_proved(p):
    for node in NODES:
        p.state[node, "sync"] = {"wanted_mtu": 9000, "left_alone": "it has addresses"}


def jumbo_not_set(p):
    jumbo_not_proved(p)
    p.state["fw-b", "sync"]["left_alone"] = "the agent runs on this node"
    p.state["fw-a", "sync"]["sent_mtu"] = 9000


def absent(p):
    p.state["fw-b", "dmz"] = {"present": False, "carrier": False}
    p.down.add(("fw-b", "dmz"))


def left_down(p):
    p.state["fw-b", "dmz"] = {"up": False, "carrier": False, "left_alone": "it has addresses"}
    p.down.add(("fw-b", "dmz"))


def tagged(p):
    p.vlan = {(("fw-a", "lan"), ("fw-b", "lan")): 10}


def looped(p):
    own = {"at": "lan", "device": "lan", "node": 1, "link": LINKS["lan"], "kind": "probe"}
    own.update(mac=mac("fw-a", "lan"), vlan=0, size=0)
    p.more["fw-a"] = {"heard": [*p.heard("fw-a"), own]}


def third_party(p):
    heard = list(p.heard("fw-a"))
    for item in heard:
        if item["at"] == "lan":
            item["mac"] = STRANGER
    p.more["fw-a"] = {"heard": heard}


def address_taken(p):
    p.answers["fw-b", "lan"] = {"10.20.1.1": [STRANGER]}


def own_taken_by_peer(p):
    p.answers["fw-a", "lan"] = {"10.20.1.2": [mac("fw-b", "lan")]}


def active(p):
    p.answers["fw-b", "lan"] = {"10.20.1.1": [mac("fw-a", "lan")]}


def both_active(p):
    active(p)
    p.answers["fw-a", "lan"] = {"10.20.1.1": [mac("fw-b", "lan")]}


def cloned(p):
    for node in NODES:
        p.state[node, "lan"] = {"mac": STRANGER}
        p.more[node] = {"heard": [dict(h, mac=STRANGER) if h["at"] == "lan" else h
                                  for h in p.heard(node)]}  # fmt: skip


def one_reaches(p):
    p.answers["fw-a", "lan"] = {"10.20.1.100": [HOST]}
    p.answers["fw-b", "lan"] = {"10.20.1.100": []}


def both_reach(p):
    p.answers["fw-a", "lan"] = p.answers["fw-b", "lan"] = {"10.20.1.100": [HOST]}


def nobody_reaches(p):
    p.answers["fw-a", "lan"] = p.answers["fw-b", "lan"] = {"10.20.1.100": []}


def declared_is_off(p):
    nobody_reaches(p)
    p.state["fw-a", "lan"] = p.state["fw-b", "lan"] = {"declared": ["10.20.1.100"]}


def reaches_with_an_address(p):
    one_reaches(p)
    p.state["fw-b", "lan"] = {"asked": {"10.20.1.100": False}}


def know_each_other(p):
    p.state["fw-b", "lan"] = {"addresses": ["10.20.1.3", "fe80::b"]}
    p.answers["fw-a", "lan"] = {"fe80::b": [mac("fw-b", "lan")]}
    p.answers["fw-b", "lan"] = {"fe80::b": []}


def one_way_and_reach(p):
    one_way(p)
    one_reaches(p)


def slow(p):
    p.state["fw-b", "wan"] = {"speed": 100}


def half(p):
    p.state["fw-b", "wan"] = {"duplex": "half"}


def late_clock(p):
    p.more["fw-a"] = {"skew_ns": {"lan": -5_000_000_000}}
    p.more["fw-b"] = {"skew_ns": {"lan": 5_000_000_000}}


def namesake(p):
    p.more["fw-a"] = {
        "beats": [{"cluster": 7, "node": 1, "mac": STRANGER, "at": "wan", "device": "w"}]
    }


def other_pair(p):
    p.more["fw-a"] = {
        "beats": [{"cluster": 8, "node": 1, "mac": STRANGER, "at": "wan", "device": "w"}]
    }


CASES = [
    (lambda p: None, []),
    (swapped, [("wiring", "failed", "swapped", ("dmz", "lan"), BOTH)]),
    (swapped_and_told, [("wiring", "failed", "swapped", ("dmz", "lan"), ("fw-b",))]),
    (swapped_and_overheard, [("wiring", "failed", "swapped", ("dmz", "lan"), ("fw-b",))]),
    (wrong_bridge, [("wiring", "failed", "wrong network", ("lan",), ("fw-b",))]),
    (management, [("wiring", "failed", "wrong network", ("lan",), ("fw-b",))]),
    (nowhere, [("wiring", "failed", "isolated", ("lan",), BOTH)]),
    (joined, [("wiring", "failed", "leak", ("dmz", "lan"), BOTH)]),
    (sync_in_lan, [("wiring", "failed", "leak", ("lan", "sync"), BOTH)]),
    (no_carrier, [("wiring", "failed", "no carrier", ("wan",), ("fw-a",))]),
    (no_cable, [("wiring", "failed", "no carrier", ("sync",), BOTH)]),
    (one_way, [("wiring", "failed", "one-way", ("lan",), BOTH)]),
    (one_way_and_reach, [("wiring", "failed", "one-way", ("lan",), BOTH)]),
    (narrow, [("mtu", "failed", "MTU", ("lan",), BOTH)]),
    (small_device, [("mtu", "failed", "MTU", ("dmz",), ("fw-b",))]),
    (jumbo_not_proved, [("mtu", "inconclusive", "MTU not proved", ("sync",), BOTH)]),
    (jumbo_not_set, [("mtu", "failed", "MTU", ("sync",), ("fw-b",))]),
    (ip_only, [("heartbeat", "warning", "no heartbeats", ("lan",), BOTH)]),
    (no_beats, [("heartbeat", "failed", "no heartbeats", (name,), BOTH) for name in LINKS]),
    (no_ip, [("wiring", "failed", "filtered", ("wan",), BOTH)]),
    (absent, [("wiring", "failed", "absent", ("dmz",), ("fw-b",))]),
    (left_down, [("wiring", "inconclusive", "down", ("dmz",), ("fw-b",))]),
    (tagged, [("wiring", "failed", "VLAN tag seen", ("lan",), ("fw-b",))]),
    (looped, [("wiring", "failed", "looped", ("lan",), ("fw-a",))]),
    (third_party, [("wiring", "failed", "third party", ("lan",), ("fw-a",))]),
    (address_taken, [("addresses", "failed", "address taken", ("lan",), ("fw-b",))]),
    (own_taken_by_peer, [("addresses", "failed", "address taken", ("lan",), ("fw-b",))]),
    (active, []),
    (both_active, [("addresses", "failed", "both answer", ("lan",), BOTH)]),
    (cloned, [("addresses", "failed", "MAC twice", ("lan",), BOTH)]),
    (one_reaches, [("reach", "failed", "only one node reaches", ("lan",), ("fw-b",))]),
    (both_reach, []),
    (know_each_other, []),
    (nobody_reaches, []),
    (declared_is_off, [("reach", "warning", "no answer", ("lan",), BOTH)]),
    (reaches_with_an_address, [("reach", "warning", "only one node reaches", ("lan",), ("fw-b",))]),
    (slow, [("speed", "warning", "speed differs", ("wan",), BOTH)]),
    (half, [("speed", "warning", "half duplex", ("wan",), ("fw-b",))]),
    (late_clock, [("clock", "warning", "clocks differ", (), BOTH)]),
    (namesake, [("cluster_id", "failed", "same cluster id", ("wan",), ())]),
    (other_pair, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"), CASES, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_named_once_and_where_it_is(change, expected):
    findings, verdicts = found(changed(change))
    assert findings == expected
    named = {name: f[2] for f in expected if f[0] == "wiring" for name in f[3]}
    assert verdicts == {name: named.get(name, "same network") for name in LINKS}


def test_the_two_that_are_swapped_name_each_other():
    verdict = judge(changed(swapped).seen(), 7)
    assert verdict.interfaces["lan"]["with"] == ["dmz"]
    assert verdict.interfaces["dmz"]["with"] == ["lan"]


def test_three_that_went_round_are_each_in_a_wrong_network():
    paper = Paper()
    for name, network in {"lan": "dmz", "dmz": "wan", "wan": "lan"}.items():
        paper.network["fw-b", name] = network
    findings, _verdicts = found(paper)
    assert [finding[2] for finding in findings] == ["wrong network"] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alone": "the play runs on one node after the other (serial: 1)"}, "serial: 1"),
        ({"run": "fedcba9876543210"}, "different runs"),
        ({"began": 90.0, "ended": 96.5}, "at the same time"),
    ],
)
def test_a_run_without_overlap_is_inconclusive_and_no_bad_cable(change, words):
    paper = Paper()
    paper.drops = lambda s, r, kind, size: s[0] != r[0]
    paper.more["fw-a"] = change
    verdict = judge(paper.seen(), 7)
    assert [(f.status, f.verdict) for f in verdict.findings] == [("inconclusive", "inconclusive")]
    assert words in verdict.findings[0].text


def test_one_node_is_inconclusive():
    seen = Paper().seen()
    del seen["fw-b"]
    assert judge(seen, 7).findings[0].status == "inconclusive"


def test_nodes_that_surely_overlapped_and_heard_nothing_are_isolated():
    paper = Paper()
    paper.drops = lambda s, r, kind, size: s[0] != r[0]
    findings, _verdicts = found(paper)
    assert [(f[2], f[3]) for f in findings] == [("isolated", (name,)) for name in LINKS]


def test_the_largest_packet_that_passes_is_said():
    verdict = judge(changed(narrow).seen(), 7)
    assert "those of 1000 do" in verdict.findings[0].text
