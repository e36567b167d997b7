# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills on a deployed pair: the plan, a switchover with its report, and what is refused.

The report is opened in a real browser, as its reader would.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.integration import deployment, steps
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

FAULT = ("netdev", "amaranten_ha_drill")
LOCK = "/run/amaranten-ha-drill.lock"
# No inventory knows these: what a drill takes away it must bring back itself.
ROUTES = {
    "-4": ("192.0.2.0/24", "via", "198.51.100.100"),
    "-6": ("2001:db8:99::/64", "via", "2001:db8:51::100"),
}
BROWSER = "chromium"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def drill(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook as an operator does."""
    command = [str(deployment.PLAYBOOK), "-i", str(lab.inventory), "playbooks/drill.yml", *words]
    return subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


def locked(lab: Lab) -> bool:
    """Whether somebody holds the lock of drills on a node."""
    return lab.node("fw-a").run(["flock", "-n", LOCK, "true"]).returncode != 0


def test_check_mode_says_the_plan_and_breaks_nothing(pair: Lab) -> None:
    holder = steps.ready(pair)
    before = steps.epoch(pair)
    done = drill(pair, "-e", "drill=crash", "--check")
    assert done.returncode == 0, done.stdout
    assert "crash: kills the heart of the active node" in done.stdout
    assert "the pair is ready" in done.stdout
    assert steps.ready(pair) == holder
    assert steps.epoch(pair) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-e", "drill=explode"), "explode"),
        (("-e", "drill=power"), "drill_confirm_power is missing, expected true"),
        (("-e", "drill=link", "-e", "drill_interface=attic"), "drill_interface is 'attic'"),
        (("-e", "drill=crash", "-e", '{"drill_budget": {"pain": 1}}'), "drill_budget.pain is 1"),
    ],
)
def test_bad_requests_are_refused_in_a_sentence(
    pair: Lab, words: tuple[str, ...], sentence: str
) -> None:
    before = steps.epoch(pair)
    done = drill(pair, *words)
    assert done.returncode == 2
    assert sentence in done.stdout
    assert steps.epoch(pair) == before


def test_a_second_drill_is_refused_while_one_holds_the_pair(pair: Lab) -> None:
    steps.ready(pair)
    before = steps.epoch(pair)
    # A fault of that other drill would be drift: the lock is asked first.
    pair.node("fw-b").run(["nft", "add", "table", *FAULT])
    # It holds the lock until its standard input is closed, which leaving the block does.
    with pair.node("fw-a").popen(["flock", "-x", LOCK, "cat"], stdin=subprocess.PIPE):
        steps.until("the lock is held", lambda: locked(pair))
        done = drill(pair, "-e", "drill=crash")
        drift = deployment.play(pair, "drift")
    pair.node("fw-b").run(["nft", "delete", "table", *FAULT])
    steps.until("the lock is free again", lambda: not locked(pair))
    assert done.returncode == 2
    assert "Another drill of this pair is under way" in done.stdout
    assert "amaranten_ha_drill" not in done.stdout
    # Who looks for drift at this moment is told why there is some.
    assert drift.code == 2
    assert "Another drill of this pair is under way" in drift.output
    assert steps.epoch(pair) == before


def test_a_pair_that_drifted_is_not_drilled(pair: Lab) -> None:
    steps.ready(pair)
    before = steps.epoch(pair)
    pair.node("fw-b").run(["nft", "add", "table", "ip", "handmade"])
    try:
        done = drill(pair, "-e", "drill=crash")
    finally:
        pair.node("fw-b").run(["nft", "delete", "table", "ip", "handmade"])
    assert done.returncode == 2
    assert "table/ip handmade" in done.stdout
    assert steps.epoch(pair) == before


def test_a_crash_is_measured_and_its_report_can_be_read(pair: Lab, tmp_path: Path) -> None:
    holder = steps.ready(pair)
    done = drill(
        pair, "-e", "drill=crash", "-e", f"drill_report={tmp_path}", "-e", "drill_restore=false"
    )
    assert (tmp_path / "report.json").exists(), done.stdout
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["broken_off"] == ""
    (run,) = found["drills"]
    assert {check["name"]: check["ok"] for check in run["checks"]}["roles"], done.stdout
    assert run["measured"]["connections"] == 251
    assert run["measured"]["connections_lost"] == 0
    assert run["measured"]["dual_active_ms"] == 0
    assert any("-> active: peer lost" in moment["text"] for moment in run["moments"])
    assert steps.ready(pair) == steps.other(holder)
    for node in NODES:
        left = steps.status(pair, node)["drill"]
        assert (left["drill"], left["ok"]) == ("crash", run["ok"])
    suites = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert [suite.get("name") for suite in suites] == ["crash"]
    assert "crash" in rendered(tmp_path / "report.html")


def test_a_controller_that_was_killed_leaves_a_whole_pair_for_the_next_drill(pair: Lab) -> None:
    holder = steps.ready(pair)
    cut = steps.other(holder)
    command = [str(deployment.PLAYBOOK), "-i", str(pair.inventory), "playbooks/drill.yml"]
    with subprocess.Popen(
        [*command, "-e", "drill=sync_cut", "-e", "drill_seconds=2"], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as controller:  # fmt: skip
        steps.until("the fault is there", lambda: broken(pair, cut), 60)
        steps.kill(controller.pid)
    steps.until("the lock is free", lambda: not locked(pair), 30)
    steps.until("the node has undone the fault by itself", lambda: not broken(pair, cut), 20)
    assert steps.ready(pair) == holder
    for family, route in ROUTES.items():
        pair.node(holder).run(["ip", family, "route", "add", *route])
    before = steps.addressing(pair, holder)
    words = ("-e", "drill=link", "-e", "drill_interface=wan", "-e", "drill_drift=false")
    done = drill(pair, *words)
    assert done.returncode == 0, done.stdout
    assert "the fault took effect" in done.stdout
    assert steps.ready(pair) == holder
    # An address that came back is tentative at first.
    back = "addresses and routes are back"
    steps.until(back, lambda: steps.addressing(pair, holder) == before, 10)
    for family, route in ROUTES.items():
        pair.node(holder).run(["ip", family, "route", "delete", *route])


def test_a_fault_that_ended_early_fails_the_drill(pair: Lab) -> None:
    holder = steps.ready(pair)
    cut = steps.other(holder)
    command = [str(deployment.PLAYBOOK), "-i", str(pair.inventory), "playbooks/drill.yml"]
    with subprocess.Popen(
        [*command, "-e", "drill=sync_cut", "-e", "drill_drift=false", "-e", "drill_seconds=6"],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as controller:  # fmt: skip
        steps.until("the fault is there", lambda: broken(pair, cut), 60)
        pair.node(cut).run(["nft", "delete", "table", *FAULT])
        said, _nothing = controller.communicate(timeout=120)
    assert controller.returncode == 2
    assert f"the fault took effect: it is not seen to work on {cut}" in said
    assert steps.ready(pair) == holder


def broken(lab: Lab, node: str) -> bool:
    """Whether the table of a fault is on a node."""
    return lab.node(node).run(["nft", "list", "table", *FAULT]).returncode == 0


def rendered(page: Path) -> str:
    """The page as a browser has it after loading, outlines of the flows included."""
    if shutil.which(BROWSER) is None:
        pytest.fail(f"{BROWSER} is not installed: run tools/apt-need browser")
    words = [BROWSER, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*words, page.as_uri()], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=180, check=True,
    )  # fmt: skip
    assert done.stdout.count('class="area"') == 3
    return done.stdout
