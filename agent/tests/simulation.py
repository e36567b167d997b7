# SPDX-License-Identifier: GPL-3.0-or-later
"""Two shipped engines in virtual time: machines, kernels and wires that fail apart from each other.

Tests enter with a world and a plan of faults. A simulated kernel keeps the lease and answers for
addresses as the real gate does; heart can be stopped, killed or late while its kernel lives on.
One step is half a millisecond; nothing here is random, so every run is the same.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from amaranten_ha.core.announcer import Announcer
from amaranten_ha.core.beat import Kind, Replica, ReplicaState, Role
from amaranten_ha.core.node import Node
from amaranten_ha.core.orders import Resume, restart
from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.role import Action
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.timing import MS_NS, PROFILES

STEP_NS = MS_NS // 2
WIRE_NS = MS_NS // 4
LINK_NAMES = ("dmz", "lan", "sync", "wan")
GATEWAY = ipaddress.ip_address("10.4.0.254")
"""A third party on wan; it answers only in a world that has it."""
RING = KeyRing({1: bytes(range(32))}, 1)
_HOLDERS = (Role.ACTIVE, Role.HANDING_OVER)


def plan(
    number: int, profile: str = "virtual", ring: KeyRing = RING, gateways: bool = False
) -> NodePlan:
    """Return the plan of one of the two nodes of the example pair; all links are monitored."""
    peer = 3 - number
    links = []
    for link, name in enumerate(LINK_NAMES, start=1):
        shared = (ipaddress.ip_address(f"10.{link}.0.100"),) if name != "sync" else ()
        links.append(
            LinkPlan(
                link,
                name,
                name != "sync",
                own=(ipaddress.ip_address(f"10.{link}.0.{number}"),),
                peer_own=(ipaddress.ip_address(f"10.{link}.0.{peer}"),),
                shared=shared,
                gateways=(GATEWAY,) if gateways and name == "wan" else (),
                monitor=True,
            )
        )
    names = {1: "fw-a", 2: "fw-b"}
    return NodePlan(
        7, names[number], number, names[peer], peer, tuple(links), PROFILES[profile], ring
    )


@dataclass
class Machine:
    """One machine: a kernel that keeps a lease, and a heart that may be stopped or gone."""

    number: int
    profile: str = "virtual"
    powered: bool = True
    heart: Node | None = None
    stopped: bool = False
    addresses_on: bool = False
    lease_until_ns: int = 0
    voice_until_ns: int = 0
    last_active: int = 0
    epoch: int = 0
    no_carrier: bool = False
    """No link of this machine has carrier."""
    fault: str = ""
    """What heart would read of its kernel that makes it unfit."""
    resume: Resume | None = None
    """What an announced restart left to the next life of heart."""
    starts_ns: int = 0
    inbox: list[tuple[int, int, str, object]] = field(default_factory=list)
    announced_ns: int = 0
    announcer: Announcer = field(default_factory=Announcer)
    beat_due_ns: int = 0
    beat_ns: int = 0
    planned_ns: int = 0
    sessions: int = 0
    log: list[tuple[int, str]] = field(default_factory=list)
    news: list[tuple[str, str]] = field(default_factory=list)

    @property
    def mac(self) -> bytes:
        """The hardware address, the same on all links."""
        return bytes([2, 0, 0, 0, 0, self.number])

    @property
    def role(self) -> Role | None:
        """The role of the heart that runs here, if one does."""
        return self.heart.role if self.heart else None

    def forwards(self, now_ns: int) -> bool:
        """Say whether the kernel's gate is open for forwarding."""
        return self.powered and now_ns < self.lease_until_ns

    def speaks(self, now_ns: int) -> bool:
        """Say whether the kernel answers for the shared addresses."""
        return self.powered and self.addresses_on and now_ns < self.voice_until_ns


