# SPDX-License-Identifier: GPL-3.0-or-later
"""One drill, run as an operator runs it, and what disturbs it in the middle.

The campaign enters with the lab of a pair. Each way returns one line of facts; whether the pair is
whole afterwards is asked elsewhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.drills import wire
from tests.integration import steps
from tests.integration.deployment import varied
from tests.lab import Lab, stalls
from tests.lab.plan import NODES, ROOT
from tests.probes import driver

PLAYBOOK = ROOT / ".venv/bin/ansible-playbook"
CONFIRMED = ("-e", "drill_confirm_power=true", "-e", "drill_confirm_isolate=true")
PORT, OWN_PORT, EVERY_NS = 7000, 7100, 1_000_000
RUN_S_MAX = 420
LASTS_S = 3
UNDO_S = LASTS_S + 10
READY_S = 60
SHARED = "10.20.1.1"
# The lines of a drill's progress at which it is disturbed, by turns; the second for a drill that
# moves no role and so hands none back.
MIDDLES = ("the fault lasts", "now: ", "undoing the fault", "handing back")
UNMOVED = ("link", "isolate", "sync_cut")
TWICE_AFTER_S = (0.0, 4.0, 7.0, 10.0)
HEALED_S = (20.0, 4.0)
REFUSED_S = 3.0
REFUSED = "Another drill of this pair is under way"


class Controller:
    """A running ansible-playbook, a process group of its own, whose words are read as they come."""

    def __init__(self, lab: Lab, kind: str, *words: str) -> None:
        command = [str(PLAYBOOK), "-i", str(lab.inventory), "playbooks/drill.yml"]
        self.process = subprocess.Popen(
            [*command, "-e", f"drill={kind}", *CONFIRMED, *words], cwd=ROOT,
            env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def reaches(self, text: str, seconds: float = 120) -> bool:
        """Wait until it says something; false if it ended without."""
        deadline = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def signal(self, number: signal.Signals) -> None:
        """What a terminal sends goes to the whole group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def end(self, seconds: float = RUN_S_MAX) -> int:
        """Its exit code; it is killed, and -9 said, when it does not end in time."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            code = self.process.wait()
        self._reader.join(10)
        return code

    def said(self, count: int = 25) -> str:
        """The end of what it said."""
        return "".join(self.lines[-count:])


def middle(kind: str, number: int) -> str:
    """Where the run of this number is disturbed."""
    word = MIDDLES[number % len(MIDDLES)]
    return "traffic after the fault" if kind in UNMOVED and word == "handing back" else word


def measured(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """A drill from begin to end, beside an independent probe and a recording of the wire."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        packets = folder / "packets.json"
        watch = stack.enter_context(lab.watch())
        stack.enter_context(stalls.watching(folder / stalls.LOG, beat_ms=1, stall_ms=2))
        if kind == "isolate" and number % 2 == 0:
            # A host that follows no announcement: so both nodes have traffic to pass.
            client, holder = lab.host("client"), steps.active(lab)
            client.pin_neighbour(SHARED, lab.mac(holder, "lan"))
            stack.callback(client.unpin_neighbour, SHARED)
        stack.enter_context(driver.echo(lab.host("server"), udp_port=OWN_PORT, tcp_port=0))
        probe = stack.enter_context(
            driver.udp(lab.host("client"), steps.SERVER, port=OWN_PORT, packets=packets)
        )
        words = ["-e", f"drill_report={folder}", "-e", f"drill_seconds={LASTS_S}"]
        controller = Controller(lab, kind, *words, "-e", f"drill_drift={number == 1}")
        code = controller.end()
        probe.finish()
        rows = json.loads(packets.read_text())
        path = folder / "report.json"
        report = json.loads(path.read_text()) if path.exists() else {}
        stalled_ms = max(stalls.all_ms(folder / stalls.LOG), default=0.0)
    found: dict[str, Any] = {"code": code, "problems": [], "stalled_ms": stalled_ms}
    if code != 0 or not report.get("drills"):
        found["problems"].append(f"the drill ended with {code}")
        found["said"] = controller.said()
    if report.get("drills"):
        found.update(beside(report["drills"][0], watch.delivered(), watch.frames, rows))
    return found


def beside(
    run: dict[str, Any], delivered: list[Any], frames: list[Any], rows: list[list[int]]
) -> dict[str, Any]:
    """What the report says, what the wire and the probe say, and the largest difference."""
    names = {"udp through the NAT": 4, "udp over IPv6": 6}
    flows = run["measured"]["flows"]
    said = {flow["name"]: flow["silence_ms"] for flow in flows if flow["name"] in names}
    seen, window = {}, (0, 0)
    for name, version in names.items():
        asked, answered = wire.udp_flow(frames, version, PORT)
        seen[name] = wire.silence_ms(asked, answered, EVERY_NS)
        window = (asked[0], max(asked[-1], answered[-1])) if version == 4 else window
    asked = wire.within([sent for _number, sent, _answered in rows], *window)
    answered = wire.within([at for _number, _sent, at in rows if at], *window)
    own = wire.silence_ms(asked, answered, EVERY_NS)
    both = wire.dual_active_ms([f for f in delivered if window[0] <= f.at_ns <= window[1]], NODES)
    return {
        "report_ms": said,
        "wire_ms": seen,
        "probe_ms": own,
        "difference_ms": round(max(abs(said.get(name, -1) - seen[name]) for name in names), 1),
        "probe_difference_ms": round(abs(said.get("udp through the NAT", -1) - own), 1),
        "dual_ms": run["measured"]["dual_active_ms"],
        "wire_dual_ms": both,
        "dual_difference_ms": round(abs((run["measured"]["dual_active_ms"] or 0) - both), 1),
        "lost": run["measured"]["lost"],
        "connections_lost": run["measured"]["connections_lost"],
        "failed_checks": [check["sentence"] for check in run["checks"] if not check["ok"]],
    }


