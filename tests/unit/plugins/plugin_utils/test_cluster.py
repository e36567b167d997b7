# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every way in which a pair can be wrong, and the one sentence that each gives."""

from __future__ import annotations

import copy

import pytest

from .pairs import KEY, OTHER_KEY, RIGHT, at, pair, read, side

LAN = "interfaces.lan"


def timed(beat_ms, dead_ms, lease_ms):
    """The right pair with durations of its own instead of a profile."""
    given = {"beat_ms": beat_ms, "dead_ms": dead_ms, "lease_ms": lease_ms}
    return pair(profile=None, timers={key: value for key, value in given.items() if value})


def test_own_durations_are_an_alternative_to_a_profile():
    cluster, sentences = read(timed(10, 24, 90))
    assert sentences == []
    assert (cluster.profile, list(cluster.timers.values())) == ("timers", [10, 24, 90])


def test_the_right_pair_is_right():
    cluster, sentences = read(copy.deepcopy(RIGHT))
    assert sentences == []
    assert cluster.nodes == ("fw-a", "fw-b")
    assert [(i.name, i.link, i.role) for i in cluster.interfaces] == [
        ("lan", 1, "service"),
        ("sync", 2, "sync"),
        ("wan", 3, "service"),
    ]
    assert not any(a for a in cluster.interfaces[2].sides["fw-a"].addresses)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (None, ["ha_cluster is missing"]),
        ([], ["ha_cluster is [], expected a dict"]),
        (pair(id=None), ["ha_cluster.id is missing, expected a whole number from 1 to 65535"]),
        (pair(id=0), ["ha_cluster.id is 0"]),
        (pair(id=65536), ["ha_cluster.id is 65536"]),
        (pair(id="seven"), ["ha_cluster.id is 'seven'"]),
        (pair(id=True), ["ha_cluster.id is true"]),
        (pair(name="two words"), ["ha_cluster.name is 'two words'"]),
        (pair(profile="turbo"), ["ha_cluster.profile is 'turbo'", "metal, fast, virtual, relaxed"]),
        (
            pair(timers={"beat_ms": 10}),
            ["ha_cluster.profile is 'virtual', expected nothing beside"],
        ),
        (pair(profile=None, timers={}), ["ha_cluster.timers.beat_ms is missing"]),
        (pair(profile=None, timers=[4]), ["ha_cluster.timers is", "a dict with beat_ms, dead_ms"]),
        (timed(10, None, 90), ["ha_cluster.timers.dead_ms is missing"]),
        (timed(10, 23, 90), ["ha_cluster.timers.dead_ms is 23, expected at least 24 (2 beats"]),
        (timed(10, 50, 49), ["ha_cluster.timers.lease_ms is 49, expected at least 50 (dead_ms"]),
        (timed(1001, 2500, 2800), ["ha_cluster.timers.beat_ms is 1001, expected at most 1000"]),
        (timed(10, 50, 3001), ["ha_cluster.timers.lease_ms is 3001"]),
        (pair(colour="red"), ["ha_cluster.colour is not known"]),
        (pair(primary="fw-c"), ["ha_cluster.primary is 'fw-c'", "fw-a or fw-b"]),
        (pair(backup=None), ["ha_cluster.backup is missing"]),
        (pair(backup="fw-a"), ["ha_cluster.backup is 'fw-a'", "not the primary"]),
        (pair(keys=None), ["ha_cluster.keys is missing"]),
        (pair(keys={}), ["ha_cluster.keys is missing"]),
        (pair(keys={1: "c2hvcnQ="}), ["ha_cluster.keys[1] has 5 bytes", "exactly 32"]),
        (pair(keys={1: "no base64!"}), ["ha_cluster.keys[1] is not base64"]),
        (pair(keys={1: None}), ["ha_cluster.keys[1] is not base64"]),
        (pair(keys={300: KEY}, send_key=300), ["an id that is no whole number from 1 to 255"]),
        (pair(keys={1: KEY, 2: KEY}), ["ha_cluster.keys[2] is the same key as ha_cluster.keys[1]"]),
        (pair(send_key=2), ["ha_cluster.send_key is 2", "one of ha_cluster.keys, 1"]),
        (pair(keys={1: KEY, 2: OTHER_KEY}, send_key=None), ["ha_cluster.send_key is missing"]),
        (pair(interfaces={}), ["ha_cluster.interfaces is missing"]),
        (pair(ruleset=""), ["ha_cluster.ruleset is ''"]),
        (pair(replicate_sets="inet t s"), ["ha_cluster.replicate_sets is 'inet t s'", "a list of"]),
        (pair(replicate_sets=["banned"]), ["replicate_sets[0] is 'banned'", "a family (inet,"]),
        (pair(replicate_sets=["arp t s"]), ["replicate_sets[0] is 'arp t s'", "and a set, as"]),
        (pair(replicate_sets=["inet t s"] * 2), ["replicate_sets[1] is 'inet t s'", "once"]),
        (pair(replication_port=70000), ["ha_cluster.replication_port is 70000"]),
        (pair(manage_addresses="no"), ["ha_cluster.manage_addresses is 'no'", "true or false"]),
        (pair(dns={"servers": ["resolver"]}), ["ha_cluster.dns.servers[0] is 'resolver'"]),
        (at(LAN + ".role", "trunk"), ["ha_cluster.interfaces.lan.role is 'trunk'"]),
        (pair(wait_for_peer="yes"), ["ha_cluster.wait_for_peer is 'yes'", "true or false"]),
        (pair(damping=3), ["ha_cluster.damping is 3", "true or false"]),
        (at(LAN + ".monitor", "on"), ["ha_cluster.interfaces.lan.monitor is 'on'"]),
        (at(LAN + ".mtu", 70), ["ha_cluster.interfaces.lan.mtu is 70"]),
        (at(LAN + ".nodes", ...), ["ha_cluster.interfaces.lan.nodes is missing"]),
        (at(LAN + ".nodes.fw-b", ...), ["ha_cluster.interfaces.lan.nodes.fw-b is missing"]),
        (at(LAN + ".nodes.fw-c", side("x")), ["lan.nodes.fw-c is no host of the group"]),
        (at(LAN + ".nodes.fw-a.device", ...), ["lan.nodes.fw-a.device is missing"]),
        (at(LAN + ".nodes.fw-a.device", "ppp0"), ["device is 'ppp0'", "PPPoE"]),
        (at(LAN + ".nodes.fw-a.device", "a/b"), ["device is 'a/b'"]),
        (at(LAN + ".nodes.fw-a.dhcp", True), ["lan.nodes.fw-a.dhcp is true", "DHCP"]),
        (at(LAN + ".nodes.fw-a.addresses", "dhcp"), ["addresses is 'dhcp'", "fixed addresses"]),
        (at(LAN + ".nodes.fw-a.addresses", ["auto"]), ["addresses[0] is 'auto'", "fixed"]),
        (at(LAN + ".nodes.fw-a.addresses", "10.1.1.1/24"), ["expected a list of addresses"]),
        (at(LAN + ".shared", ["10.20.1.1"]), ["lan.shared[0] is '10.20.1.1'", "with its prefix"]),
        (at(LAN + ".shared", ["10.20.1.0/24"]), ["the network's own address of 10.20.1.0/24"]),
        (at(LAN + ".shared", ["10.20.1.255/24"]), ["the broadcast address of 10.20.1.0/24"]),
        (at(LAN + ".shared", ["224.0.0.1/24"]), ["a multicast address"]),
        (at(LAN + ".shared", ["127.0.0.1/8"]), ["a loopback or unspecified address"]),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(raw, words):
    cluster, sentences = read(raw)
    assert cluster is None or sentences
    assert [s for s in sentences if all(word in s for word in words)], sentences
    assert all(s.endswith(".") and "\n" not in s for s in sentences)


