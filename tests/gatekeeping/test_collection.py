# SPDX-License-Identifier: GPL-3.0-or-later
"""The gatekeepers of the collection, each as one test: lint, ansible-test, the built collection.

They are slow (a minute or two for the first run of ansible-test), so they stand behind the units.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SKIPPED = 77


def gate(*command: str | Path) -> str:
    """Run one tool from the root; its own output is the failure, or the reason to skip."""
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    if done.returncode != 0:
        pytest.fail(done.stdout, pytrace=False)
    return done.stdout


def test_yamllint() -> None:
    gate(BIN / "yamllint", "--strict", ".")


def test_ansible_lint_production() -> None:
    gate(ROOT / "tools/lint-ansible")


def test_changelog() -> None:
    gate(BIN / "antsibull-changelog", "lint")


def test_every_playbook_parses() -> None:
    playbooks = sorted(ROOT.glob("playbooks/*.yml"))
    assert playbooks
    gate(BIN / "ansible-playbook", "-i", "localhost,", "--syntax-check", *playbooks)


def test_no_playbook_is_content_with_an_inventory_without_firewalls() -> None:
    """Ansible says "no hosts matched" and ends with 0: a drift check would look clean for ever."""
    runs = {
        playbook.name: subprocess.Popen(
            [BIN / "ansible-playbook", "-i", os.devnull, "-e", "drill=switchover", playbook],
            cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for playbook in ROOT.glob("playbooks/*.yml")
    }  # fmt: skip
    assert runs
    for name, run in runs.items():
        said = run.communicate()[0]
        assert run.returncode == 2, (name, said)
        assert "The group firewalls has no hosts, expected exactly two" in said, (name, said)


def test_the_example_of_the_inventory_plugin_makes_pairs(tmp_path: Path) -> None:
    name = "amaranten.ha.pairs"
    said = json.loads(gate(BIN / "ansible-doc", "--json", "--type", "inventory", name))
    source = tmp_path / "firewalls.pairs.yml"
    source.write_text(said[name]["examples"])
    found = json.loads(gate(BIN / "ansible-inventory", "-i", source, "--list"))
    assert found["firewalls"]["children"] == ["pair_berlin", "pair_paris"]
    assert found["pair_paris"]["hosts"] == ["par-a", "par-b"]
    assert (found["ha_primary"]["hosts"], found["ha_backup"]["hosts"]) == (
        ["ber-a", "par-a"],
        ["ber-b", "par-b"],
    )
    profiles = {
        host: said["ha_cluster"]["profile"] for host, said in found["_meta"]["hostvars"].items()
    }
    assert profiles == {"ber-a": "fast", "ber-b": "fast", "par-a": "virtual", "par-b": "virtual"}


@pytest.mark.parametrize("end", ["oldest", "newest"])
@pytest.mark.parametrize("what", ["sanity", "units"])
def test_ansible_test(what: str, end: str) -> None:
    gate(sys.executable, ROOT / "tools/ansible_test.py", end, what)


def test_the_built_collection_carries_the_agent_and_nothing_of_the_workshop(tmp_path: Path) -> None:
    gate(sys.executable, ROOT / "tools/build_agent.py")
    gate(BIN / "ansible-galaxy", "collection", "build", "--output-path", tmp_path, ROOT)
    (built,) = tmp_path.glob("amaranten-ha-*.tar.gz")
    with tarfile.open(built) as tar:
        names = set(tar.getnames())
    assert "roles/agent/files/amaranten-ha-agent.tar.gz" in names
    assert "agent/src/amaranten_ha/__init__.py" in names
    assert "playbooks/site.yml" in names
    rooms = {name.split("/")[0] for name in names}
    assert not rooms & {"build", "tests", "tools", ".venv", ".git", "requirements", "Makefile"}
    assert not [name for name in names if name.endswith(".pyc")]
