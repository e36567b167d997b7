# SPDX-License-Identifier: GPL-3.0-or-later
"""``playbooks/rules.yml`` on a pair at work: good rules, bad rules, dead controllers.

Runs after the deployment and leaves the inventory's ruleset behind. Whatever happens in between, a
test ends with the same rules on both nodes, and with the roles as they were.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import steps
from tests.integration.deployment import PLAYBOOK, Run, play
from tests.integration.test_day_two_keys import counts
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

EXAMPLE = ROOT / "roles/firewall/templates/edge.nft.j2"
SETS = """table inet edge {
\tset banned { type ipv4_addr; flags timeout; }
\tset seen { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
"""
BANNED = "203.0.113.77"
SEEN = "203.0.113.78"
STRANGER = "table ip stranger { chain c { counter; }; }"
TRIAL = "/run/amaranten-ha-ruleset/trial.json"
DIGESTS = "/etc/amaranten-ha/digests.toml"
RULESET = "/etc/amaranten-ha/ruleset.nft"
RECORD = "/var/lib/amaranten-ha/deployed.json"
# What a run leaves behind, the times of elements apart.
RULES = """
nft list tables | sort
nft -s list table inet edge | sed 's/ expires [0-9a-z]*//'
cat /etc/amaranten-ha/ruleset.nft
"""
# Seconds until the passive node's own decision: before a run gets to its commit, and after it.
SOON_S, LATER_S = 20, 40
# Longer than a reboot: it is the boot that ends the trial.
HELD_LONG_S = 300


def with_rule(rule: str, where: str = "chain input {\n") -> str:
    """The example with two sets, and a rule at the begin of a chain (or another block)."""
    text = EXAMPLE.read_text().replace("table inet edge {\n", SETS, 1)
    head, hook, rest = text.partition(where)
    policy, rest = rest.split("\n", 1)
    return f"{head}{hook}{policy}\n\t\t{rule}\n{rest}"


def template(lab: Lab, name: str, text: str) -> Path:
    """A ruleset of this test, as a file of the controller."""
    path = lab.inventory.parent / f"{name}.nft.j2"
    path.write_text(text)
    return path


def change(lab: Lab, path: Path | None, *arguments: str, die_at: str | int = "") -> Run:
    """Run rules.yml with a ruleset, or with the inventory's."""
    words = ["-e", f"ha_ruleset={path}"] if path else []
    return play(lab, "rules", *words, *arguments, die_at=die_at)


def rules(lab: Lab) -> dict[str, str]:
    """The rules of both nodes, in the kernel and on the disk."""
    return {node: lab.node(node).run(["sh", "-c", RULES]).stdout for node in NODES}


def phase(lab: Lab, node: str) -> str:
    """How far a trial came on a node."""
    done = lab.node(node).run(["cat", TRIAL])
    return str(json.loads(done.stdout)["phase"]) if done.returncode == 0 else ""


def expires_s(lab: Lab, node: str, name: str, element: str) -> int:
    """How long an element has yet; 0 if it is not there."""
    listed = lab.node(node).run(["nft", "list", "set", "inet", "edge", name]).stdout
    found = re.search(rf"{re.escape(element)}[^,]* expires (?:(\d+)m)?(?:(\d+)s)?", listed)
    return 60 * int(found[1] or 0) + int(found[2] or 0) if found else 0


def remembered(lab: Lab, node: str) -> None:
    """The record of the deployment knows the files of now, so that site.yml has nothing to do."""
    record = json.loads(lab.node(node).run(["cat", RECORD]).stdout)["values"]
    for path in (RULESET, DIGESTS):
        content = lab.node(node).run(["cat", path]).stdout
        assert record["file" + path] == hashlib.sha256(content.encode()).hexdigest()[:16], path


def furnish(lab: Lab, node: str) -> None:
    """Give the sets of a node their elements, and the node a stranger's table."""
    lab.node(node).run(["nft", STRANGER])
    for name, element in (("banned", f"{BANNED} timeout 40m"), ("seen", SEEN)):
        words = f"add element inet edge {name} {{ {element} }}"
        assert lab.node(node).run(["nft", words]).returncode == 0


@pytest.fixture(scope="module")
def ruled(pair: Lab) -> Iterator[Lab]:
    """A pair with sets that have elements and a stranger's table; the inventory's rules at last."""
    steps.ready(pair)
    run = change(pair, template(pair, "first", with_rule("iifname lo accept")))
    assert run.code == 0, run.end()
    for node in NODES:
        furnish(pair, node)
    yield pair
    for node in NODES:
        pair.node(node).run(["nft", "delete table ip stranger"])
    run = change(pair, None)
    assert run.code == 0, run.end()
    for node in NODES:
        remembered(pair, node)


@pytest.fixture(autouse=True)
def unmoved(ruled: Lab) -> Iterator[None]:
    """No role moves, and each node ends with the rules of the other one, and with its elements."""
    holder, epoch = steps.ready(ruled), steps.epoch(ruled)
    yield
    assert steps.ready(ruled) == holder
    assert steps.epoch(ruled) == epoch
    assert len({tuple(re.findall(r"dport 40\d\d", found)) for found in rules(ruled).values()}) == 1
    for node in NODES:
        assert 0 < expires_s(ruled, node, "banned", BANNED) < 40 * 60
        assert 0 < expires_s(ruled, node, "seen", SEEN) < 60 * 60
        assert "table ip stranger" in rules(ruled)[node]


def test_check_mode_shows_the_difference_and_changes_nothing(ruled: Lab) -> None:
    before = rules(ruled)
    run = change(ruled, template(ruled, "good", with_rule("udp dport 4001 accept")), "--check")
    assert run.code == 0, run.end()
    assert [run.changed[node] for node in NODES] == [1, 1]
    assert len(re.findall(r"\+ +udp dport 4001 accept", run.output)) == len(NODES)
    assert rules(ruled) == before


def test_a_good_change_under_traffic_loses_nothing_and_the_next_run_nothing_to_do(
    ruled: Lab,
) -> None:
    path = template(ruled, "good", with_rule("udp dport 4001 accept"))
    heard = counts(ruled)
    with steps.traffic(ruled) as probing:
        run = change(ruled, path)
    assert run.code == 0, run.end()
    assert counts(ruled) == heard
    assert [run.changed[node] for node in NODES] == [1, 1]
    assert re.search(r"\+ +udp dport 4001 accept", run.output)
    traffic = probing.result
    assert traffic.tcp["connections_survived"] == traffic.tcp["connections"], traffic.tcp
    assert traffic.udp["packets_lost"] == 0, traffic.udp
    for node in NODES:
        assert "udp dport 4001 accept" in rules(ruled)[node]
        found = steps.status(ruled, node)
        assert found["digests"] == found["peer"]["digests"]
        timers = ruled.node(node).run(["systemctl", "list-timers", "--all"]).stdout
        assert "amaranten-ha-ruleset" not in timers
    again = change(ruled, path)
    assert again.code == 0, again.end()
    assert again.changed_on_nodes == 0


def test_what_nft_refuses_or_a_spare_that_is_not_ready_changes_nothing(ruled: Lab) -> None:
    before = rules(ruled)
    text = with_rule("tcp dprot 22 accept")
    run = change(ruled, template(ruled, "wrong", text))
    line = text.splitlines().index("\t\ttcp dprot 22 accept") + 1
    assert run.code == 2, run.end()
    assert f"wrong.nft.j2 line {line} (`tcp dprot 22 accept`): nft refuses" in run.output
    passive = steps.other(steps.ready(ruled))
    ruled.node(passive).run([steps.TOOL, "maintenance", "on", "--for", "10m"])
    try:
        run = change(ruled, template(ruled, "other", with_rule("udp dport 4002 accept")))
    finally:
        ruled.node(passive).run([steps.TOOL, "maintenance", "off"])
    assert run.code == 2, run.end()
    assert f"Nothing was changed: {passive} is held in maintenance" in run.output
    assert rules(ruled) == before


def test_rules_that_cut_ssh_come_back_from_the_passive_node(ruled: Lab) -> None:
    before = rules(ruled)
    text = with_rule("ct state new tcp dport ssh drop")
    run = change(ruled, template(ruled, "no-ssh", text), "-e", "ha_rollback_s=8")
    passive = steps.other(steps.ready(ruled))
    assert run.code == 2, run.end()
    assert f"{passive}: The new ruleset let no fresh connection of the controller in" in run.output
    assert f"{passive} has the ruleset from before." in run.output
    assert run.changed_on_nodes == 0
    assert rules(ruled) == before


def test_rules_that_cut_heartbeats_come_back_from_the_passive_node(ruled: Lab) -> None:
    before = rules(ruled)
    cut = """table netdev cut {
\tchain out { type filter hook egress device $lan priority 0; ether type 0x88b5 drop; }
}
"""
    run = change(ruled, template(ruled, "no-beats", with_rule("accept comment x") + cut))
    assert run.code == 2, run.end()
    passive = steps.other(steps.ready(ruled))
    assert f"{passive}: The new ruleset cuts the heartbeats to the peer on lan" in run.output
    assert run.changed_on_nodes == 0
    assert rules(ruled) == before


def test_rules_that_cut_replication_on_the_active_alone_come_back_on_both(ruled: Lab) -> None:
    before = rules(ruled)
    active = steps.ready(ruled)
    text = with_rule(
        f"{{% if ha.node.name == '{active}' %}}iifname $sync meta l4proto tcp drop{{% endif %}}"
    )
    run = change(ruled, template(ruled, "no-sync", text))
    assert run.code == 2, run.end()
    assert "The new ruleset cuts the replication to 10.20.4." in run.output
    for node in NODES:
        assert f"{node} has the ruleset from before." in run.output
    assert rules(ruled) == before


def test_one_node_alone_is_changed_on_demand_and_both_say_that_they_differ(ruled: Lab) -> None:
    holder = steps.ready(ruled)
    passive = steps.other(holder)
    path = template(ruled, "alone", with_rule("udp dport 4005 accept"))
    run = change(ruled, path, "-e", "ha_force_rules=true", "--limit", passive)
    assert (run.code, run.changed) == (0, {passive: 1}), run.end()
    for node in NODES:
        said = steps.status(ruled, node)["reasons"]
        assert "the two nodes have different rulesets" in said, said
    run = change(ruled, path)
    assert (run.code, run.changed) == (0, {passive: 0, holder: 1}), run.end()


# Controllers that die ------------------------------------------------------------------------


def killed(lab: Lab, path: Path, hold_s: int, when: Callable[[], bool]) -> None:
    """Begin a change, and end the controller with all its children at a moment."""
    command = [str(PLAYBOOK), "-i", str(lab.inventory), "playbooks/rules.yml"]
    command += ["-e", f"ha_ruleset={path}", "-e", f"ha_hold_s={hold_s}", "-e", "ha_rollback_s=30"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            steps.until("the moment to die", lambda: when() or process.poll() is not None, 120)
            assert process.poll() is None, process.stdout and process.stdout.read()
        finally:
            steps.kill(process.pid)


def killed_after_commit(lab: Lab, path: Path, hold_s: int) -> str:
    """Begin a change that dies between the two nodes' commits; the passive node, which holds it."""
    holder = steps.ready(lab)
    passive = steps.other(holder)
    old = lab.node(holder).run(["cat", DIGESTS]).stdout
    killed(lab, path, hold_s, lambda: lab.node(holder).run(["cat", DIGESTS]).stdout != old)
    assert phase(lab, passive) == "held"
    return passive


def test_a_controller_that_dies_before_the_commit_leaves_the_old_rules_on_both(ruled: Lab) -> None:
    before = rules(ruled)
    passive = steps.other(steps.ready(ruled))
    path = template(ruled, "late", with_rule("udp dport 4003 accept"))
    killed(ruled, path, SOON_S, lambda: phase(ruled, passive) == "held")
    assert "udp dport 4003 accept" in rules(ruled)[passive]
    # Both nodes say so, and who would take the product off is asked to wait.
    for node in NODES:
        steps.until("said", lambda n=node: steps.status(ruled, n)["health"]["trial"][passive] != "")
        said = steps.status(ruled, node)["reasons"]
        assert any(f"a ruleset is on trial on {passive} (" in reason for reason in said), said
    run = play(ruled, "remove", "--check", "-e", "remove=edge")
    assert (run.code, run.changed_on_nodes) == (2, 0), run.end()
    assert "A ruleset is on trial on this node (" in run.output
    steps.until("the passive's own end", lambda: phase(ruled, passive) == "reverted", 60)
    steps.until("the same on both", lambda: rules(ruled) == before, 20)


def test_a_controller_that_dies_after_the_commit_leaves_the_new_rules_on_both(ruled: Lab) -> None:
    path = template(ruled, "late", with_rule("udp dport 4003 accept"))
    passive = killed_after_commit(ruled, path, LATER_S)
    steps.until("the passive's own end", lambda: phase(ruled, passive) == "confirmed", 60)
    for node in NODES:
        assert rules(ruled)[node].count("udp dport 4003 accept") == 2
    again = change(ruled, path)
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()


def test_a_passive_node_that_is_rebooted_before_its_confirmation_keeps_what_the_active_committed(
    ruled: Lab,
) -> None:
    path = template(ruled, "reboot", with_rule("udp dport 4006 accept"))
    passive = killed_after_commit(ruled, path, HELD_LONG_S)
    ruled.power_off(passive)
    ruled.boot(passive)
    steps.until("its end after the boot", lambda: phase(ruled, passive) == "confirmed", 90)
    for node in NODES:
        assert rules(ruled)[node].count("udp dport 4006 accept") == 2
    # How it ended is written down before what is left of it is cleared away.
    gone = ["test", "!", "-e", "/var/lib/amaranten-ha/trial"]
    steps.until("nothing left of it", lambda: ruled.node(passive).run(gone).returncode == 0, 20)
    again = change(ruled, path)
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()
    remembered(ruled, passive)
    furnish(ruled, passive)
