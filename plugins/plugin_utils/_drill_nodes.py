# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The two nodes as a drill handles them: asked, watched, broken on purpose, and healed.

The run enters.  Whatever breaks a node for longer than a moment goes through `Fault`, which arms
the timer that undoes it before it does it, and undoes it itself when it is left in whatever way.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import time
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils import _drill_catalogue as catalogue
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_catalogue import (
    Device,
    Drill,
    Target,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_program import (
    BrokenOffError,
    DrillError,
    Program,
    clock_offset_ns,
    under_way,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._drill_sessions import (
    AnySession,
    SshSession,
    open_session,
    run,
)

TOOL = "/usr/sbin/amaranten-ha"
LOCK = "/run/amaranten-ha-drill.lock"
# The lock of a node ends this long after the last sign of life, when the path to it is cut.
UNHEARD_S, SIGN_S = 15, 1.0
# The timer that undoes a fault fires this long after the controller should have done it.
UNDO_SPARE_S = 10
# How long a command that gives or takes the power may go on after the drill was broken off.
COMMAND_S = 60
# Without a sync, as when the power fails.
RESET = "echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger"


class DrillNode:
    """One node of the pair."""

    def __init__(self, name: str, variables: t.Mapping[str, t.Any], python: str) -> None:
        self.name = name
        self._variables = variables
        self._python = python
        self.session: AnySession = open_session(name, variables)
        self.watchers: list[tuple[Program, int]] = []
        """Each watcher with the offset of its clock: a node that rebooted has another one."""
        self.macs: dict[str, str] = {}
        self.error_ns = 0

    def status(self) -> dict[str, t.Any]:
        """What its agent says, or nothing."""
        try:
            code, said = run(self.session, f"{TOOL} status --json", 10)
        except DrillError:
            return {}
        try:
            found = json.loads(said) if code == 0 else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def run(self, command: str) -> str:
        """Run a command that must succeed; what it printed."""
        code, said = run(self.session, command)
        if code != 0:
            raise DrillError(f"`{command}` failed on {self.name}: {said or 'without a word'}.")
        return said

    def refuse_locked(self) -> None:
        """Raise DrillError if another drill holds this node."""
        code, said = run(
            self.session,
            f"[ ! -e {LOCK} ] || flock -n -E 3 {LOCK} true || "
            f"{{ code=$?; cat {LOCK}; exit $code; }}",
        )
        if code == 3:
            raise under_way(said)

    def look(self, status: t.Mapping[str, t.Any]) -> None:
        """Find the hardware addresses of its interfaces."""
        for name, link in status["links"].items():
            path = shlex.quote(f"/sys/class/net/{link['device']}/address")
            self.macs[name] = self.run(f"cat {path}")

    def watch(self, holder: str, lasts_s: float, seconds: float) -> None:
        """Have everything told that happens there, from now on; takes the lock of drills.

        A fault that cuts the way there for `lasts_s` does not end it; `seconds` are its bound.
        """
        offset_ns, self.error_ns = clock_offset_ns(self.session, self._python)
        unheard_s = str(lasts_s + UNHEARD_S)
        words = ("--seconds", f"{seconds:g}", "--unheard-seconds", unheard_s, "--holder", holder)
        watcher = Program(self.session, "node_watch.py", *words, python=self._python)
        self.watchers.append((watcher, offset_ns))
        watcher.wait_ready()
        watcher.keep_telling(SIGN_S)

    def watched_again(self, holder: str, lasts_s: float, seconds: float, timeout_s: float) -> None:
        """Wait until it answers and is watched, over a new session if the old one has ended.

        One that was only out of reach for a while may still be watched, and locked, by us.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            problem = DrillError(f"{self.name} does not answer.")
            try:
                gone = isinstance(self.session, SshSession) and not self.session.alive()
                if gone:
                    self.session.close()
                    self.session = open_session(self.name, self._variables)
                if gone or not self.watched:
                    self.watch(holder, lasts_s, seconds)
                    return
                if self.status():
                    return
            except DrillError as found:
                problem = found
            if time.monotonic() > deadline:
                raise problem
            time.sleep(1)

    @property
    def watched(self) -> bool:
        """Whether a watcher is at work there, as far as is known here."""
        return bool(self.watchers) and not self.watchers[-1][0].ended

    def in_container(self) -> bool:
        """Whether its kernel is not its own."""
        return run(self.session, "systemd-detect-virt --quiet --container")[0] == 0

    def command(self, key: str) -> str:
        """A command of the inventory that the controller runs for this node."""
        return str(self._variables.get(key, "") or "")

    def close(self) -> None:
        """End the watchers, which gives the lock back."""
        for watcher, _offset_ns in self.watchers:
            watcher.close()
        self.session.close()


class Fault:
    """A fault on a node, or on both, and its end."""

    def __init__(
        self,
        drill: Drill,
        nodes: t.Sequence[DrillNode],
        targets: t.Sequence[Target],
        lasts_s: float,
    ) -> None:
        self._drill = drill
        self._nodes = list(nodes)
        self._targets = list(targets)
        self._spare_s = round(lasts_s) + UNDO_SPARE_S
        self._guard: t.IO[bytes] | None = None
        self._begun: list[tuple[DrillNode, Target]] = []

    def check(self) -> None:
        """Refuse what cannot be undone, before anything is touched."""
        if self._drill.name != "power":
            return
        node = self._nodes[0]
        off, on = node.command("ha_power_off_command"), node.command("ha_power_on_command")
        if off and not on:
            raise DrillError(
                f"ha_power_on_command is missing for {node.name}, expected the command that gives "
                "the power back which ha_power_off_command takes."
            )
        if not off and node.in_container():
            raise DrillError(
                f"{node.name} is a container, where a reset by sysrq would hit its host, expected "
                "ha_power_off_command and ha_power_on_command."
            )

    def begin(self) -> int:
        """Break it; the moment just before, on our clock."""
        drill = self._drill
        for node, target in zip(self._nodes, self._targets, strict=True):
            if drill.undo:
                node.run(catalogue.armed(drill.undo(target), self._spare_s))
        if drill.name == "power":
            return self._power_off(self._nodes[0])
        at_ns = time.monotonic_ns()
        for node, target in zip(self._nodes, self._targets, strict=True):
            self._begun.append((node, target))
            if drill.inject:
                node.run(drill.inject(target))
        return at_ns

    def _power_off(self, node: DrillNode) -> int:
        off, on = node.command("ha_power_off_command"), node.command("ha_power_on_command")
        if not off:
            at_ns = time.monotonic_ns()
            node.session.start(f"/bin/sh -c {shlex.quote(RESET)}")
            return at_ns
        self._guard = guard(on, self._spare_s)
        at_ns = time.monotonic_ns()
        self._begun.append((node, self._targets[0]))
        controller(off, "ha_power_off_command")
        return at_ns

    def unproven(self) -> list[str] | None:
        """What speaks against its having worked; None where the moving role is the proof."""
        if self._drill.proof is None:
            return None
        problems = []
        for node, target in self._begun:
            try:
                code, said = run(node.session, self._drill.proof(target), 10)
            except DrillError as problem:
                code, said = 1, str(problem)
            if code != 0:
                said = " ".join(said.split()) or "without a word"
                problems.append(f"it is not seen to work on {node.name}: {said}")
        return problems

    def end(self) -> list[str]:
        """Undo it; what could not be undone from here, in sentences."""
        problems = []
        for node, target in self._begun:
            try:
                if self._drill.name == "power":
                    self._power_on(node)
                elif self._drill.undo:
                    node.run(catalogue.healed(self._drill.undo(target)))
            except DrillError as problem:
                problems.append(
                    f"The fault of {node.name} is not undone: {problem} It is tried once more, "
                    f"{self._spare_s} s after it began."
                )
        self._begun = []
        return problems

    def _power_on(self, node: DrillNode) -> None:
        if self._guard is not None:
            controller(node.command("ha_power_on_command"), "ha_power_on_command")
            with contextlib.suppress(OSError):  # its time was over, it has ended
                self._guard.write(b"off")
                self._guard.close()


def guard(command: str, seconds: int) -> t.IO[bytes]:
    """Have a command run after that time unless a byte is written here before it.

    A process of its own session and of no parent here does it, so that it also outlives a
    controller that is killed with all its children; then the time is UNDO_SPARE_S from there,
    for a command that is still cutting the power.
    """
    watch = (
        f"said=$(timeout {seconds} head -c 1); code=$?; "
        'if [ -n "$said" ]; then exit; fi; '
        f'if [ "$code" != 124 ]; then sleep {UNDO_SPARE_S}; fi; {command}'
    )
    process = subprocess.Popen(
        ["setsid", "--fork", "/bin/sh", "-c", watch],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0,
    )  # fmt: skip
    process.wait()
    return t.cast(t.IO[bytes], process.stdin)


def controller(command: str, name: str) -> None:
    """Run a command of the inventory on the controller.

    A drill that is broken off meanwhile lets it come to its end: power is not to be cut by half.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        errors = process.communicate()[1]
    except BrokenOffError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=COMMAND_S)
        raise
    if process.returncode != 0:
        said = errors.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"exit code {process.returncode}"
        raise DrillError(f"{name} failed: {why}.")


def targets_of(
    drill: Drill, nodes: t.Mapping[str, DrillNode], status: t.Mapping[str, t.Any], interface: str
) -> tuple[list[DrillNode], list[Target]]:
    """The nodes that a drill breaks, and what its commands need to know of them."""
    active = next(name for name in nodes if status[name]["role"] == "active")
    passive = next(name for name in nodes if name != active)
    names = [active, passive] if drill.both_nodes else [active if drill.on == "active" else passive]
    found = []
    for name in names:
        peer = passive if name == active else active
        devices = tuple(
            Device(link, each["device"], nodes[peer].macs[link], each["role"] == "sync")
            for link, each in status[name]["links"].items()
        )
        found.append(Target(devices, interface))
    return [nodes[name] for name in names], found
