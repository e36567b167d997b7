# SPDX-License-Identifier: GPL-3.0-or-later
"""``playbooks/drift.yml`` on a deployed pair: hand edits of each kind, found, classified, undone.

The edits are made together, so that few runs are needed: a run must find each of them, in its class
and on its node, and nothing beside them. Every edit has a command that undoes it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integration import steps
from tests.integration.conftest import converged
from tests.integration.deployment import PLAYBOOK, Run, snapshot, varied
from tests.integration.hand_edits import BOTH_SIDED, ONE_SIDED, Edit
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

DRIFT_S_MAX = 300
EXPORT = """
- hosts: firewalls
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: amaranten.ha.firewall, tasks_from: pair}
    - ansible.builtin.import_role: {name: amaranten.ha.agent, tasks_from: observe}
    - ansible.builtin.copy:
        dest: "{{ inventory_dir }}/export-{{ inventory_hostname }}.json"
        content: "{{ drift_observed | to_json }}"
        mode: "0600"
      delegate_to: localhost
      vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
ZOO = """
- hosts: firewalls
  gather_facts: false
  tasks:
    - amaranten.ha.ruleset: &zoo
        content: "{{ lookup('ansible.builtin.file', zoo) }}"
        path: /root/zoo.nft
        state_path: /root/zoo.json
      register: first
    - amaranten.ha.ruleset: *zoo
      register: second
    - ansible.builtin.assert:
        that: [first is changed, second is not changed]
"""
# The services still run with the files that were there before.
STALE = {
    "agent/amaranten-ha-gate.service",
    "agent/amaranten-ha-heart.service",
    "agent/amaranten-ha-sync.service",
}


def drift(lab: Lab, *arguments: str, inventory: Path | None = None) -> tuple[Run, dict[str, Any]]:
    """Run the playbook as an operator does; what it said, and its JSON report."""
    directory = lab.inventory.parent / "drift"
    command = [str(PLAYBOOK), "-i", str(inventory or lab.inventory), "playbooks/drift.yml"]
    done = subprocess.run(
        [*command, "-e", f"drift_report={directory}", *arguments],
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DRIFT_S_MAX,
        check=False,
    )
    report = json.loads((directory / "drift.json").read_text())
    return Run(done.returncode, done.stdout), report


def hand(lab: Lab, node: str, command: str) -> None:
    """Run a command on a node, which knows the devices by their logical names."""
    names = " ".join(
        f"{network.upper()}={lab.device(node, network)}"
        for network in ("lan", "wan", "dmz", "sync")
    )
    done = lab.node(node).run(["bash", "-c", f"set -e; export {names}; {command}"])
    assert done.returncode == 0, (command, done.stderr)


@contextmanager
def edits(lab: Lab, nodes: tuple[str, ...], made: tuple[Edit, ...]) -> Iterator[None]:
    """Make all edits, and undo those that were made."""
    undo: list[tuple[str, str]] = []
    try:
        for edit in made:
            for node in nodes:
                hand(lab, node, edit.do)
                undo.append((node, edit.undo))
        yield
    finally:
        for node, command in reversed(undo):
            if command:
                hand(lab, node, command)


