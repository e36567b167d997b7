# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator does on an ordinary day: status, switchover, maintenance, by playbook.

Each playbook runs as a process of its own, as an operator runs it. No test leaves a node held.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration import steps
from tests.integration.deployment import PLAYBOOK, play
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT


@pytest.fixture(autouse=True)
def released(pair: Lab) -> Iterator[None]:
    """Both nodes take part again when a test has ended."""
    yield
    for node in NODES:
        pair.node(node).run([steps.TOOL, "maintenance", "off"])


def test_status_shows_both_nodes_and_ends_with_0_or_2(pair: Lab) -> None:
    holder = steps.ready(pair)
    run = play(pair, "status")
    assert (run.code, run.changed_on_nodes) == (0, 0), run.end()
    assert f"{holder} is active" in run.output
    assert "the spare would take over now" in run.output
    for words in ("role ", "replica ", "gate ", "digests ", "way through   OK  ", "link lan "):
        assert f"\n  {words}" in run.output, words
    device = pair.device(holder, "dmz")
    pair.cut(steps.other(holder), "dmz")
    try:
        steps.until("seen", lambda: steps.status(pair, holder).get("ready") is False)
        reasons = {node: steps.status(pair, node)["reasons"] for node in NODES}
        assert reasons[NODES[0]] == reasons[NODES[1]]
        assert f"{steps.other(holder)} has no carrier on dmz" in reasons[holder]
        # It is a reason for the operator, and refuses no switchover.
        assert steps.status(pair, holder)["switchover"] == {"possible": True, "reasons": []}
        run = play(pair, "status")
    finally:
        pair.restore(steps.other(holder), "dmz")
    assert run.code == 2, run.end()
    assert f"- {steps.other(holder)} has no carrier on dmz" in run.output
    assert device in run.output
    assert steps.ready(pair) == holder


def test_a_switchover_loses_nothing_and_is_0_changes_when_it_is_so(pair: Lab) -> None:
    giver = steps.ready(pair)
    taker = steps.other(giver)
    epoch = steps.epoch(pair)
    checked = play(pair, "switchover", "--check", "-e", f"active={taker}")
    assert checked.code == 0, checked.end()
    assert checked.changed == {giver: 1, taker: 1}
    assert (steps.active(pair), steps.epoch(pair)) == (giver, epoch)
    with steps.traffic(pair) as probing:
        run = play(pair, "switchover", "-e", f"active={taker}")
    assert run.code == 0, run.end()
    assert run.changed[giver] == 1
    assert steps.ready(pair) == taker
    assert steps.epoch(pair) == epoch + 1
    assert probing.result.udp["packets_lost"] == 0
    assert probing.result.tcp["connections_survived"] == 100
    again = play(pair, "switchover", "-e", f"active={taker}")
    assert (again.code, again.changed_on_nodes) == (0, 0), again.end()
    limited = play(pair, "switchover", "--limit", taker)
    assert limited.code == 2
    assert f"{giver} was not asked, expected a play with both nodes" in limited.output
    assert (steps.active(pair), steps.epoch(pair)) == (taker, epoch + 1)


