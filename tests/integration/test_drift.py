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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration import steps
from tests.integration.conftest import converged
from tests.integration.deployment import PLAYBOOK, Run, snapshot, varied
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

DRIFT_S_MAX = 300
SYNC_FILE = "/etc/systemd/network/05-amaranten-ha-sync.network"
RELOAD = "systemctl daemon-reload"
OFFLOAD = """python3 - $SYNC {} <<END
import array, fcntl, socket, struct, sys
value = array.array("B", struct.pack("=II", 0x2c, int(sys.argv[2])))
request = struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]).ljust(40, bytes(1))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
END
"""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a hand does on a node, how it is undone, and what must be said of it."""

    kind: str
    path: str
    do: str
    undo: str
    words: str = ""


def edited(path: str, script: str) -> tuple[str, str]:
    """Commands that edit a file with sed and put it back as it was."""
    kept = f"/root/kept-{path.rpartition('/')[2]}"
    return f'cp -p {path} {kept} && sed -i "{script}" {path}', f"mv {kept} {path}"


# On one node. Values that only the two nodes can be compared in come with the other node's name.
ONE_SIDED = (
    Edit(
        "runtime",
        "ruleset/inet edge",
        "nft insert rule inet edge forward accept",
        "systemctl reload amaranten-ha-ruleset.service",
        "-\t\taccept",
    ),
    Edit(
        "one-sided",
        "table/ip handmade",
        "nft add table ip handmade",
        "nft delete table ip handmade",
        "-table ip handmade {",
    ),
    Edit(
        "runtime",
        "sysctl/net/netfilter/nf_conntrack_tcp_loose",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",
        "has 1 (running), expected 0",
    ),
    Edit(
        "one-sided",
        "sysctl/net/ipv4/conf/lan/arp_announce",
        *edited("/etc/sysctl.d/99-zz-amaranten-ha.conf", "/$LAN.arp_announce/s/2/1/"),
        "has 1 (on disk only), expected 2",
    ),
    Edit(
        "one-sided",
        "sysctl/net/ipv4/conf/lan/log_martians",
        "sysctl -qw net.ipv4.conf.$LAN.log_martians=1",
        "sysctl -qw net.ipv4.conf.$LAN.log_martians=0",
    ),
    Edit(
        "runtime",
        "address/sync/10.20.4.77/24",
        "ip address add 10.20.4.77/24 dev $SYNC",
        "ip address delete 10.20.4.77/24 dev $SYNC",
    ),
    Edit(
        "runtime",
        "route/lan/10.99.0.0/16 via 10.20.1.100",
        "ip route add 10.99.0.0/16 via 10.20.1.100",
        "ip route delete 10.99.0.0/16",
    ),
    Edit(
        "one-sided",
        "route table 77/sync/10.98.0.0/16 via 10.20.4.9",
        "ip route add 10.98.0.0/16 via 10.20.4.9 dev $SYNC table 77",
        "ip route flush table 77",
    ),
    Edit(
        "one-sided",
        "rule/-4 100: from 10.98.0.1 lookup 77",
        "ip rule add from 10.98.0.1 lookup 77 priority 100",
        "ip rule delete priority 100",
    ),
    Edit(
        "one-sided",
        "mtu/dmz",
        "ip link set $DMZ mtu 1400",
        "ip link set $DMZ mtu 1500",
        "1400",
    ),
    Edit(
        "one-sided",
        "offload/sync/virtual/generic-receive-offload",
        OFFLOAD.format(1),
        OFFLOAD.format(0),
    ),
    Edit(
        "runtime",
        "mac/dmz",
        "cat /sys/class/net/$DMZ/address > /root/mac; ip link set $DMZ address 02:00:00:00:00:77",
        "ip link set $DMZ address $(cat /root/mac); rm /root/mac",
        "02:00:00:00:00:77",
    ),
    Edit(
        "one-sided",
        "neighbour/lan/10.20.1.88",
        "ip neighbour add 10.20.1.88 lladdr 02:00:00:00:00:88 dev $LAN nud permanent",
        "ip neighbour delete 10.20.1.88 dev $LAN",
    ),
    Edit(
        "one-sided",
        "device/handmade0",
        "ip link add handmade0 type bridge",
        "ip link delete handmade0",
    ),
    Edit(
        "one-sided",
        "file/etc/modules-load.d/amaranten-ha.conf",
        *edited("/etc/modules-load.d/amaranten-ha.conf", "s/nf_conntrack/nf_nat/"),
        "-nf_nat\n",
    ),
    Edit(
        "one-sided",
        "key/mode",
        "chmod 644 /etc/amaranten-ha/keys.toml",
        "chmod 600 /etc/amaranten-ha/keys.toml",
        "has 0644, expected 0600",
    ),
    Edit(
        "one-sided",
        "unit/amaranten-ha-sync.service/enabled",
        "systemctl disable -q amaranten-ha-sync.service",
        "systemctl enable -q amaranten-ha-sync.service",
    ),
    Edit(
        "one-sided",
        "unit/amaranten-ha-heart.service/drop-ins",
        "mkdir -p /etc/systemd/system/amaranten-ha-heart.service.d; echo '[Service]' > "
        f"/etc/systemd/system/amaranten-ha-heart.service.d/hand.conf; {RELOAD}",
        f"rm -r /etc/systemd/system/amaranten-ha-heart.service.d; {RELOAD}",
    ),
    Edit(
        "one-sided",
        "unit/handmade.service/enabled",
        "printf '[Install]\\nWantedBy=multi-user.target\\n[Service]\\nExecStart=true\\n' > "
        f"/etc/systemd/system/handmade.service; {RELOAD}; systemctl enable -q handmade.service",
        f"systemctl disable -q handmade.service; rm /etc/systemd/system/handmade.service; {RELOAD}",
    ),
)

# On both nodes.
BOTH_SIDED = (
    Edit(
        "both-sided",
        "ruleset/inet edge",
        *edited("/etc/amaranten-ha/ruleset.nft", "s/5000/5/"),
        "+\t\tmeta l4proto",
    ),
    Edit(
        "both-sided",
        "address/sync/10.20.4.66/24",
        f"cp -p {SYNC_FILE} /root/sync; sed -i '/^Address=10/aAddress=10.20.4.66/24' {SYNC_FILE}",
        f"mv /root/sync {SYNC_FILE}",
    ),
    Edit(
        "both-sided",
        "table/ip handmade",
        "nft add table ip handmade",
        "nft delete table ip handmade",
    ),
    Edit(
        "both-sided",
        "unit/amaranten-ha-ruleset.service/file",
        "cp -p /etc/systemd/system/amaranten-ha-ruleset.service /root/unit; echo '# hand' >> "
        f"/etc/systemd/system/amaranten-ha-ruleset.service; {RELOAD}",
        f"mv /root/unit /etc/systemd/system/amaranten-ha-ruleset.service; {RELOAD}",
    ),
    Edit(
        "runtime",
        "sysctl/net/ipv4/conf/wan/rp_filter",
        "sysctl -qw net.ipv4.conf.$WAN.rp_filter=1",
        "sysctl -qw net.ipv4.conf.$WAN.rp_filter=2",
    ),
    Edit(
        "both-sided",
        "file/etc/amaranten-ha/agent.toml",
        "cp -p /etc/amaranten-ha/agent.toml "
        "/root/agent; sed -i s/virtual/fast/ /etc/amaranten-ha/agent.toml",
        "mv /root/agent /etc/amaranten-ha/agent.toml",
        '-profile = "fast"',
    ),
    Edit(
        "both-sided",
        "key/send",
        "cp -p /etc/amaranten-ha/keys.toml /root/keys; "
        "sed -i 's/send_key = 1/send_key = 2/' /etc/amaranten-ha/keys.toml",
        "mv /root/keys /etc/amaranten-ha/keys.toml",
        "has 2, expected 1",
    ),
)
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
