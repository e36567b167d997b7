# SPDX-License-Identifier: GPL-3.0-or-later
"""Who takes part: one class for ours, one for the others, and the list of all by name.

A contender is started on two clean nodes, asked who should be active, hurt, and stopped. Starting
and stopping are the same for all: their services are never enabled, the bench starts them, also
after a reboot. Nothing is measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.integration import steps
from tests.lab import Lab
from tests.lab.machine import Machine
from tests.lab.plan import FIREWALLED, NODES, shared_addresses, wire_of
from tests.lab.shell import run

READY_S = 40
CONFIGURATION = "/etc/amaranten-ha/agent.toml"
OUR_TABLE = "amaranten_ha"


class BenchError(Exception):
    """A cell cannot be measured; the sentence says what was in the way."""


def on_both(lab: Lab, work: Callable[[Machine], object]) -> None:
    """Do the same on both nodes at the same time."""
    with ThreadPoolExecutor(len(NODES)) as hands:
        list(hands.map(work, [lab.node(name) for name in NODES]))


def must(node: Machine, *words: str, timeout_s: float = 60) -> str:
    """Run a program that has to succeed; what it said."""
    done = node.run(list(words), timeout_s=timeout_s)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise BenchError(f"{node.name}: {' '.join(words)} exited with {done.returncode}: {said}")
    return done.stdout


def owners(lab: Lab) -> set[str]:
    """The nodes whose kernel owns lan's shared address now, whatever anybody says."""
    address = shared_addresses("lan")[0].partition("/")[0]
    found = set()
    for name in NODES:
        where = lab.plan.namespace(name)
        if not lab.plan.namespace_path(name).exists():
            continue
        if run(["ip", "-n", where, "-o", "address", "show", "to", address]).stdout.strip():
            found.add(name)
    return found


def processes_of(node: Machine, *units: str) -> list[int]:
    """Every process of some units of a node, by this machine's numbers."""
    found: list[int] = []
    for unit in units:
        group = node.cgroup / "payload/system.slice" / unit
        for file in (group, *group.glob("**/")) if group.exists() else ():
            try:
                found += [int(word) for word in (file / "cgroup.procs").read_text().split()]
            except FileNotFoundError:
                continue
    return sorted(set(found))


@dataclass(frozen=True)
class Contender:
    """What every contender has in common."""

    name: str
    label: str
    units: tuple[str, ...]
    """In the order in which they start."""
    agent_unit: str
    replication_units: tuple[str, ...]

    def configure(self, node: Machine) -> None:
        """Write this contender's files on one node."""
        raise NotImplementedError

    def settled(self, lab: Lab) -> bool:
        """Whether one node is active and the other would take over, replication included."""
        raise NotImplementedError

    def switchover(self, lab: Lab, active: str) -> None:
        """The planned switch, as its operators do it."""
        raise NotImplementedError

    def copied(self, lab: Lab, node: str) -> int:
        """How many connections a passive node holds a copy of."""
        return int(must(lab.node(node), "conntrack", "-C").split()[-1])

    def start_node(self, node: Machine) -> None:
        """Start it on one node, as after a boot."""
        must(node, "systemctl", "start", *self.units)

    def start(self, lab: Lab) -> str:
        """Start it on both nodes; the active node."""
        on_both(lab, self.configure)
        on_both(lab, self.start_node)
        return self.ready(lab)

    def ready(self, lab: Lab, seconds: float = READY_S) -> str:
        """Wait until it has settled; the active node."""
        deadline = time.monotonic() + seconds
        while not self.settled(lab):
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} has not settled within {seconds:g} s")
            time.sleep(0.2)
        return next(iter(owners(lab)))

    def agents(self, lab: Lab, node: str) -> list[int]:
        """The processes that decide about the role."""
        return processes_of(lab.node(node), self.agent_unit)

    def replicators(self, lab: Lab, node: str) -> list[int]:
        """The processes that replicate."""
        return processes_of(lab.node(node), *self.replication_units)

    def all_processes(self, lab: Lab, node: str) -> list[int]:
        """Everything that it runs on a node."""
        return processes_of(lab.node(node), *self.units)


