# SPDX-License-Identifier: GPL-3.0-or-later
"""Another version of the agent, there and back, under traffic, with a controller that dies.

The other versions are copies of this collection with another number in the agent: what is deployed
is packed from them, as it would be from a release.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.integration import steps
from tests.integration.deployment import play
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

# An archive on the node itself, with a newer package than the node has; it reaches no other.
ARCHIVE = r"""
set -e
mkdir -p /srv/archive && cd /srv/archive
for version in 1.0 1.1; do
    mkdir -p tree/DEBIAN
    printf '%s\n' 'Package: lab-package' "Version: $version" 'Architecture: all' \
        'Maintainer: the lab <lab@example.org>' 'Description: stands for any package' \
        >tree/DEBIAN/control
    dpkg-deb --build tree lab-package_$version.deb
done
dpkg --install lab-package_1.0.deb
{
    dpkg-deb --field lab-package_1.1.deb
    echo "Filename: ./lab-package_1.1.deb"
    echo "Size: $(stat -c %s lab-package_1.1.deb)"
    echo "SHA256: $(sha256sum lab-package_1.1.deb | cut -d' ' -f1)"
} >Packages
mv /etc/apt/sources.list /etc/apt/sources.list.lab
echo 'deb [trusted=yes] file:/srv/archive ./' >/etc/apt/sources.list.d/lab.list
"""
NO_ARCHIVE = """
dpkg --purge lab-package
mv /etc/apt/sources.list.lab /etc/apt/sources.list
rm -r /srv/archive /etc/apt/sources.list.d/lab.list /var/lib/apt/lists/*srv_archive*
"""
BOOT = ["cat", "/proc/sys/kernel/random/boot_id"]
PARTS = ("plugins", "roles", "playbooks", "meta", "agent/src", "galaxy.yml", "ansible.cfg")
# The passive node has the version, and is not looked at yet; the role has moved.
BOUNDARIES = (
    "TASK [Refuse to go on unless it runs the version",
    "PLAY [Upgrade the other node",
)


def other_version(place: Path, version: str, protocol: str) -> Path:
    """A copy of this collection whose agent calls itself otherwise."""
    for part in PARTS:
        target = place / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, target)
    link = place / "build/collections/ansible_collections/amaranten/ha"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../../..")
    agent = place / "agent/src/amaranten_ha"
    replace(agent / "__init__.py", r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"')
    replace(agent / "core/greeting.py", r"(?m)^MAJOR, MINOR = .*$", f"MAJOR, MINOR = {protocol}")
    return place


def replace(path: Path, pattern: str, text: str) -> None:
    """Replace exactly one line of a file."""
    changed, count = re.subn(pattern, text, path.read_text())
    assert count == 1, path
    path.write_text(changed)


def versions(lab: Lab) -> set[str]:
    """What both nodes run."""
    return {steps.status(lab, node)["version"] for node in NODES}


def working(lab: Lab) -> None:
    """Wait until one is active and would hand over to the other without a loss."""

    def holds() -> bool:
        found = [steps.status(lab, node) for node in NODES]
        roles = sorted(each.get("role", "off") for each in found)
        return roles == ["active", "passive"] and all(
            each.get("switchover", {}).get("possible") for each in found
        )

    steps.until("one active, one passive in sync", holds, 60)


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The next version, with another minor version of the replication's protocol."""
    return other_version(tmp_path / "newer", "0.2.0", "1, 3")


def test_an_upgrade_loses_nothing_wherever_it_is_interrupted_and_back(
    pair: Lab, newer: Path, tmp_path: Path
) -> None:
    steps.ready(pair)
    here = versions(pair)
    assert here != {"0.2.0"}
    epoch = steps.epoch(pair)
    major = other_version(tmp_path / "major", "1.0.0", "2, 0")
    refused = play(pair, "upgrade", root=major)
    assert (refused.code, refused.changed_on_nodes) == (2, 0), refused.end()
    assert "speaks 1/2, expected the same major versions" in refused.output
    with steps.traffic(pair, connections=200) as probing:
        for boundary in BOUNDARIES:
            play(pair, "upgrade", root=newer, die_at=boundary)
            working(pair)
        run = play(pair, "upgrade", root=newer)
        assert run.code == 0, run.end()
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 200
    assert versions(pair) == {"0.2.0"}
    assert steps.ready(pair)
    assert steps.epoch(pair) == epoch + 1
    again = play(pair, "upgrade", root=newer)
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()
    with steps.traffic(pair, connections=200) as probing:
        back = play(pair, "upgrade")
    assert back.code == 0, back.end()
    assert versions(pair) == here
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 200
    assert steps.ready(pair)
    assert steps.epoch(pair) == epoch + 2


def test_an_upgrade_is_refused_unless_the_pair_is_in_sync(pair: Lab, newer: Path) -> None:
    holder = steps.ready(pair)
    spare = steps.other(holder)
    pair.node(spare).run(["systemctl", "stop", steps.SYNC])
    try:
        steps.until("not ready", lambda: steps.status(pair, holder).get("ready") is False)
        run = play(pair, "upgrade", root=newer)
    finally:
        pair.node(spare).run(["systemctl", "start", steps.SYNC])
    assert (run.code, run.changed_on_nodes) == (2, 0), run.end()
    assert f"the replica on {spare} is " in run.output
    assert steps.ready(pair, 60) == holder


def test_packages_of_the_distribution_come_with_a_reboot_of_the_passive_node(pair: Lab) -> None:
    giver, epoch = steps.ready(pair), steps.epoch(pair)
    boots = {node: pair.node(node).run(BOOT).stdout for node in NODES}
    try:
        for node in NODES:
            done = pair.node(node).run(["sh", "-c", ARCHIVE])
            assert done.returncode == 0, done.stderr
        with steps.traffic(pair, connections=200) as probing:
            run = play(pair, "upgrade", "-e", "upgrade_packages=true")
        assert run.code == 0, run.end()
        for node in NODES:
            shown = pair.node(node).run(["dpkg-query", "-W", "-f", "${Version}", "lab-package"])
            assert shown.stdout == "1.1"
            assert pair.node(node).run(BOOT).stdout != boots[node]
    finally:
        for node in NODES:
            pair.node(node).run(["sh", "-c", NO_ARCHIVE])
    assert (steps.ready(pair), steps.epoch(pair)) == (steps.other(giver), epoch + 1)
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 200
