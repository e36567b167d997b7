# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of real hearts, with gate and stage, in two network namespaces joined by cables.

Or by switches, one for each link, in a namespace of their own: there a cable can be moved.

Tests of heart and the soak enter. There is no systemd: the services are started here, in the units'
order, and end with this process. A mount namespace of their own keeps heart's `systemctl` from the
machine's. Names begin with a prefix and this process's id; what a killed run left is removed first.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gate_bench import KEYS, SOURCE, batch, run, until

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.io.desk import ask

PREFIX = "hp"
LINKS = ("lan", "sync")
DOOR = str(SOURCE / "amaranten_ha" / "__main__.py")
DIGESTS = f'config = "{"1" * 16}"\nruleset = "{"2" * 16}"\n'
_DETACHED = (
    "mount --bind /bin/true /usr/bin/systemctl 2>/dev/null || true;"
    ' exec nsenter --net="$0" sh -c \'date +%s%N >"$0"; exec "$@"\' "$@"'
)
_HEAD = """
[cluster]
id = {cluster}
name = "soak"
profile = "{profile}"
[node]
name = "fw-{own}"
number = {number}
[peer]
name = "fw-{peer}"
number = {peer_number}
[replication]
port = 6780
[network]
gateways = []
"""
_LINK = """
[[interface]]
name = "{name}"
link = {link}
role = "{role}"
device = "{name}0"
own = ["10.{net}.{link}.{number}/24"]
peer_own = ["10.{net}.{link}.{peer_number}/24"]
shared = [{shared}]
"""


def changes_in(log: str) -> list[str]:
    """Return the changes of role that heart told in its log."""
    return re.findall(r"^.* -> .*: .* \(epoch \d+\)$", log, re.MULTILINE)