@pytest.mark.parametrize("name", ["2lan", "lan.1", "mark", "vlan", "", "a b"])
def test_a_logical_name_must_be_usable_as_a_define(name):
    raw = pair()
    raw["interfaces"][name] = raw["interfaces"].pop("lan")
    _cluster, sentences = read(raw)
    assert [s for s in sentences if "no logical name that the ruleset can use" in s]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            at("interfaces.wan", {"role": "sync", "nodes": RIGHT["interfaces"]["wan"]["nodes"]}),
            ["sync and wan with the role sync, expected exactly one"],
        ),
        (at("interfaces.sync", ...), ["none with the role sync"]),
        (at("interfaces.sync.shared", ["10.20.4.1/24"]), ["ha_cluster.interfaces.sync.shared is"]),
        (
            at("interfaces.sync.nodes.fw-b.addresses", []),
            ["ha_cluster.interfaces.sync has no own addresses on both nodes"],
        ),
        (at("interfaces.wan.shared", []), ["wan has neither shared nor own addresses"]),
        (
            at("interfaces.wan.nodes.fw-a.device", "enp1s0"),
            ["wan.nodes.fw-a.device is 'enp1s0', expected another device than that of lan"],
        ),
        (
            at(LAN + ".nodes.fw-b.addresses", ["10.20.1.2/24", "fd20:1::3/64"]),
            ["lan.nodes.fw-b.addresses[0] is 10.20.1.2/24, expected another address than that of"],
        ),
        (
            at(LAN + ".nodes.fw-b.addresses", ["10.20.9.3/24", "fd20:1::3/64"]),
            ["lan.nodes.fw-b.addresses[0] is 10.20.9.3/24, expected an address in 10.20.1.0/24"],
        ),
        (
            at(LAN + ".nodes.fw-b.addresses", ["10.20.1.3/24"]),
            ["expected fw-b to have an own address in fd20:1::/64 as well"],
        ),
        (
            at(LAN + ".nodes.fw-b.addresses", ["10.20.1.3/25", "fd20:1::3/64"]),
            ["lan.nodes.fw-b.addresses[0] is 10.20.1.3/25, expected an address in 10.20.1.0/24"],
        ),
        (at(LAN + ".nodes.fw-a.addresses", ["fe80::2/64"]), ["no link-local address"]),
        (
            at(LAN + ".shared", ["10.20.7.1/24"]),
            ["lan.shared[0] is 10.20.7.1/24, expected an address in 10.20.1.0/24, the network of"],
        ),
        (
            at(LAN + ".shared", ["10.20.1.2/24"]),
            ["lan.nodes.fw-a.addresses[0] is 10.20.1.2/24, expected an address that is not also"],
        ),
        (at(LAN + ".shared", ["169.254.1.1/16"]), ["no IPv4 link-local address"]),
        (
            at("interfaces.wan.shared", ["10.20.0.1/16"]),
            ["ha_cluster.interfaces.wan is 10.20.0.0/16, expected networks apart from"],
        ),
        (pair(routes=[{"via": "10.99.0.1"}]), ["ha_cluster.routes[0].via is 10.99.0.1"]),
        (pair(routes=[{"via": "10.20.1.1"}]), ["another machine than the pair itself"]),
        (pair(routes=[{"to": "fd00::/8", "via": "10.20.1.9"}]), ["ha_cluster.routes[0].to is"]),
        (pair(routes=[{"via": "nobody"}]), ["ha_cluster.routes[0].via is 'nobody'"]),
        (
            pair(routes=[{"via": "10.99.0.1", "interface": "dmz"}]),
            ["ha_cluster.routes[0].interface is 'dmz', expected one of lan or sync or wan"],
        ),
    ],
)
def test_parts_that_contradict_each_other_are_named(raw, words):
    _cluster, sentences = read(raw)
    assert [s for s in sentences if all(word in s for word in words)], sentences
    assert all(s.endswith(".") and "\n" not in s for s in sentences)


@pytest.mark.parametrize(
    "raw",
    [
        pair(keys={"1": KEY}, send_key="1", id="7"),
        pair(send_key=None),
        pair(profile=None, ruleset=None),
        pair(routes=[{"to": "default", "via": "198.51.100.254"}]),
        pair(routes=[{"via": "203.0.113.9", "interface": "wan"}]),
        pair(dns={"servers": ["10.20.1.100", "fd20:1::53"], "search": ["example.org"]}),
        at("interfaces.wan.shared", ["198.51.100.1/32"]),
        at(LAN + ".manage_addresses", False),
    ],
)
def test_what_is_optional_may_be_there_or_not(raw):
    cluster, sentences = read(raw)
    assert sentences == []
    assert cluster.send_key == 1


@pytest.mark.parametrize(
    "raw",
    [
        pair(keys={1: KEY[:-4]}),
        pair(keys={KEY: 1}),
        pair(keys={1: KEY, 2: KEY}),
        pair(keys={1: KEY + "\n"}),
        pair(keys=KEY),
        pair(send_key=KEY),
    ],
)
def test_no_sentence_shows_a_key(raw):
    _cluster, sentences = read(raw)
    assert sentences
    assert not [s for s in sentences if KEY[:12] in s]
