# SPDX-License-Identifier: GPL-3.0-or-later
"""``playbooks/site.yml`` on real nodes: from bare to a pair, refused, repeated, drifted, cut off.

Runs first and in this order: what is refused and what is only checked must find bare nodes, and
leave them as they were.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration import steps
from tests.integration.conftest import converged, wait_for
from tests.integration.deployment import Run, deploy, snapshot, varied
from tests.lab import Lab
from tests.lab.plan import NODES

Change = Callable[[dict[str, Any], dict[str, Any]], None]

# Two restarts and two hand-overs at 1 kHz; a hand-over loses nothing, a busy machine may.
PACKETS_LOST_MAX = 20

MASQUERADE = """\
table inet edge {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        oifname $wan masquerade
    }
}
"""
FLUSH = "flush ruleset\n" + MASQUERADE.replace("masquerade", "accept")
# Lets the controller's session live, and no other one in.
LOCKED_OUT = """\
table inet edge {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
    }
    chain prerouting { type nat hook prerouting priority dstnat; }
    chain postrouting { type nat hook postrouting priority srcnat; }
}
"""


def three_hosts(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    hosts["fw-c"] = dict(hosts["fw-a"])


def one_host(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    del hosts["fw-b"]


def no_host(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    hosts.clear()


def short_key(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    pair["keys"] = {1: base64.b64encode(bytes(16)).decode()}


def dhcp(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    pair["interfaces"]["wan"]["nodes"]["fw-a"]["addresses"] = "dhcp"


def absent_device(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
    pair["interfaces"]["dmz"]["nodes"]["fw-b"]["device"] = "enp7s0"


def ruleset(lab: Lab, name: str, text: str) -> Change:
    """A change that names another template, which is written beside the inventory."""
    (lab.inventory.parent / name).write_text(text)

    def change(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        pair["ruleset"] = name

    return change


# Bare nodes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (three_hosts, "The group firewalls has 3 hosts"),
        (one_host, "The group firewalls has 1 host"),
        (no_host, "The group firewalls has no hosts"),
        (short_key, "ha_cluster.keys[1] has 16 bytes, expected base64 of exactly 32"),
        (dhcp, "ha_cluster.interfaces.wan.nodes.fw-a.addresses is 'dhcp', expected fixed"),
        (absent_device, "ha_cluster.interfaces.dmz.nodes.fw-b.device is 'enp7s0', expected a"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_touched(
    bare: Lab, change: Change, words: str
) -> None:
    before = snapshot(bare)
    run = deploy(bare, inventory=varied(bare, "refused", change))
    assert run.code == 2, run.end()
    assert words in run.output
    assert run.changed_on_nodes == 0
    assert snapshot(bare) == before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "masquerade.nft.j2",
            MASQUERADE,
            "masquerade.nft.j2 line 4 masquerades on wan, which has a shared address, so that its"
            " connections would end with their node, expected `oifname $wan snat ip to"
            " 198.51.100.1` and `oifname $wan snat ip6 to 2001:db8:51::1`.",
        ),
        ("flush.nft.j2", FLUSH, "flush.nft.j2 line 1 says `flush ruleset`"),
        ("broken.nft.j2", "{{ no_such_variable }}", "'no_such_variable' is undefined"),
    ],
)
def test_a_ruleset_that_breaks_the_pair_is_refused_with_its_line(
    bare: Lab, name: str, text: str, words: str
) -> None:
    before = snapshot(bare)
    run = deploy(bare, inventory=varied(bare, "refused", ruleset(bare, name, text)))
    assert run.code == 2, run.end()
    assert words in run.output
    assert run.changed_on_nodes == 0
    assert snapshot(bare) == before


def test_check_mode_on_bare_nodes_promises_much_and_changes_nothing(bare: Lab) -> None:
    before = snapshot(bare)
    run = deploy(bare, "--check", "--diff")
    assert run.code == 0, run.end()
    assert all(run.changed[node] >= 10 for node in NODES)
    for words in ("+Address=10.20.1.2/24", "+table inet edge {", "+nftables", "+key 1: hash "):
        assert words in run.output
    assert snapshot(bare) == before


# A pair --------------------------------------------------------------------------------------


def test_the_first_run_makes_a_pair_and_says_so_in_one_line(pair: Lab, deployed: Run) -> None:
    active = converged(pair)
    passive = steps.other(active)
    line = f"edge: {active} is active, {passive} is passive and would take over now"
    assert line in deployed.output


def test_the_second_run_changes_nothing_and_check_mode_knows_it(pair: Lab) -> None:
    before = snapshot(pair)
    for arguments in ((), ("--check", "--diff")):
        run = deploy(pair, *arguments)
        assert run.code == 0, run.end()
        assert run.changed_on_nodes == 0, run.output
    assert snapshot(pair) == before


def test_what_was_found_is_on_record_and_debians_own_loader_is_masked(pair: Lab) -> None:
    for node in NODES:
        run = pair.node(node).run
        record = run(["cat", "/var/lib/amaranten-ha/before.json"]).stdout
        assert '"nftables": ""' in record
        assert '"net/ipv4/ip_forward": "0"' in record
        assert run(["systemctl", "is-enabled", "nftables.service"]).stdout.strip() == "masked"
        assert run(["stat", "-c", "%a", "/etc/amaranten-ha/keys.toml"]).stdout.strip() == "600"


DRIFTS = {
    "a rule in the kernel": (
        "nft insert rule inet edge forward accept",
        "nft -s list chain inet edge forward | grep -q '^\t\taccept$'",
        "-\t\taccept\n",
    ),
    "the kernel has no ruleset": (
        "nft delete table inet edge",
        "! nft list table inet edge",
        "+table inet edge {",
    ),
    "a kernel parameter": (
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1",
        "sysctl -n net.netfilter.nf_conntrack_tcp_loose | grep -q 1",
        "-net/netfilter/nf_conntrack_tcp_loose = 1\n",
    ),
    "an address on sync": (
        "ip address add 10.20.4.77/24 dev $SYNC",
        "ip address show dev $SYNC | grep -q 10.20.4.77",
        " 10.20.4.77/24\n",
    ),
    "the agent's configuration": (
        "sed -i s/virtual/fast/ /etc/amaranten-ha/agent.toml",
        "grep -q fast /etc/amaranten-ha/agent.toml",
        '-profile = "fast"\n+profile = "virtual"\n',
    ),
    "a unit": (
        "systemctl disable -q amaranten-ha-sync.service",
        "! systemctl is-enabled -q amaranten-ha-sync.service",
        "+amaranten-ha-sync.service is not enabled\n",
    ),
}


def test_check_mode_shows_exactly_what_drifted_and_the_next_run_mends_it(pair: Lab) -> None:
    passive = steps.other(converged(pair))
    node = pair.node(passive)
    prefix = f"SYNC={pair.device(passive, 'sync')}; "
    for drift, proof, _diff in DRIFTS.values():
        node.run(["sh", "-c", prefix + drift])
        assert node.run(["sh", "-c", prefix + proof]).returncode == 0, drift
        if drift.startswith("nft insert"):
            # The same table is deleted next: the rule alone must have been seen before.
            run = deploy(pair, "--check", "--diff")
            assert "-\t\taccept\n" in run.output
            assert (run.code, run.changed_on_nodes) == (0, 1), run.output
    run = deploy(pair, "--check", "--diff")
    assert run.code == 0, run.end()
    assert run.changed[steps.other(passive)] == 0
    # The ruleset, the parameter, the address, the agent's file, its unit: one change each.
    assert run.changed[passive] == len(DRIFTS) - 1, run.output
    for name, (_drift, _proof, diff) in list(DRIFTS.items())[1:]:
        assert diff in run.output, name
    for drift, proof, _diff in list(DRIFTS.values())[1:]:
        assert node.run(["sh", "-c", prefix + proof]).returncode == 0, f"{drift} was mended"
    run = deploy(pair)
    assert run.code == 0, run.end()
    for drift, proof, _diff in DRIFTS.values():
        assert node.run(["sh", "-c", prefix + proof]).returncode != 0, f"{drift} is still there"
    run = deploy(pair, "--check")
    assert (run.code, run.changed_on_nodes) == (0, 0), run.output
    assert steps.other(converged(pair)) == passive


def test_networkd_leaves_the_shared_addresses_alone(pair: Lab) -> None:
    active = converged(pair)
    node = pair.node(active)
    device = pair.device(active, "lan")
    shared = ("10.20.1.1/32", "fd20:1::1/128", "fe80::1/", "198.51.100.1/32")

    def present() -> bool:
        listed = node.run(["ip", "-o", "address", "show"]).stdout
        return all(f" {address}" in listed for address in shared)

    # It ends by itself: a signal to the way into the node would not reach it.
    watch = node.popen(["timeout", "8", "ip", "-o", "monitor", "address"], stdout=subprocess.PIPE)
    node.run(["systemctl", "restart", "systemd-networkd.service"])
    node.run(["networkctl", "reload"])
    said = watch.communicate(timeout=60)[0]
    lost = [line for line in said.splitlines() if line.startswith("Deleted")]
    assert not [line for line in lost if any(address in line for address in shared)], said
    assert present()
    # This takes off what networkd did not put on; heart notices and puts it back.
    node.run(["networkctl", "reconfigure", device])
    wait_for(
        lambda: "configured" in node.run(["networkctl", "status", device]).stdout and present(),
        60,
        "networkd has configured the device again, and the shared addresses are there",
    )


def test_a_ruleset_that_locks_the_controller_out_is_taken_back(pair: Lab) -> None:
    converged(pair)
    before = {
        node: pair.node(node).run(["nft", "-s", "list", "table", "inet", "edge"]).stdout
        for node in NODES
    }
    inventory = varied(pair, "locked-out", ruleset(pair, "locked-out.nft.j2", LOCKED_OUT))
    run = deploy(pair, "-e", "ha_rollback_s=6", inventory=inventory)
    assert run.code == 2, run.end()
    assert "let no fresh connection of the controller in within 6 s" in run.output
    assert run.changed_on_nodes == 0
    for node in NODES:
        now = pair.node(node).run(["nft", "-s", "list", "table", "inet", "edge"]).stdout
        assert now == before[node]


def test_keys_are_changed_in_steps_without_a_loss_and_never_shown(pair: Lab) -> None:
    converged(pair)
    key = base64.b64encode(bytes(range(32))).decode()

    def second(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        pair["keys"] = {**pair["keys"], 2: key}

    def send_second(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        second(hosts, pair)
        pair["send_key"] = 2

    too_far = deploy(pair, "--diff", inventory=varied(pair, "keys", send_second))
    assert too_far.code == 2
    assert "does not have yet" in too_far.output
    assert too_far.changed_on_nodes == 0
    # Each step restarts the agent on both nodes, one after the other.
    with steps.traffic(pair) as probing:
        runs = [
            deploy(pair, "--diff", "-vvv", inventory=varied(pair, "keys", change))
            for change in (second, send_second)
        ]
    assert [run.code for run in runs] == [0, 0], runs[-1].end()
    # The file of the keys, and the agent with it.
    assert all(run.changed[node] == 2 for run in runs for node in NODES)
    traffic = probing.result
    assert traffic.tcp["connections_survived"] == traffic.tcp["connections"], traffic.tcp
    assert traffic.udp["packets_lost"] <= PACKETS_LOST_MAX, traffic.udp
    assert "+key 2: hash " in runs[0].output
    assert "(sends)" in runs[1].output
    old_key = (pair.inventory.parent / "cluster_key").read_text().strip()
    for run in (too_far, *runs):
        assert key not in run.output
        assert old_key not in run.output
    converged(pair)
    for inventory in (varied(pair, "keys", second), None):
        assert deploy(pair, inventory=inventory).code == 0
    converged(pair)


def test_a_wan_without_own_addresses_works_on_both_nodes(pair: Lab) -> None:
    converged(pair)

    def shared_only(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        for side in pair["interfaces"]["wan"]["nodes"].values():
            side["addresses"] = []

    try:
        run = deploy(pair, inventory=varied(pair, "shared-only", shared_only))
        assert run.code == 0, run.end()
        # There and back: each node has once lost the only address that was on its wan.
        with steps.traffic(pair) as probing:
            for _turn in range(2):
                giver = converged(pair)
                done = pair.node(giver).run([steps.TOOL, "switchover", "--reason", "test"])
                assert done.returncode == 0, done.stderr
        traffic = probing.result
        assert traffic.tcp["connections_survived"] == traffic.tcp["connections"], traffic.tcp
        assert traffic.udp["packets_lost"] <= PACKETS_LOST_MAX, traffic.udp
        for node in NODES:
            device = pair.device(node, "wan")
            listed = pair.node(node).run(["ip", "-4", "-o", "address", "show", "dev", device])
            assert "198.51.100.2/" not in listed.stdout
            assert "198.51.100.3/" not in listed.stdout
    finally:
        assert deploy(pair).code == 0
    converged(pair)


def test_a_run_limited_to_one_node_leaves_the_other_alone(pair: Lab) -> None:
    passive = steps.other(converged(pair))
    before = snapshot(pair)
    run = deploy(pair, "--limit", passive)
    assert run.code == 0, run.end()
    assert "was not touched and is active (alive)" in run.output
    assert list(run.changed) == [passive]
    assert snapshot(pair) == before
    refused = deploy(pair, "--limit", passive, inventory=varied(pair, "refused", three_hosts))
    assert refused.code == 2
    assert "has 3 hosts" in refused.output


def test_a_node_that_dies_half_way_leaves_the_other_working(pair: Lab) -> None:
    active = converged(pair)
    passive = steps.other(active)
    epoch = steps.epoch(pair)
    drift = "systemctl disable -q amaranten-ha-sync.service"
    for node in NODES:
        pair.node(node).run(["sh", "-c", drift])
    half_way = "TASK [amaranten.ha.agent : Bring the agent]"
    try:
        run = deploy(pair, at=(half_way, lambda: pair.power_off(passive)))
        assert run.code == 4, run.end()
        assert run.changed[active] == 1
    finally:
        pair.boot(passive)
    wait_for(lambda: steps.roles(pair) == {active: "active", passive: "passive"}, 60, "a pair")
    assert steps.epoch(pair) == epoch
    run = deploy(pair)
    assert run.code == 0, run.end()
    converged(pair)
    # On the one that came back its sync is enabled, and then started.
    assert (run.changed[active], run.changed[passive]) == (0, 2), run.output
    assert (steps.active(pair), steps.epoch(pair)) == (active, epoch)