def found(report: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """(path, class) to nodes of every finding."""
    listed = report["pairs"][0]["findings"]
    return {(each["path"], each["class"]): each["nodes"] for each in listed}


def test_a_converged_pair_has_no_drift_and_nothing_is_changed(pair: Lab) -> None:
    converged(pair)
    before = snapshot(pair)
    run, report = drift(pair)
    assert (run.code, report["drift"], found(report)) == (0, False, {}), run.output
    assert "edge: no drift, " in run.output
    assert run.changed_on_nodes == 0
    assert snapshot(pair) == before
    assert (pair.inventory.parent / "drift/drift.xml").read_text().count("<failure") == 0


def test_a_pair_of_the_inventory_plugin_is_the_same_pair(pair: Lab) -> None:
    converged(pair)
    group = yaml.safe_load(pair.inventory.read_text())["all"]["children"]["firewalls"]
    cluster = group["vars"].pop("ha_cluster")
    name, *hosts = (cluster.pop(each) for each in ("name", "primary", "backup"))
    listed = {
        "hosts": {host: group["hosts"][host] for host in hosts},
        "cluster": cluster,
        "vars": group["vars"],
    }
    source = pair.inventory.with_name("lab.pairs.yml")
    source.write_text(
        yaml.safe_dump({"plugin": "amaranten.ha.pairs", "pairs": {name: listed}}, sort_keys=False)
    )
    run, report = drift(pair, inventory=source)
    assert (run.code, report["drift"], found(report)) == (0, False, {}), run.output


def test_the_export_of_a_deployed_node_is_what_was_asked_for(pair: Lab) -> None:
    converged(pair)
    play = pair.inventory.parent / "export.yml"
    play.write_text(EXPORT)
    for node in NODES:
        path = pair.inventory.parent / f"export-{node}.json"
        path.unlink(missing_ok=True)
    command = [str(PLAYBOOK), "-i", str(pair.inventory), str(play)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DRIFT_S_MAX, check=False
    )
    assert done.returncode == 0, done.stdout
    for node in NODES:
        export = json.loads((pair.inventory.parent / f"export-{node}.json").read_text())
        wanted, disk, live = export["wanted"], export["disk"], export["live"]
        assert disk["release"]
        for section in ("sysctls", "files", "keys"):
            assert disk[section] == wanted[section], section
        for section in ("sysctls", "packages"):
            assert live[section] == wanted[section], section
        for name, interface in wanted["interfaces"].items():
            assert disk["interfaces"][name] == interface
            for part in ("addresses", "routes"):
                assert live["interfaces"][name][part] == interface[part], (name, part)
        for name, unit in wanted["units"].items():
            assert disk["units"][name]["content"] == unit["content"], name
            assert disk["units"][name]["enabled"] == unit["enabled"], name
        rulesets = export["ruleset"]
        assert rulesets["wanted"]["tables"] == rulesets["disk"]["tables"]
        for table, text in rulesets["wanted"]["tables"].items():
            assert rulesets["live"]["tables"][table] == text


def test_each_hand_edit_on_one_node_is_found_in_its_class_and_nothing_else(pair: Lab) -> None:
    passive = steps.other(converged(pair))
    with edits(pair, (passive,), ONE_SIDED):
        run, report = drift(pair)
    seen = found(report)
    assert run.code == 2, run.end()
    assert set(seen) == {(edit.path, edit.kind) for edit in ONE_SIDED}, run.output
    assert all(passive in nodes for nodes in seen.values())
    for edit in ONE_SIDED:
        assert edit.words in run.output, edit.path
    junit = (pair.inventory.parent / "drift/drift.xml").read_text()
    assert junit.count("<failure") == len({edit.path.split("/")[0] for edit in ONE_SIDED})
    assert all(each["diff"] and each["remedies"] for each in report["pairs"][0]["findings"])


def test_the_same_hand_edit_on_both_nodes_is_both_sided(pair: Lab) -> None:
    converged(pair)
    key = (pair.inventory.parent / "cluster_key").read_text().strip()
    with edits(pair, NODES, BOTH_SIDED):
        run, report = drift(pair)
    seen = found(report)
    stale = {path for path, kind in seen if kind == "stale agent"}
    assert stale == STALE, run.output
    others = {(path, kind) for path, kind in seen if kind != "stale agent"}
    assert others == {(edit.path, edit.kind) for edit in BOTH_SIDED}, run.output
    assert all(sorted(nodes) == list(NODES) for nodes in seen.values()), seen
    for edit in BOTH_SIDED:
        assert edit.words in run.output, edit.path
    assert key not in run.output


def test_a_changed_inventory_is_intent_and_an_allowed_difference_is_none(pair: Lab) -> None:
    converged(pair)

    def changed(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        pair["interfaces"]["dmz"]["nodes"]["fw-a"]["addresses"].append("10.20.33.2/24")
        pair["interfaces"]["dmz"]["nodes"]["fw-b"]["addresses"].append("10.20.33.3/24")

    run, report = drift(pair, inventory=varied(pair, "intent", changed))
    assert run.code == 2, run.end()
    assert {kind for _path, kind in found(report)} == {"intent"}, run.output
    assert ("address/dmz/10.20.33.2/24", "intent") in found(report)
    allowed = [{"path": "table/ip hand*", "reason": "made by the test"}]
    with edits(pair, ("fw-b",), tuple(e for e in ONE_SIDED if e.path == "table/ip handmade")):
        run, report = drift(pair, "-e", json.dumps({"drift_allowed": allowed}))
    assert run.code == 0, run.end()
    assert "[allowed: made by the test] table/ip handmade" in run.output
    assert report["pairs"][0]["allowed"][0]["reason"] == "made by the test"
    run, report = drift(pair, "-e", json.dumps({"drift_allowed": [{"path": "table/*"}]}))
    assert run.code == 2
    assert "drift_allowed[0].reason is empty, expected why it is allowed" in run.output


def test_one_node_is_compared_when_the_other_is_down(pair: Lab) -> None:
    passive = steps.other(converged(pair))
    pair.power_off(passive)
    try:
        run, report = drift(pair)
        strict, _report = drift(pair, "-e", "drift_require_both=true")
    finally:
        pair.boot(passive)
    assert (run.code, found(report)) == (0, {}), run.output
    assert f"{passive} NOT REACHED and not compared" in run.output
    assert report["pairs"][0]["unreached"] == [passive]
    assert strict.code == 2
    converged(pair)


def test_a_ruleset_with_most_of_the_language_is_loaded_once(pair: Lab) -> None:
    passive = steps.other(converged(pair))
    play = pair.inventory.parent / "zoo.yml"
    play.write_text(ZOO)
    zoo = Path(__file__).with_name("zoo.nft")
    command = [str(PLAYBOOK), "-i", str(pair.inventory), str(play), "--limit", passive]
    try:
        done = subprocess.run(
            [*command, "-e", f"zoo={zoo}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DRIFT_S_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    finally:
        gone = "; ".join(f"table {t}; delete table {t}" for t in ("inet zoo", "ip zoo_nat"))
        hand(pair, passive, f"nft '{gone}'; rm -f /root/zoo.*")
