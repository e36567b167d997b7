# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration judges rightly, and an interrupted one leaves nothing behind.

The demonstration itself is run by people; what it shows is proved by the tests of a deployed pair.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.demo.report import Report, lost_between, silence_between
from tests.lab.plan import ROOT, Plan, own_prefix

PREFIX = own_prefix("labv")

GOOD = Report(
    silence_ms=241.0,
    packets_lost=240,
    connections=200,
    connections_survived=200,
    active_before="fw-a",
    active_after="fw-b",
    needless_switches=0,
    returned_as="passive",
    packets_lost_on_return=0,
    packets_forwarded_by_both=0,
    packets_sent=9000,
    profile="virtual",
    deploy_s=40.0,
)


def test_a_good_run_has_no_shortcomings() -> None:
    assert GOOD.shortcomings() == []
    assert "241 ms" in GOOD.table()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"silence_ms": 1000.0}, "the silence lasted 1000 ms"),
        ({"connections_survived": 199}, "1 of 200 connections did not survive"),
        ({"active_after": "fw-a"}, "nobody else was active"),
        ({"active_after": ""}, "nobody else was active"),
        ({"needless_switches": 1}, "changed 1 times without need"),
        ({"returned_as": "active"}, "fw-a came back as active"),
        ({"packets_forwarded_by_both": 3}, "3 packets went through both"),
    ],
)
def test_each_shortcoming_is_named(change: dict[str, object], sentence: str) -> None:
    (found,) = replace(GOOD, **change).shortcomings()
    assert sentence in found


def test_silence_and_loss_are_those_of_the_period() -> None:
    ms = 1_000_000
    rows: list[list[int | None]] = [[n, n * ms, n * ms + 1] for n in range(1000)]
    for number in range(300, 540):
        rows[number][2] = None
    assert silence_between(rows, 0, 1000 * ms) == 241.0
    assert lost_between(rows, 0, 1000 * ms) == 240
    assert lost_between(rows, 500 * ms, 1000 * ms) == 40
    assert silence_between(rows, 600 * ms, 1000 * ms) == 1.0


@pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")
def test_an_interrupted_demonstration_leaves_nothing_behind() -> None:
    plan = Plan(PREFIX)
    # Whoever runs the tests in the background ignores SIGINT, and children inherit that.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "tests.demo"]
    command += ["--prefix", PREFIX]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        said = []
        for line in demo.stdout:
            said.append(line)
            if "Validate the pair on its nodes" in line:
                assert plan.namespace_path("fw-a").exists()
                os.killpg(demo.pid, signal.SIGINT)
    assert demo.returncode == 130, said
    assert "taking the lab down" in "".join(said)
    assert list(Path("/run/netns").glob(f"{plan.name}-*")) == []
    assert not plan.disks.exists()
    assert not plan.build.exists()
