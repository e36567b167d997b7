# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo``: lab up, pair deployed, traffic on, plug pulled, figures out, all cleaned away.

Exit codes: 0 the silence was under a second, every connection survived and nothing moved without
need; 1 it was not so, or something failed; 2 it was asked for something impossible.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import Lab, LabError, Watch, after
from tests.lab.plan import NODES, ROOT, BadRequest, address
from tests.probes import driver

from .deploy import deploy
from .pair import DemoError, Pair, active_of, entries_of, settled
from .report import Report, lost_between, silence_between

BUILD = ROOT / "build" / "demo"
CONNECTIONS = 200
STEADY_S = 2
AFTER_S = 3
NOTICED_MS = 60


@dataclass(frozen=True, slots=True)
class Moments:
    """When what happened, on the monotonic clock that the probes use too."""

    begun_ns: int
    cut_ns: int
    boot_ns: int
    ended_ns: int


class Show:
    """Lines with the time since the demonstration, or the last power cut, began."""

    def __init__(self) -> None:
        self.zero_ns = time.monotonic_ns()

    def say(self, text: str) -> None:
        """One line for people."""
        print(f"[{(time.monotonic_ns() - self.zero_ns) / 1e9:7.2f} s] {text}", flush=True)


@contextmanager
def the_lab(prefix: str, keep: bool, show: Show) -> Iterator[Lab]:
    """The lab, brought up, and taken down again unless it was up before or is to be kept."""
    lab = Lab(prefix)
    status = lab.status()
    found_up = status["up"] and all(node["running"] for node in status["nodes"].values())
    try:
        show.say("the lab: two bare Debian nodes, a client, a server, a host on dmz")
        lab.up()
        yield lab
    finally:
        # A second Ctrl-C must not leave half of it behind.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if keep or found_up:
            show.say(f"the lab stays up ({'--keep' if keep else 'it was up before'})")
        else:
            show.say("taking the lab down")
            lab.down()
        signal.signal(signal.SIGINT, previous)


def watch_the_cut(show: Show, requests: driver.Probe, talk: driver.Probe) -> None:
    """Tell what the probes see from the plug being pulled until all is well again."""
    deadline_ns = time.monotonic_ns() + 30_000_000_000
    calm_ms = requests.progress["longest_ms"]
    told_ns = 0
    while requests.progress["longest_ms"] <= max(calm_ms, NOTICED_MS):
        asked = requests.progress
        if asked["waiting_ms"] > NOTICED_MS and asked["at_ns"] != told_ns:
            told_ns = asked["at_ns"]
            stuck = talk.progress["stuck"]
            show.say(f"no answer for {asked['waiting_ms']:.0f} ms, {stuck} connections wait")
        if time.monotonic_ns() > deadline_ns:
            show.say("no answer for 30 s")
            return
        time.sleep(0.01)
    show.say(f"answers again: the silence lasted {requests.progress['longest_ms']:.0f} ms")
    while talk.progress["stuck"]:
        if time.monotonic_ns() > deadline_ns:
            show.say(f"{talk.progress['stuck']} connections still wait after 30 s")
            return
        time.sleep(0.01)
    lost = talk.progress["failed"]
    show.say(f"all TCP connections talk again{f', but {lost} are lost' if lost else ''}")


