# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the active node, and how it is undone. The same for every contender.

A fault knows the lab and the contender's processes, never its words. Each one can be undone on a
node in any state, also when the cell that made it has failed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.lab import Lab
from tests.lab.machine import Machine
from tests.lab.plan import NETWORKS, NODES, node_wires, wire_of

from .contenders import BenchError, Contender, must

DEAF_TABLE = "netdev deaf"
Work = Callable[[Lab, Contender, str], None]


@dataclass(frozen=True)
class Fault:
    """One fault; ``least_s`` is how long it lasts at least before it is undone."""

    name: str
    label: str
    inject: Work
    undo: Work
    repetitions: int = 5
    least_s: float = 1.5
    most_s: float = 8
    after_s: float = 3
    """How long the pair is watched after the fault was undone."""
    pins: bool = False
    """Whether a host keeps sending to the node that was active."""
    connections: int = 200
    entries: int = 0
    """Entries that both tables hold before the fault, beside the traffic's own."""

    @property
    def cuts_power(self) -> bool:
        """Whether the node is gone, and comes back as another boot."""
        return self.inject is cut_power


def signal_all(processes: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def nothing(_lab: Lab, _contender: Contender, _node: str) -> None:
    """There is nothing to undo."""


def cut_power(lab: Lab, _contender: Contender, node: str) -> None:
    """All ports silent, everything killed."""
    lab.power_off(node)


def boot(lab: Lab, contender: Contender, node: str) -> None:
    """The node comes back, and its contender is started as at a boot."""
    lab.boot(node)
    machine = lab.node(node)
    must(machine, "systemctl", "start", "amaranten-ha-ruleset.service")
    contender.start_node(machine)


def switch_over(lab: Lab, contender: Contender, node: str) -> None:
    """The planned switch."""
    contender.switchover(lab, node)


def start_again(lab: Lab, contender: Contender, node: str) -> None:
    """Whatever was stopped or killed runs again."""
    contender.start_node(lab.node(node))


def stop_agent(lab: Lab, contender: Contender, node: str) -> None:
    """SIGSTOP to every process that decides about the role."""
    signal_all(_agents(lab, contender, node), signal.SIGSTOP)


def continue_agent(lab: Lab, contender: Contender, node: str) -> None:
    """SIGCONT to the same."""
    signal_all(contender.agents(lab, node), signal.SIGCONT)


def kill_agent(lab: Lab, contender: Contender, node: str) -> None:
    """SIGKILL to every process that decides about the role."""
    signal_all(_agents(lab, contender, node), signal.SIGKILL)


def _agents(lab: Lab, contender: Contender, node: str) -> list[int]:
    found = contender.agents(lab, node)
    if not found:
        raise BenchError(f"{contender.name} has no agent on {node}")
    return found


def pull_lan(lab: Lab, _contender: Contender, node: str) -> None:
    """The carrier of lan goes."""
    lab.cut(node, "lan")


def plug_lan(lab: Lab, _contender: Contender, node: str) -> None:
    """It comes back."""
    lab.restore(node, "lan")


def part(lab: Lab, _contender: Contender, _node: str) -> None:
    """The nodes hear nothing of each other; everybody else hears both."""
    lines = [f"add table {DEAF_TABLE}\n"]
    for node in NODES:
        other = next(name for name in NODES if name != node)
        for network in NETWORKS:
            port, mac = wire_of(node, network).port, wire_of(other, network).mac
            lines.append(
                f"add chain {DEAF_TABLE} {port} {{ type filter hook egress "
                f'device "{port}" priority -400; }}\n'
                f"add rule {DEAF_TABLE} {port} ether saddr {mac} drop\n"
            )
    lab.wires.nft("".join(lines))


def join(lab: Lab, _contender: Contender, _node: str) -> None:
    """They hear each other again."""
    lab.wires.nft(f"add table {DEAF_TABLE}\ndelete table {DEAF_TABLE}\n")


def freeze(machine: Machine, frozen: bool) -> None:
    """Stop or go on with every process of a node, as its hypervisor would."""
    (machine.cgroup / "cgroup.freeze").write_text("1" if frozen else "0")
    deadline = time.monotonic() + 5
    wanted = f"frozen {int(frozen)}"
    while wanted not in (machine.cgroup / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise BenchError(f"{machine.name}: not '{wanted}' within 5 s")
        time.sleep(0.002)


def pause(lab: Lab, _contender: Contender, node: str) -> None:
    """The machine stops: its kernel says nothing more and its processes do not run."""
    lab.wires.silence(*node_wires(node))
    freeze(lab.node(node), True)


def resume(lab: Lab, _contender: Contender, node: str) -> None:
    """It goes on; its kernel first, which is the harder case."""
    lab.wires.restore(*node_wires(node))
    freeze(lab.node(node), False)


FAULTS = (
    Fault("power", "power loss", cut_power, boot, repetitions=20, after_s=4),
    Fault("switchover", "switchover", switch_over, start_again, repetitions=20),
    Fault("sigstop", "SIGSTOP of the agent", stop_agent, continue_agent, least_s=4, pins=True),
    Fault("sigkill", "SIGKILL of the agent", kill_agent, start_again, least_s=4, pins=True),
    Fault("cable", "lan cable pulled", pull_lan, plug_lan, least_s=4, most_s=6),
    Fault("partition", "deaf to each other", part, join, least_s=5, most_s=5, pins=True),
    Fault("pause", "machine paused", pause, resume, least_s=5, most_s=5, pins=True),
    Fault(
        "power-2000",
        "power loss, 2 000 connections",
        cut_power,
        boot,
        repetitions=20,
        connections=2000,
    ),
    Fault("power-200k", "power loss, 200 000 entries", cut_power, boot, entries=200_000),
)
BY_NAME = {each.name: each for each in FAULTS}
