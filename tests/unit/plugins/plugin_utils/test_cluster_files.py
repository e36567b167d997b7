# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the pair becomes on its nodes: the agent's file, the template's variable, the network."""

from __future__ import annotations

import re

from ansible_collections.amaranten.ha.plugins.plugin_utils import _cluster_files as files

from .pairs import KEY, OTHER_KEY, RIGHT, at, cluster_of, pair

AGENT_TOML = """\
[cluster]
id = 7
name = "edge"
profile = "virtual"
wait_for_peer = false
damping = true

[node]
name = "fw-b"
number = 2

[peer]
name = "fw-a"
number = 1

[[interface]]
name = "lan"
link = 1
role = "service"
device = "ens5"
own = ["10.20.1.3/24", "fd20:1::3/64"]
peer_own = ["10.20.1.2/24", "fd20:1::2/64"]
shared = ["10.20.1.1/24", "fd20:1::1/64", "fe80::1/64"]
monitor = false

[[interface]]
name = "sync"
link = 2
role = "sync"
device = "ens6"
own = ["10.20.4.3/24"]
peer_own = ["10.20.4.2/24"]
shared = []
monitor = false

[[interface]]
name = "wan"
link = 3
role = "service"
device = "ens4"
own = []
peer_own = []
shared = ["198.51.100.1/24"]
monitor = true

[replication]
port = 6780

[network]
gateways = ["198.51.100.254"]
"""


def test_the_agents_file():
    routes = [{"via": "198.51.100.254"}, {"to": "10.9.0.0/16", "via": "10.20.1.9"}]
    raw = at("interfaces.wan.monitor", True)
    raw["routes"] = routes
    cluster = cluster_of(raw)
    text = files.agent_toml(cluster, "fw-b")
    assert "[cluster]" + text.partition("[cluster]")[2] == AGENT_TOML
    assert KEY not in text


def test_both_nodes_have_the_same_digests_and_a_change_another():
    cluster = cluster_of(RIGHT)
    rules = {"fw-a": "table inet edge {}", "fw-b": "table inet edge {}"}
    text = files.digests_toml(cluster, rules)
    assert re.search(r'^config = "[0-9a-f]{16}"$', text, re.MULTILINE)
    assert re.search(r'^ruleset = "[0-9a-f]{16}"$', text, re.MULTILINE)
    assert '"%s"' % files.ruleset_digest(cluster, rules) in text
    # Each node's own rules count on both: what is rendered, not only the template.
    for node in rules:
        changed = dict(rules, **{node: "table inet other {}"})
        assert files.digests_toml(cluster, changed) != text
    other = cluster_of(at("interfaces.lan.nodes.fw-a.device", "eth9"))
    assert files.config_digest(other) != files.config_digest(cluster)
    # The order in which somebody wrote the addresses is no difference.
    turned = cluster_of(at("interfaces.lan.shared", ["fe80::1/64", "10.20.1.1/24", "fd20:1::1/64"]))
    assert files.config_digest(turned) == files.config_digest(cluster)
    # Keys are compared apart, by what each node accepts.
    rotated = cluster_of(pair(keys={1: KEY, 2: OTHER_KEY}, send_key=2))
    assert files.config_digest(rotated) == files.config_digest(cluster)


def test_the_templates_variable():
    ha = files.context(cluster_of(RIGHT), "fw-a")
    assert ha["node"] == {"name": "fw-a", "number": 1}
    assert ha["peer"]["name"] == "fw-b"
    lan = ha["interfaces"]["lan"]
    assert lan["device"] == "enp1s0"
    assert lan["shared4"] == ["10.20.1.1"]
    assert lan["shared6"] == ["fd20:1::1"]
    assert lan["own4"] == ["10.20.1.2"]
    assert lan["peer6"] == ["fd20:1::3"]
    assert lan["networks4"] == ["10.20.1.0/24"]
    assert ha["interfaces"]["wan"]["networks4"] == ["198.51.100.0/24"]


def test_the_defines_name_each_nodes_own_devices():
    cluster = cluster_of(RIGHT)
    assert files.defines(cluster, "fw-a").splitlines() == [
        'define lan = "enp1s0"',
        'define sync = "enp4s0"',
        'define wan = "enp2s0"',
    ]
    assert 'define wan = "ens4"' in files.defines(cluster, "fw-b")


def test_a_network_without_own_addresses_gets_its_route_from_the_file():
    cluster = cluster_of(pair(routes=[{"via": "198.51.100.254"}]))
    networks = {n["name"]: n for n in files.networks_of(cluster, "fw-a")}
    assert networks["wan"]["addresses"] == []
    assert networks["wan"]["on_link"] == ["198.51.100.0/24"]
    assert networks["wan"]["routes"] == [
        {"to": "0.0.0.0/0", "via": "198.51.100.254", "on_link": True}
    ]
    assert networks["wan"]["placeholder"]
    assert networks["lan"]["on_link"] == []
    assert not networks["lan"]["placeholder"]


def test_shared_addresses_are_in_no_managers_file():
    cluster = cluster_of(RIGHT)
    for node in cluster.nodes:
        for network in files.networks_of(cluster, node):
            shared = {str(a) for i in cluster.interfaces for a in i.shared}
            assert not shared & set(network["addresses"])


def test_an_interface_that_somebody_else_manages_is_left_out():
    cluster = cluster_of(at("interfaces.lan.manage_addresses", False))
    assert [n["name"] for n in files.networks_of(cluster, "fw-a")] == ["sync", "wan"]


def test_the_interface_to_the_internet_is_that_of_the_default_route_or_of_the_name():
    assert files.context(cluster_of(RIGHT), "fw-a")["outside"] == "wan"
    routed = cluster_of(pair(routes=[{"via": "10.20.1.254"}]))
    assert files.context(routed, "fw-a")["outside"] == "lan"
    raw = pair()
    raw["interfaces"]["blue"] = raw["interfaces"].pop("wan")
    assert files.context(cluster_of(raw), "fw-a")["outside"] is None


def test_networks_behind_a_router_belong_to_the_interface_that_leads_there():
    routes = [{"to": "10.30.0.0/16", "via": "10.20.1.254"}, {"via": "198.51.100.9"}]
    interfaces = files.context(cluster_of(pair(routes=routes)), "fw-a")["interfaces"]
    assert interfaces["lan"]["networks4"] == ["10.20.1.0/24", "10.30.0.0/16"]
    assert interfaces["wan"]["networks4"] == ["198.51.100.0/24"]


def test_own_durations_are_written_and_are_part_of_the_fingerprint():
    timers = {"beat_ms": 10, "dead_ms": 30, "lease_ms": 100}
    cluster = cluster_of(pair(profile=None, timers=timers))
    text = files.agent_toml(cluster, "fw-a")
    assert 'profile = "timers"\n' in text
    assert "\n\n[timers]\nbeat_ms = 10\ndead_ms = 30\nlease_ms = 100\n\n[node]\n" in text
    other = cluster_of(pair(profile=None, timers={**timers, "dead_ms": 31}))
    assert files.config_digest(cluster) != files.config_digest(other)
