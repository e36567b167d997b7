# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tables: what is wanted, on the disk and running on each node; the finding that must follow."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._configuration import (
    configuration,
    fingerprint,
    flat,
    record,
)
from ansible_collections.amaranten.ha.plugins.module_utils._nft import steady
from ansible_collections.amaranten.ha.plugins.module_utils._observe import network_file
from ansible_collections.amaranten.ha.plugins.plugin_utils import _drift_report as report
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift import Value, compare
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_pair import (
    Allowance,
    Judgement,
    allowances,
    clocks,
    seconds_apart,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drift_remedies import remedy
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

RIGHT = Value(wanted="1", disk="1", live="1")
TABLE = [
    ("nothing", RIGHT, RIGHT, []),
    ("only one node reached", RIGHT, None, []),
    ("kernel of one", Value("1", "1", "0"), RIGHT, [("runtime", ("a",))]),
    ("kernel of both", Value("1", "1", "0"), Value("1", "1", "7"), [("runtime", ("a", "b"))]),
    ("disk of one", Value("1", "0", "1"), RIGHT, [("one-sided", ("a",))]),
    ("disk and kernel of one", RIGHT, Value("1", "0", "0"), [("one-sided", ("b",))]),
    ("disk of both", Value("1", "0", "1"), Value("1", "2", "1"), [("both-sided", ("a", "b"))]),
    (
        "the inventory moved",
        Value("2", "1", "1", as_deployed=True),
        Value("2", "1", "1", as_deployed=True),
        [("intent", ("a", "b"))],
    ),
    (
        "the inventory moved, and a hand on one node",
        Value("2", "1", "1", as_deployed=True),
        Value("2", "3", "3", as_deployed=False),
        [("intent", ("a",)), ("one-sided", ("b",))],
    ),
    (
        "disk of one, kernel of the other",
        Value("1", "0", "0"),
        Value("1", "1", "0"),
        [("one-sided", ("a",)), ("runtime", ("b",))],
    ),
    ("no file says it", Value("1", None, "0"), RIGHT, [("one-sided", ("a",))]),
    ("extra", Value("", None, "x"), Value("", None, "x"), [("both-sided", ("a", "b"))]),
    ("differ, nothing wanted", Value(live="1"), Value(live="2"), [("one-sided", ("a", "b"))]),
    ("alike, nothing wanted", Value(live="1"), Value(live="1"), []),
    ("one has it, nothing wanted", Value(live="1"), None, [("one-sided", ("a",))]),
    ("stale", Value(stale="runs with older keys"), None, [("stale agent", ("a",))]),
]


@pytest.mark.parametrize(("name", "mine", "theirs", "wanted"), TABLE)
def test_each_difference_has_its_class_and_its_nodes(name, mine, theirs, wanted):
    nodes = {
        node: {} if value is None else {"p": value} for node, value in (("a", mine), ("b", theirs))
    }
    found = compare(nodes)
    assert [(f.kind, f.nodes) for f in found] == wanted, name
    assert all(f.diff for f in found if f.kind != "stale agent")


def test_a_node_alone_is_not_compared_with_nobody():
    assert compare({"a": {"p": Value(live="1")}}) == []


def intent():
    """The roles' input of a small node."""
    return {
        "packages": ["nftables"],
        "sysctls": {"net/ipv4/conf/eth1.7/rp_filter": 2},
        "sysctl_path": "/etc/sysctl.d/x.conf",
        "networks": [
            {
                "name": "lan",
                "device": "eth1.7",
                "addresses": ["fd20:1:0::2/64", "10.20.1.2/24"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.20.1.254"}],
                "on_link": ["10.9.0.0/24"],
                "placeholder": True,
                "mtu": 9000,
            }
        ],
        "interfaces": {"lan": {"device": "eth1.7", "shared": [], "managed": True}},
        "dns": {},
        "units": [{"name": "x.service", "content": "[Unit]", "enabled": True}],
        "masked": ["nftables.service"],
        "files": {},
        "ruleset": "table inet t {\n}\n",
        "key_ring": {"ids": {"1": "abc"}, "send_key": 1},
        "release": "0.1-abc",
    }


def test_a_document_is_flat_under_logical_names_and_a_file_says_the_same():
    document = configuration(intent())
    paths = flat(document, {"eth1.7": "lan"})
    for path, value in {
        "address/lan/fd20:1::2/64": "present",
        "address/lan/192.0.0.8/32": "present",
        "route/lan/0.0.0.0/0 via 10.20.1.254": "present",
        "route/lan/10.9.0.0/24": "present",
        "mtu/lan": "9000",
        "sysctl/net/ipv4/conf/lan/rp_filter": "2",
        "unit/nftables.service/enabled": "masked",
        "unit/x.service/state": "active",
        "key/send": "1",
        "package/nftables": "installed",
        "agent/release": "0.1-abc",
    }.items():
        assert paths[path] == value
    text = document["files"]["/etc/systemd/network/05-amaranten-ha-lan.network"]
    assert network_file(text) == document["interfaces"]["lan"]
    remembered = record(intent())["values"]
    assert remembered["mtu/lan"] == fingerprint("9000")


def test_a_network_file_that_somebody_broke_is_read_all_the_same():
    found = network_file("[Network]\nAddress=nonsense\n[Route]\nDestination=x\nGateway=y\n")
    assert found == {"addresses": ["nonsense"], "routes": ["x via y"], "mtu": ""}


def test_the_elements_of_moving_sets_are_no_part_of_a_table():
    table = (
        "table inet t {\n\tset fixed {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1,\n"
        "\t\t\t     10.0.0.2 }\n\t}\n\n\tset moving {\n\t\ttype ipv4_addr\n"
        "\t\tflags dynamic,timeout\n\t\telements = { 10.0.0.3 expires 3s,\n"
        "\t\t\t     10.0.0.4 }\n\t}\n\n\tchain c {\n\t\tip saddr @moving accept\n\t}\n}\n"
    )
    assert "10.0.0.2 }" in steady(table)
    assert "10.0.0.3" not in steady(table)
    assert "10.0.0.4" not in steady(table)
    assert "ip saddr @moving accept" in steady(table)
    assert steady(table).count("}") == table.count("}") - 1


def judgement(findings=(), **changes):
    """A pair's judgement."""
    values = {"id": 7, "name": "edge", "nodes": ("a", "b"), "unreached": (), "compared": 9}
    values.update(findings=tuple(findings), allowed=(), unused=())
    values.update(changes)
    return Judgement(**values)


def test_the_line_is_one_and_says_what_was_not_compared():
    found = compare({"a": {"table/ip x": Value("", None, "table ip x {\n\x01}\n")}, "b": {}})
    assert judgement().line() == "edge: no drift, 9 values compared on a and b"
    assert "a NOT REACHED" in judgement(unreached=("a",)).line()
    assert "NOT COMPARED" in judgement(unreached=("a", "b")).line()
    many = [judgement(), judgement(found, name="two", unreached=("b",))]
    assert report.line(many) == ("2 pairs: 1 without drift; DRIFT in 1: two (1); NOT REACHED: b")
    root = ElementTree.fromstring(report.junit(many))
    assert [s.get("failures") for s in root] == ["0", "1"]
    assert json.loads(json.dumps(report.as_dict(many)))["drift"] is True
    assert "-table ip x {" in report.text(many)


def test_every_section_of_the_paths_is_a_case_of_the_report():
    assert {"ruleset", "sysctl", "unit", "shared"} <= set(report.SECTIONS)


@pytest.mark.parametrize(
    ("said", "apart"), [(100.0, 0), (130.0, 0), (150.0, 10), (90.0, -10), (140.0, 0)]
)
def test_a_clock_is_wrong_only_if_no_delay_explains_it(said, apart):
    assert seconds_apart({"said": said, "asked_at": 100.0}, now=140.0) == apart


def test_clocks_that_are_apart_are_a_finding():
    assert clocks({"a": 0.4, "b": -1.0}) == []
    (found,) = clocks({"a": 0.0, "b": 12.0})
    assert (found.kind, found.nodes) == ("one-sided", ("b",))
    assert "at least 12 s ahead of the controller" in found.text


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("table/*", "drift_allowed is 'table/*', expected a list"),
        ([{"path": "table/*"}], "drift_allowed[0].reason is empty, expected why"),
        ([{"path": "x", "reason": "y", "node": "a"}], "drift_allowed[0].node is not known"),
        ([{"path": "x", "reason": "y", "class": "z"}], "drift_allowed[0].class is 'z', expected"),
        (["x"], "drift_allowed[0] is 'x', expected a dict"),
    ],
)
def test_a_wrong_allowance_is_refused_in_a_sentence(raw, words):
    problems = Problems()
    allowances(raw, "drift_allowed", problems)
    assert words in problems.text()


def test_an_allowance_is_for_a_path_and_perhaps_a_class():
    (found,) = compare({"a": {"table/ip x": Value("", None, "y")}, "b": {}})
    assert Allowance("table/*", "why").fits(found)
    assert Allowance("table/*", "why", "one-sided").fits(found)
    assert not Allowance("table/*", "why", "runtime").fits(found)
    assert not Allowance("table", "why").fits(found)


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        ("table/ip x", Value("", None, "t"), "on a: nft delete table ip x"),
        ("rule/-4 9: from 10.0.0.1 lookup 7", Value(""), "on a: ip -4 rule delete priority 9 from"),
        ("route table 7/lan/10.0.0.0/8", Value(""), "on a: ip route delete 10.0.0.0/8 table 7"),
        ("device/lan", Value("up", None, "down"), "on a: ip link set eth1 up"),
        ("sysctl/net/x", Value("1", "1", "0"), "ansible-playbook playbooks/site.yml --limit a"),
    ],
)
def test_each_finding_comes_with_the_command_that_mends_it(path, value, wanted):
    assert remedy(path, value, {"lan": "eth1"}, "a").startswith(wanted)