def under_traffic(
    lab: Lab, pair: Pair, show: Show, requests: driver.Probe, talk: driver.Probe
) -> tuple[Moments, dict[str, Any]]:
    """Pull the plug of the active node, and plug it in again; the moments and what was seen."""
    begun_ns = time.monotonic_ns()

    def copied(views: dict[str, dict[str, Any]]) -> bool:
        return settled(views) and all(entries_of(view) > CONNECTIONS for view in views.values())

    views = pair.wait("the spare's copy of the connections", copied, 30)
    before = active_of(views)
    other = next(node for node in NODES if node != before)
    show.say(f"{before} is active, {other} holds {entries_of(views[other])} connections")
    steady_until_ns = time.monotonic_ns() + STEADY_S * 1_000_000_000
    while time.monotonic_ns() < steady_until_ns:
        pair.look()
    show.say(f"pulling the plug of {before} (active): all ports silent, then SIGKILL")
    show.zero_ns = time.monotonic_ns()
    cut_ns = time.monotonic_ns()
    with ThreadPoolExecutor(1) as hand:
        pulled = hand.submit(lab.power_off, before)
        watch_the_cut(show, requests, talk)
        pulled.result()
    views = pair.wait("a new active node", lambda seen: bool(active_of(seen)), 30)
    now_active = active_of(views)
    show.say(f"{now_active} is active: {views[now_active].get('reason')}")

    show.say(f"plugging {before} in again")
    boot_ns = time.monotonic_ns()
    lab.boot(before)
    views = pair.wait(f"the return of {before}", settled, 60)
    show.say(f"{before} is back and {views[before]['role']}; {active_of(views)} stays active")
    until_ns = time.monotonic_ns() + AFTER_S * 1_000_000_000
    while time.monotonic_ns() < until_ns:
        views = pair.look()
    seen = {
        "active_before": before,
        "active_after": now_active,
        "returned_as": str(views[before].get("role", "")),
        "profile": str(views[now_active].get("profile", "")),
    }
    return Moments(begun_ns, cut_ns, boot_ns, time.monotonic_ns()), seen


def forwarded_by_both(watch: Watch, before: str, now_active: str, boot_ns: int) -> int:
    """Packets that the deposed node still delivered when the new one had begun."""
    frames = [frame for frame in watch.delivered() if frame.at_ns < boot_ns]
    late = after(frames, before, now_active)
    returned = [f for f in watch.delivered() if f.at_ns >= boot_ns and f.node == before]
    return len(late) + len(returned)


def demonstrate(lab: Lab, show: Show) -> Report:
    """Everything between the lab's coming up and its going down."""
    pair = Pair(lab)
    show.say("deploying the pair with playbooks/site.yml")
    deploy_s = deploy(lab.inventory, BUILD / "site.log")
    show.say(f"deployed in {deploy_s:.1f} s; waiting until the spare is ready")
    pair.wait("a ready pair", settled, 60)
    client, server = lab.host("client"), lab.host("server")
    target = address("server", "wan").partition("/")[0]
    packets = BUILD / "packets.json"
    with ExitStack() as stack:
        stack.enter_context(driver.echo(server))
        watch = Watch(lab.switch, ["client-lan", "server-wan"], (0x0800,))
        with watch:
            requests = stack.enter_context(driver.udp(client, target, packets=packets))
            talk = stack.enter_context(driver.tcp(client, target, connections=CONNECTIONS))
            show.say(f"traffic through the NAT: 1 kHz UDP, {CONNECTIONS} TCP connections")
            moments, seen = under_traffic(lab, pair, show, requests, talk)
            talked, asked = talk.finish(), requests.finish()
    rows = json.loads(packets.read_text())
    both = forwarded_by_both(watch, seen["active_before"], seen["active_after"], moments.boot_ns)
    return Report(
        silence_ms=silence_between(rows, moments.begun_ns, moments.ended_ns),
        packets_lost=lost_between(rows, moments.begun_ns, moments.ended_ns),
        connections=talked["connections"],
        connections_survived=talked["connections_survived"],
        needless_switches=len(pair.reigns) - 2,
        packets_lost_on_return=lost_between(rows, moments.boot_ns, moments.ended_ns),
        packets_forwarded_by_both=both,
        packets_sent=asked["sent"],
        deploy_s=round(deploy_s, 1),
        connections_lost=talked["lost"],
        **seen,
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--prefix", default="", help="use the lab of this name")
    parser.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    return parser.parse_args()


def main() -> int:
    """Show it, write it down, and judge it."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_details: sys.exit(143))
    show = Show()
    report_file: Path = BUILD / "report.json"
    report_file.unlink(missing_ok=True)
    try:
        with the_lab(asked.prefix, asked.keep, show) as lab:
            report = demonstrate(lab, show)
    except (DemoError, LabError, driver.ProbeError) as problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 2 if isinstance(problem, BadRequest) else 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    report.write(report_file)
    print(report.table())
    print(f"report: {report_file.relative_to(ROOT)}")
    shortcomings = report.shortcomings()
    for sentence in shortcomings:
        print(f"demo: {sentence}", file=sys.stderr)
    return 1 if shortcomings else 0


if __name__ == "__main__":
    sys.exit(main())