def test_a_switchover_that_would_lose_something_is_refused_with_the_reason(pair: Lab) -> None:
    holder = steps.ready(pair)
    spare = steps.other(holder)
    pair.node(spare).run(["systemctl", "stop", steps.SYNC])
    try:
        steps.until("not ready", lambda: steps.status(pair, holder).get("ready") is False)
        for arguments in ((), ("--check",), ("-e", "active=fw-c")):
            run = play(pair, "switchover", *arguments)
            assert (run.code, run.changed_on_nodes) == (2, 0), run.end()
            named = "active=fw-c" in arguments
            words = "'fw-c' was named" if named else f"the replica on {spare} is "
            assert words in run.output
        # The module by itself asks until its time is over, and says why it was refused.
        words = ["-m", "amaranten.ha.node_role", "-a", "state=passive wait_s=2"]
        done = subprocess.run(
            [PLAYBOOK.with_name("ansible"), "-i", pair.inventory, holder, *words],
            cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        said = f"{holder} is active after 2 s, expected passive: the replica on {spare} is "
        assert said in done.stdout
        assert steps.active(pair) == holder
    finally:
        pair.node(spare).run(["systemctl", "start", steps.SYNC])
    assert steps.ready(pair, 60) == holder


def test_maintenance_holds_one_node_for_a_time_and_releases_it(pair: Lab) -> None:
    holder = steps.ready(pair)
    for arguments, words in (
        (("-e", "maintenance=on", "-e", "for=2h"), "expected exactly one of the play"),
        (("-e", "maintenance=on", "--limit", holder), "expected a duration, as in -e for=2h"),
        (("-e", "for=2h", "--limit", holder), "expected on or off"),
    ):
        run = play(pair, "maintenance", *arguments)
        assert (run.code, run.changed_on_nodes) == (2, 0), run.end()
        assert words in run.output
    on = ("-e", "maintenance=on", "-e", "for=2h", "--limit", holder)
    checked = play(pair, "maintenance", "--check", "--diff", *on)
    assert (checked.code, checked.changed) == (0, {holder: 1}), checked.end()
    assert "-role: active\n-held: no\n+role: passive\n+held: yes" in checked.output
    assert steps.active(pair) == holder
    run = play(pair, "maintenance", *on)
    assert (run.code, run.changed) == (0, {holder: 1}), run.end()
    found = steps.status(pair, holder)
    assert (found["role"], found["held"]) == ("passive", True)
    again = play(pair, "maintenance", *on)
    assert (again.code, again.changed) == (0, {holder: 0}), again.end()
    longer = ("-e", "maintenance=on", "-e", "for=4h", "-e", f"node={holder}")
    assert play(pair, "maintenance", *longer).changed[holder] == 1
    assert steps.status(pair, holder)["held_s"] > 3 * 3600
    off = play(pair, "maintenance", "-e", "maintenance=off", "--limit", holder)
    assert (off.code, off.changed) == (0, {holder: 1}), off.end()
    assert not steps.status(pair, holder)["held"]
    assert steps.ready(pair) == steps.other(holder)


def test_the_journal_has_each_change_under_its_own_id(pair: Lab) -> None:
    giver = steps.ready(pair)
    taker = steps.other(giver)
    node = pair.node(taker)
    assert pair.node(giver).run([steps.TOOL, "switchover"]).returncode == 0
    epoch = steps.epoch(pair)
    pair.node(giver).run(["systemctl", "stop", steps.SYNC])
    steps.until("not ready", lambda: steps.status(pair, taker).get("ready") is False)
    pair.node(giver).run(["systemctl", "start", steps.SYNC])
    steps.ready(pair, 60)
    wanted = {
        "role": ("4171f81e79584e40a4a084c9723342e3", f"(epoch {epoch})"),
        "ready": ("05d672d5284b4fc89aa847ec27db6746", "not ready: the replica on"),
        "replica": ("b5be1d9f00694ab8aabd2574304816c7", "synced -> "),
        "gate": ("1fecbb0f25b74f86a8285a5863439d43", "gate: intact"),
    }

    def said(number: str) -> list[dict[str, str]]:
        done = node.run(["journalctl", "-q", "-b", "-o", "json", f"MESSAGE_ID={number}"])
        return [json.loads(line) for line in done.stdout.splitlines()]

    for kind, (number, words) in wanted.items():
        steps.until(kind, lambda n=number, w=words: any(w in e["MESSAGE"] for e in said(n)), 10)
        event = next(each for each in said(number) if words in each["MESSAGE"])
        assert event["AMARANTEN_HA_EVENT"] == kind
        assert event["_SYSTEMD_UNIT"] == steps.HEART
    role = [e for e in said(wanted["role"][0]) if f"(epoch {epoch})" in e["MESSAGE"]][-1]
    assert (role["AMARANTEN_HA_ROLE"], role["AMARANTEN_HA_EPOCH"]) == ("active", str(epoch))
    # Told once: the line on standard error is not there beside it.
    lines = node.run(["journalctl", "-q", "-b", "-u", steps.HEART, "-o", "cat"]).stdout
    assert lines.splitlines().count(role["MESSAGE"]) == 1


def test_the_way_of_a_packet_is_tested_on_the_passive_without_a_change_of_role(pair: Lab) -> None:
    holder = steps.ready(pair)
    spare = pair.node(steps.other(holder))

    def check() -> tuple[int, str]:
        done = spare.run([steps.TOOL, "check", "--path"])
        return done.returncode, done.stdout.strip()

    assert check() == (0, f"OK - {steps.other(holder)} passive, 12 ways, 0 next hops")
    rule = ["to", "10.20.3.0/24", "blackhole"]
    spare.run(["ip", "rule", "add", *rule])
    try:
        code, text = check()
    finally:
        spare.run(["ip", "rule", "del", *rule])
    assert code == 1
    assert "the kernel has no way from 10.20.1.4 on lan to 10.20.3.4 on dmz" in text
    assert check()[0] == 0
    assert steps.ready(pair) == holder


def test_check_is_one_line_with_figures_a_monitoring_system_reads(pair: Lab) -> None:
    holder = steps.ready(pair)
    done = pair.node(holder).run([steps.TOOL, "check"])
    assert done.returncode == 0, done.stdout
    text, _bar, figures = done.stdout.strip().partition(" | ")
    assert text == f"OK - {holder} active, {steps.other(holder)} passive"
    named = dict(each.split("=", 1) for each in figures.split())
    assert named["share"].startswith("100.0%;99.9:")
    assert named["epoch"] == f"{steps.epoch(pair)}c"
    assert set(named) == {"share", "lag", "entries", "near_misses", "late", "held", "epoch"}