OUR_UNITS = (steps.GATE, steps.HEART, steps.SYNC)
THEIR_UNITS = ("conntrackd.service", "keepalived.service")


@dataclass(frozen=True)
class Ours(Contender):
    """The product, in one of its profiles."""

    profile: str = "virtual"
    monitored: bool = False
    """Whether lan has `monitor: true`."""

    def configure(self, node: Machine) -> None:
        """The deployed configuration, with this profile."""
        monitor = "true" if self.monitored else "false"
        edits = (
            f's/^profile = .*/profile = "{self.profile}"/',
            f'/^name = "lan"$/,/^monitor = /s/^monitor = .*/monitor = {monitor}/',
        )
        must(node, "sed", "-i", "-e", edits[0], "-e", edits[1], CONFIGURATION)

    def settled(self, lab: Lab) -> bool:
        """As its own status says; the kernel's addresses must agree."""
        found = {name: steps.status(lab, name) for name in NODES}
        words = sorted(each.get("role", "off") for each in found.values())
        if words != ["active", "passive"] or not all(each["ready"] for each in found.values()):
            return False
        active = {name for name, each in found.items() if each["role"] == "active"}
        return owners(lab) == active

    def switchover(self, lab: Lab, active: str) -> None:
        """The operator's command."""
        must(lab.node(active), steps.TOOL, "switchover", "--reason", "bench")

    def saved_bytes(self, lab: Lab) -> int:
        """How many bytes compression has kept off the wire, as both services count."""
        found = [steps.status(lab, name)["sync"]["counters"] for name in NODES]
        return sum(int(each["bytes_saved"]) for each in found)

    def lateness_ms(self, lab: Lab) -> float:
        """How late a heart was at worst, since its start or within the last hour."""
        margin = steps.status(lab, NODES[0])["margin"]
        return max(float(each["late_ms"]) for each in margin["nodes"].values())


def clean(lab: Lab) -> None:
    """Stop whoever runs, and leave both nodes as if nobody ever had: no addresses, no entries."""
    for name in NODES:  # the passive one first would be better, but nobody may know which it is
        must(lab.node(name), "systemctl", "stop", "--no-block", *OUR_UNITS, *THEIR_UNITS)
    on_both(lab, _clean_node)
    left = owners(lab)
    if left:
        raise BenchError(f"{', '.join(left)} still owns the shared address after the cleaning")


def _clean_node(node: Machine) -> None:
    # A stopped process cannot hear its SIGTERM.
    for process in processes_of(node, *OUR_UNITS, *THEIR_UNITS):
        run(["kill", "-CONT", str(process)], check=False)
    must(node, "systemctl", "stop", *OUR_UNITS, *THEIR_UNITS, timeout_s=60)
    node.run(["systemctl", "reset-failed", *OUR_UNITS, *THEIR_UNITS])
    node.run(["nft", "delete", "table", "netdev", OUR_TABLE])
    must(node, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    for network in FIREWALLED:
        device = wire_of(node.name, network).device
        for address in shared_addresses(network):
            alone = address.partition("/")[0]
            for length in (address.partition("/")[2], "128" if ":" in address else "32"):
                node.run(["ip", "address", "delete", f"{alone}/{length}", "dev", device])
    must(node, "conntrack", "-F")


def wait_gone(lab: Lab, node: str, seconds: float = 10) -> None:
    """Wait until a node owns the shared address no more."""
    deadline = time.monotonic() + seconds
    while node in owners(lab):
        if time.monotonic() > deadline:
            raise BenchError(f"{node} still owns the shared address after {seconds:g} s")
        time.sleep(0.05)