def disturbed(
    lab: Lab, kind: str, number: int, disturb: Callable[[Controller], int]
) -> dict[str, Any]:
    """A drill that something happens to in the middle."""
    controller = Controller(lab, kind, "-e", f"drill_seconds={LASTS_S}", "-e", "drill_drift=false")
    at = middle(kind, number)
    found: dict[str, Any] = {"middle": at, "problems": []}
    if not controller.reaches(at):
        found["problems"].append(f"it never came to: {at}")
    found["code"] = disturb(controller)
    if found["problems"]:
        found["said"] = controller.said()
    found["end"] = controller.said(6 if found["code"] == 0 else 25)
    return found


def killed(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """The controller is killed with its whole process group."""

    def kill(controller: Controller) -> int:
        controller.signal(signal.SIGKILL)
        return controller.end()

    return disturbed(lab, kind, number, kill)


def interrupted(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """Ctrl-C; every other time a second one follows."""

    def interrupt(controller: Controller) -> int:
        controller.signal(signal.SIGINT)
        if number % 2 == 0:
            time.sleep(0.5)
            controller.signal(signal.SIGINT)
        return controller.end(120)

    return disturbed(lab, kind, number, interrupt)


def cut(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """Nothing passes between controller and nodes for some time, the carrier unchanged."""

    def separate(controller: Controller) -> int:
        try:
            for node in NODES:
                if lab.node(node).leader():
                    lab.silence(node, "mgmt")
            time.sleep(HEALED_S[number % len(HEALED_S)])
        finally:
            for node in NODES:
                if lab.node(node).leader():
                    lab.restore(node, "mgmt")
        return controller.end(240)

    return disturbed(lab, kind, number, separate)


def twice(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """Two drills at once or soon after one another; one of them must be refused for the other."""
    words = ("-e", f"drill_seconds={LASTS_S}")
    first = Controller(lab, kind, *words)
    time.sleep(TWICE_AFTER_S[number % len(TWICE_AFTER_S)])
    second = Controller(lab, kind, *words)
    codes = sorted((first.end(), second.end()))
    refused = [c for c in (first, second) if REFUSED in "".join(c.lines)]
    found: dict[str, Any] = {"code": codes, "problems": []}
    if codes != [0, 2] or len(refused) != 1:
        found["problems"].append(f"exit codes {codes}, {len(refused)} of 2 refused for the other")
        found["said"] = first.said() + "-- the second:\n" + second.said()
    return found


def refusing(lab: Lab, kind: str, number: int) -> dict[str, Any]:
    """The undoing fails at first: the drill must say so, and what is armed must undo it later."""
    del number
    words = ["-e", f"drill_seconds={LASTS_S}", "-e", "drill_drift=false"]
    if kind == "power":
        flag = lab.inventory.with_name("deaf")
        flag.unlink(missing_ok=True)
        deaf = f"[ -e {flag} ] || {{ touch {flag}; echo the rack is deaf >&2; exit 1; }}; "

        def deafen(hosts: dict[str, Any], _cluster: dict[str, Any]) -> None:
            for theirs in hosts.values():
                theirs["ha_power_on_command"] = deaf + theirs["ha_power_on_command"]

        words += ["-i", str(varied(lab, "deaf", deafen))]
    controller = Controller(lab, kind, *words)
    found: dict[str, Any] = {"problems": []}
    if kind in TOOLS:
        tool = TOOLS[kind]
        if not controller.reaches("the fault lasts"):
            found["problems"].append("it never came to the fault")
        for node in NODES:
            lab.node(node).run(["mv", tool, f"{tool}.away"])
        try:
            # Back in time for the timer, which fires 10 s after the drill should have undone it.
            controller.reaches("undoing the fault")
            time.sleep(REFUSED_S)
        finally:
            for node in NODES:
                lab.node(node).run(["mv", f"{tool}.away", tool])
    found["code"] = controller.end()
    if found["code"] != 2 or "is not undone" not in "".join(controller.lines):
        found["problems"].append("it did not say that its fault is not undone")
        found["said"] = controller.said()
    return found


# What undoes these faults, and can be away for a while without anything else that needs it.
TOOLS = {"isolate": "/usr/sbin/nft", "sync_cut": "/usr/sbin/nft", "link": "/usr/bin/ip"}
# What lasts no longer than a moment, and a stopped heart, cannot be refused their end here.
IMPOSSIBLE = {"refusing": ("switchover", "crash", "hang")}
WAYS: dict[str, Callable[[Lab, str, int], dict[str, Any]]] = {
    "whole": measured,
    "killed": killed,
    "interrupted": interrupted,
    "cut": cut,
    "twice": twice,
    "refusing": refusing,
}