class World:
    """Both machines, the wires between them, and the clock."""

    def __init__(self, profile: str = "virtual", *, gateways: bool = False) -> None:
        self.now_ns = 1_000_000_000
        self.profile = profile
        self.gateways = gateways
        self.others: dict[tuple[int, ipaddress.IPv4Address], bytes] = {}
        """(link, address) of whoever else answers, with the hardware address."""
        self.cut_off: set[tuple[int, int]] = set()
        """(machine, link) that reaches nobody else."""
        self.machines = {number: Machine(number, profile) for number in (1, 2)}
        self.beats_dropped: set[tuple[int, int]] = set()
        """(sender, link) whose heartbeats are lost."""
        self.frames_dropped: set[tuple[int, int]] = set()
        """(sender, link) of which nothing arrives."""
        self.synced = True
        self.both_forward_ns = 0
        self.both_speak_ns = 0
        self.nobody_forwards_ns = 0
        if gateways:
            self.others[4, GATEWAY] = bytes.fromhex("020000000064")
        for machine in self.machines.values():
            machine.starts_ns = self.now_ns

    # Faults and orders

    def power_off(self, number: int) -> None:
        """Cut the power: kernel, heart and lease are gone in the same instant."""
        machine = self.machines[number]
        machine.powered, machine.heart, machine.addresses_on = False, None, False
        machine.lease_until_ns = machine.voice_until_ns = 0
        machine.inbox.clear()

    def power_on(self, number: int) -> None:
        """Boot the machine; its heart starts at once."""
        self.machines[number].powered = True
        self.machines[number].starts_ns = self.now_ns

    def kill_heart(self, number: int, back_after_ms: int = 150) -> None:
        """SIGKILL heart; its supervisor starts it again, after the stage has closed the gate."""
        machine = self.machines[number]
        machine.heart = None
        machine.starts_ns = self.now_ns + back_after_ms * MS_NS

    def restart_heart(self, number: int, back_after_ms: int = 300) -> None:
        """Restart heart in the announced way: the gate stays open, the next life may resume."""
        machine = self.machines[number]
        assert machine.heart is not None
        machine.resume = restart(machine.heart, self.now_ns)
        if machine.resume:
            machine.heart.next_beat()
            self._send(machine, machine.heart, Kind.RESTARTING)
        machine.heart = None
        machine.starts_ns = self.now_ns + back_after_ms * MS_NS

    def partition(self, number: int) -> None:
        """Let nothing pass from or to the machine on any link."""
        self.frames_dropped |= {(each, link) for each in (1, 2) for link in range(1, 5)}
        del number

    def heal(self) -> None:
        """Let everything pass again."""
        self.frames_dropped.clear()
        self.beats_dropped.clear()

    # Time

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        end_ns = self.now_ns + duration_ms * MS_NS
        while self.now_ns < end_ns:
            self.step()

    def step(self) -> None:
        """Let half a millisecond pass."""
        self.now_ns += STEP_NS
        for machine in self.machines.values():
            self._step(machine)
        open_gates = sum(each.forwards(self.now_ns) for each in self.machines.values())
        self.both_forward_ns += STEP_NS * (open_gates == 2)
        self.nobody_forwards_ns += STEP_NS * (open_gates == 0)
        self.both_speak_ns += STEP_NS * all(
            each.speaks(self.now_ns) for each in self.machines.values()
        )

    def settle(self) -> None:
        """Boot the pair and wait until one is active and the other passive."""
        self.run(3 * PROFILES[self.profile].settle_ms)
        self.both_forward_ns = self.nobody_forwards_ns = self.both_speak_ns = 0

    def roles(self) -> tuple[Role | None, Role | None]:
        """Return the roles of the two nodes."""
        return self.machines[1].role, self.machines[2].role

    # One machine, one step

    def _step(self, machine: Machine) -> None:
        arrived = [item for item in machine.inbox if item[0] <= self.now_ns]
        if machine.powered:
            machine.inbox = [item for item in machine.inbox if item[0] > self.now_ns]
            held_back = []
            for item in arrived:
                if item[2] == "question":
                    self._kernel_answers(machine, item)
                else:
                    held_back.append(item)
            if machine.heart is None or machine.stopped:
                machine.inbox = held_back + machine.inbox if machine.heart else machine.inbox
                held_back = []
            if machine.heart is None and self.now_ns >= machine.starts_ns:
                self._start(machine)
            is_due = bool(held_back) or self.now_ns >= machine.planned_ns
            if machine.heart and not machine.stopped and is_due:
                self._turn(machine, held_back)

    def _start(self, machine: Machine) -> None:
        machine.sessions += 1
        if machine.resume is None:
            machine.addresses_on = False
            machine.lease_until_ns = machine.voice_until_ns = 0
        session = machine.number * 1000 + machine.sessions
        machine.heart = Node(
            plan(machine.number, machine.profile, gateways=self.gateways),
            session,
            machine.last_active,
            self.now_ns,
            machine.epoch,
            machine.resume,
        )
        machine.resume = None
        machine.beat_due_ns = machine.beat_ns = machine.planned_ns = self.now_ns
        machine.announcer.stop()
        for link in machine.heart.plan.links:
            machine.heart.set_carrier(link.number, not machine.no_carrier, self.now_ns)

    def _turn(self, machine: Machine, arrived: list[tuple[int, int, str, object]]) -> None:
        node, now_ns = machine.heart, self.now_ns
        assert node is not None
        node.woke(now_ns - machine.planned_ns, now_ns - machine.beat_ns, now_ns)
        for at_ns, link, kind, content in arrived:
            if kind == "beat":
                message, mac = content  # type: ignore[misc]
                node.hear(link, message, mac, at_ns)
            else:
                address, mac = content  # type: ignore[misc]
                node.answer(link, address, mac, at_ns)
        barrier = 0
        peer = self.machines[3 - machine.number].heart
        if peer and peer.offer and self.synced:
            barrier = peer.offer.barrier
        state = ReplicaState.SYNCED if self.synced else ReplicaState.DISCONNECTED
        node.replica = Replica(state, barrier, 100, 0, 1000)
        node.gate_open = machine.forwards(now_ns)
        for _decision in range(3):
            before = node.role
            rule = node.decide(now_ns, machine.fault)
            if rule is None:
                break
            machine.log.append((now_ns, f"{before.word} -> {rule.to.word}: {rule.reason}"))
            for action in rule.actions:
                self._perform(machine, node, action)
        machine.news += node.news
        node.news.clear()
        if now_ns >= machine.beat_due_ns:
            machine.beat_due_ns = now_ns + node.timing.beat_ms * MS_NS
            if node.speaks:
                node.next_beat()
                self._send(machine, node, node.kind(now_ns))
        self._ask(machine, node)
        if node.role in _HOLDERS and machine.announcer.due(now_ns):
            machine.announced_ns = now_ns
            for link in node.plan.links:
                for address in link.shared:
                    self._deliver(machine, link.number, "answer", (address, machine.mac))
        machine.last_active, machine.epoch = node.last_active, node.epoch
        due_ns = (machine.beat_due_ns, node.due_ns(now_ns), machine.announcer.next_ns(1 << 62))
        machine.planned_ns = max(min(due_ns), now_ns)

    def _ask(self, machine: Machine, node: Node) -> None:
        for probe in node.probes(self.now_ns):
            self._deliver(machine, probe.link, "question", probe.address)
            other = self.others.get((probe.link, probe.address))
            if other and (machine.number, probe.link) not in self.cut_off:
                content = (probe.address, other)
                machine.inbox.append((self.now_ns + 2 * WIRE_NS, probe.link, "answer", content))

    def _perform(self, machine: Machine, node: Node, action: Action) -> None:
        if action is Action.CLAIM:
            node.next_beat()
            self._send(machine, node, Kind.BEAT)
        elif action is Action.LINGER:
            self._send(machine, node, Kind.LINGER)
        elif action is Action.CLOSE_GATE:
            self._send(machine, node, Kind.CLOSE)
        elif action is Action.ADDRESSES_ON:
            machine.addresses_on = True
        elif action is Action.ADDRESSES_OFF:
            machine.addresses_on = False
            machine.announcer.stop()
        elif action is Action.ANNOUNCE:
            machine.announcer.begin(self.now_ns)

    def _send(self, machine: Machine, node: Node, kind: Kind) -> None:
        lease_ns = node.timing.lease_kernel_ms * MS_NS
        if kind is Kind.BEAT and node.role in _HOLDERS:
            machine.lease_until_ns = machine.voice_until_ns = self.now_ns + lease_ns
        elif kind is Kind.RESTARTING and machine.speaks(self.now_ns):
            until_ns = self.now_ns + node.timing.restarting_ms * MS_NS
            machine.lease_until_ns = machine.voice_until_ns = until_ns
        elif kind is Kind.LINGER:
            machine.lease_until_ns = self.now_ns + node.timing.linger_ms * MS_NS
            machine.voice_until_ns = 0
        elif kind in (Kind.CLOSE, Kind.FAREWELL):
            machine.lease_until_ns = machine.voice_until_ns = 0
        machine.beat_ns = self.now_ns
        for link in node.plan.links:
            if (machine.number, link.number) not in self.beats_dropped:
                content = (node.message(link.number, kind), machine.mac)
                self._deliver(machine, link.number, "beat", content)

    def farewell(self, number: int) -> None:
        """Stop heart as its supervisor does when nobody can take a hand-over."""
        machine = self.machines[number]
        assert machine.heart is not None
        machine.heart.next_beat()
        self._send(machine, machine.heart, Kind.FAREWELL)
        machine.addresses_on = False
        machine.heart, machine.starts_ns = None, 1 << 62

    def _kernel_answers(self, machine: Machine, item: tuple[int, int, str, object]) -> None:
        at_ns, link, _kind, address = item
        owner = plan(machine.number).links[link - 1]
        is_shared = address in owner.shared and machine.speaks(at_ns)
        if address in owner.own or is_shared:
            self._deliver(machine, link, "answer", (address, machine.mac))

    def _deliver(self, sender: Machine, link: int, kind: str, content: object) -> None:
        receiver = self.machines[3 - sender.number]
        if receiver.powered and (sender.number, link) not in self.frames_dropped:
            receiver.inbox.append((self.now_ns + WIRE_NS, link, kind, content))
