# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage, heart's forerunner: nothing forwards and no shared address is left without a gate."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from gate_bench import (
    LAN,
    SHARED,
    SHARED6,
    SOURCE,
    Bench,
    run,
    until,
)
from gate_frames import Beat

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

CPU_MAX_S = 0.4
FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        made.up()
        for path in FORWARDING:
            made.sysctl(path, "0")
        yield made
    finally:
        made.down()


def stage(bench: Bench, *more: str) -> subprocess.CompletedProcess[str]:
    module = (sys.executable, "-m", "amaranten_ha", "stage", *bench.options, *more)
    return subprocess.run(
        ("nsenter", f"--net=/run/netns/{bench.node}", *module),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def forwarding(bench: Bench) -> list[str]:
    return [bench.sysctl(path) for path in FORWARDING]


def addresses(bench: Bench) -> set[str]:
    lines = run("ip", "-n", bench.node, "-o", "addr").stdout.splitlines()
    return {line.split()[3].split("/")[0] for line in lines}


SHARED_ALL = {*SHARED.values(), *SHARED6.values(), "fe80::1"}


def test_without_a_gate_nothing_is_forwarded(bench: Bench) -> None:
    bench.share()
    done = stage(bench, "--gate-wait-s", "0.3")
    assert done.returncode == 1
    assert (
        "after 0.3 s: there is no table netdev amaranten_ha; is amaranten-ha-gate.service"
        in done.stderr
    )
    assert forwarding(bench) == ["0", "0"]


def test_after_a_crash_shared_addresses_are_removed_then_forwarding_begins(bench: Bench) -> None:
    bench.service().ready()
    bench.share()
    bench.beat()
    done = stage(bench)
    assert done.returncode == 0, done.stderr
    assert not addresses(bench) & SHARED_ALL
    assert {"10.20.1.2", "fd20:1::2", "10.20.9.2"} <= addresses(bench)
    assert f"removed {SHARED[LAN]} from lan0: left over from an earlier life" in done.stderr
    assert forwarding(bench) == ["1", "1"]


def stage_while(bench: Bench, frame: Beat) -> tuple[int, str]:
    """Run stage while this frame is sent again and again; its exit code and words."""
    running = subprocess.Popen(
        ("nsenter", f"--net=/run/netns/{bench.node}", sys.executable, "-m", "amaranten_ha", "stage")
        + tuple(bench.options),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stderr=subprocess.PIPE,
        text=True,
    )

    def ended() -> bool:
        bench.beat(frame)
        return running.poll() is not None

    try:
        until(ended, "stage ends", 20)
        return running.returncode, running.communicate()[1]
    finally:
        running.kill()
        running.wait()


def test_a_crash_in_an_announced_restart_has_its_long_lease_awaited(bench: Bench) -> None:
    bench.service().ready()
    bench.share()
    bench.announce()
    start = time.monotonic()
    assert stage(bench).returncode == 0
    assert time.monotonic() - start > 2, "the lease of an announced restart is three seconds"
    assert not addresses(bench) & SHARED_ALL


def test_a_lease_that_somebody_renews_is_not_touched(bench: Bench) -> None:
    bench.service().ready()
    bench.share()
    bench.beat()
    code, words = stage_while(bench, Beat())
    assert code == 1
    assert "expected no other heart" in words
    assert addresses(bench) >= SHARED_ALL


def test_a_missing_device_is_a_warning(bench: Bench) -> None:
    bench.unplug(LAN)
    bench.service().ready()
    done = stage(bench)
    assert done.returncode == 0
    assert "interface lan: there is no device lan0 yet" in done.stderr


def test_the_management_device_goes_on_accepting_router_advertisements(bench: Bench) -> None:
    for device in ("mgmt0", "lan0"):
        bench.sysctl(f"ipv6/conf/{device}/accept_ra", "1")
    bench.service().ready()
    assert stage(bench).returncode == 0
    assert bench.sysctl("ipv6/conf/mgmt0/accept_ra") == "2"
    assert bench.sysctl("ipv6/conf/lan0/accept_ra") == "1"


def test_it_is_cheap(bench: Bench) -> None:
    bench.service().ready()
    stage(bench)
    used_s = []
    for _run in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert stage(bench).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # A processor that others use counts their time, too: the cheapest is what it costs.
    assert min(used_s) < CPU_MAX_S, used_s