class Node:
    """One node: its namespace, its files, its services."""

    def __init__(
        self,
        number: int,
        namespace: str,
        folder: Path,
        cluster: int,
        profile: str,
        links: Sequence[str] = LINKS,
    ) -> None:
        self.number, self.namespace, self.folder = number, namespace, folder
        self.name = f"fw-{'ab'[number - 1]}"
        self.cluster, self.links = cluster, links
        self.program = [DOOR]
        """What heart is started by, with its arguments; the other services come by the door."""
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "heart.sock"
        self.log = folder / "heart.log"
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.configure(profile)
        (folder / "keys.toml").write_text(KEYS)
        (folder / "digests.toml").write_text(DIGESTS)

    def configure(self, profile: str) -> None:
        """Write the configuration."""
        peer = 3 - self.number
        text = _HEAD.format(
            cluster=self.cluster, profile=profile, own="ab"[self.number - 1], number=self.number,
            peer="ab"[peer - 1], peer_number=peer,
        )  # fmt: skip
        for link, name in enumerate(self.links, 1):
            text += _LINK.format(
                name=name, link=link, net=71, number=self.number, peer_number=peer,
                role="sync" if name == "sync" else "service",
                shared="" if name == "sync" else f'"10.71.{link}.100/24"',
            )  # fmt: skip
        (self.folder / "agent.toml").write_text(text)

    def start(self, service: str, *more: str) -> subprocess.Popen[bytes]:
        """Start a service; its words go to a log of its own."""
        folder = self.folder
        program = self.program if service == "heart" else [DOOR]
        command = [sys.executable, "-I", *program, service]
        command += ["--config", str(folder / "agent.toml"), "--keys", str(folder / "keys.toml")]
        if service == "heart":
            command += ["--digests", str(folder / "digests.toml"), "--socket", str(self.socket)]
            command += ["--epoch", str(folder / "epoch.json")]
        urgent = ["nice", "-n", "-20"] if service == "heart" else []  # as its unit has it
        with (folder / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [*urgent, "setpriv", "--pdeathsig", "KILL", "unshare", "--mount"]
                + ["sh", "-c", _DETACHED]
                + [
                    f"/run/netns/{self.namespace}",
                    str(folder / f"{service}.began"),
                    *command,
                    *more,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        self.services[service] = process
        return process

    def stage(self) -> None:
        """Run the stage to its end."""
        code = self.start("stage").wait(30)
        assert code == 0, (self.folder / "stage.log").read_text()

    def up(self) -> None:
        """Start all services, in the order of the units; the gate is waited for by the stage."""
        self.start("gate")
        self.stage()
        self.start("heart")

    def restart_heart(self) -> None:
        """Do as systemd does after heart has ended: stage, then heart."""
        self.stage()
        self.start("heart")

    def signal(self, number: signal.Signals, service: str = "heart") -> None:
        """Send a signal to a service."""
        self.services[service].send_signal(number)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask heart as the operator's tool does."""
        return ask(self.socket, request, 3.0)

    def status(self) -> dict[str, Any]:
        """Return heart's status; empty while it cannot be asked."""
        try:
            return self.ask({"op": "status"})
        except KernelRefused:
            return {}

    @property
    def role(self) -> str:
        """The role, empty while heart cannot be asked."""
        return str(self.status().get("role", ""))

    def cpu_ticks(self, service: str = "heart") -> int:
        """Processor time of a service so far, in clock ticks."""
        stat = Path(f"/proc/{self.services[service].pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return int(user) + int(system)

    def changes(self) -> list[str]:
        """Every change of role that heart has told, in its own words."""
        return changes_in(self.log.read_text() if self.log.exists() else "")

    def end(self) -> None:
        """Kill all services."""
        for process in self.services.values():
            if process.poll() is None:
                process.kill()
        for process in self.services.values():
            process.wait(10)


class Pair:
    """Both nodes and the cables between them."""

    def __init__(
        self,
        folder: Path,
        profile: str = "virtual",
        number: int = 0,
        links: Sequence[str] = LINKS,
        switched: bool = False,
    ) -> None:
        base = f"{PREFIX}{os.getpid()}n{number}"
        self.a, self.b = (
            Node(index, f"{base}{letter}", folder / letter, 7 + number, profile, links)
            for index, letter in ((1, "a"), (2, "b"))
        )
        self.nodes = (self.a, self.b)
        self.links, self.switches = links, f"{base}s" if switched else ""

    def wire(self) -> None:
        """Make the namespaces and cables."""
        batch(*(f"netns add {name}" for name in self._namespaces()))
        a, b = self.a.namespace, self.b.namespace
        for name in self.links:
            if self.switches:
                self._switch(name)
            else:
                batch(f"link add {name}0 type veth peer name {name}0 netns {b}", namespace=a)
        for node in self.nodes:
            lines = ["link set lo up"]
            for link, name in enumerate(self.links, 1):
                address = f"10.71.{link}.{node.number}/24"
                lines += [f"link set {name}0 up", f"addr add {address} dev {name}0"]
            batch(*lines, namespace=node.namespace)

    def _namespaces(self) -> list[str]:
        names = [node.namespace for node in self.nodes]
        return [*names, self.switches] if self.switches else names

    def _switch(self, link: str) -> None:
        lines = [f"link add {link} type bridge", f"link set {link} up"]
        for node in self.nodes:
            port = f"{link}{node.number}"
            lines += [
                f"link add {port} type veth peer name {link}0 netns {node.namespace}",
                f"link set {port} master {link}",
                f"link set {port} up",
            ]
        batch(*lines, namespace=self.switches)

    def plug(self, node: Node, link: str, switch: str) -> None:
        """Put the cable of a node's interface into the switch of another one."""
        batch(f"link set {link}{node.number} master {switch}", namespace=self.switches)

    def up(self) -> None:
        """Make everything and wait until one is active and the other one passive."""
        self.wire()
        for node in self.nodes:
            node.start("gate")
        for node in self.nodes:
            node.stage()
            node.start("heart")
        until(self.settled, "one node is active, the other one passive", 20)

    def settled(self) -> bool:
        """Say whether one is active and the other one passive."""
        return sorted(node.role for node in self.nodes) == ["active", "passive"]

    @property
    def active(self) -> Node:
        """The node that is active."""
        return next(node for node in self.nodes if node.role == "active")

    @property
    def passive(self) -> Node:
        """The node that is passive."""
        return next(node for node in self.nodes if node.role == "passive")

    def down(self) -> None:
        """Remove everything, in any state."""
        for node in self.nodes:
            node.end()
        for name in self._namespaces():
            run("ip", "netns", "del", name, check=False)


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    for line in run("ip", "netns", "list").stdout.splitlines():
        left = re.match(rf"{PREFIX}(\d+)n", line)
        if left and not Path(f"/proc/{left[1]}").exists():
            run("ip", "netns", "del", line.split()[0])


@contextlib.contextmanager
def running_pair(
    folder: Path,
    profile: str = "virtual",
    program: Sequence[str] = (DOOR,),
    links: Sequence[str] = LINKS,
    switched: bool = False,
) -> Iterator[Pair]:
    """A pair that is settled; everything is removed afterwards."""
    remove_leftovers()
    pair = Pair(folder, profile, links=links, switched=switched)
    for node in pair.nodes:
        node.program = [*program]
    try:
        pair.up()
        yield pair
    finally:
        pair.down()
