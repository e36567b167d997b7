# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that a plan may use: what each fault does to the world, and how it ends.

The world's runner enters with a `Fault`; `begin` does it and returns how it is undone. Faults may
overlap in any way, so everything here is counted or can be done twice. Which of them a seed draws
is said in `draw`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from amaranten_ha.core.orders import hold, release, switchover
from amaranten_ha.core.timing import MS_NS
from simulator.attack import flood, replay
from simulator.machine import NEVER_NS, Machine
from simulator.plan import NAMES, Fault
from simulator.wires import BEATS, FRAMES, OTHERS, PARTIES
from simulator.world import World

FAR_NS = 1 << 61
"""Maintenance without an end that a run could reach."""

MEND_NS = 10 * MS_NS
"""What the gate's service needs; on a machine that stands still nobody mends anything."""

Undo = Callable[[], None]


def _links(world: World, fault: Fault) -> tuple[int, ...]:
    every = tuple(link.number for link in world.machines[1].plan.links)
    return tuple(link for link in fault.links if link in every) or every


def _machines(world: World, fault: Fault) -> list[Machine]:
    return [world.machines[fault.node]] if fault.node else list(world.machines.values())


def _cutting(world: World, what: str, paths: list[tuple[int, int, int]]) -> Undo:
    def cut(by: int) -> None:
        for sender, receiver, link in paths:
            world.wires.cut(what, sender, receiver, link, by)
        world.judge.network_changed()

    cut(1)
    return lambda: cut(-1)


def _partition(world: World, fault: Fault) -> Undo:
    """Nothing passes between the two, in either direction."""
    both = ((1, 2), (2, 1))
    return _cutting(world, FRAMES, [(a, b, n) for n in _links(world, fault) for a, b in both])


def _one_way(world: World, fault: Fault) -> Undo:
    """Nothing of the node's reaches the other; all that the other says arrives."""
    sender = fault.node or 1
    paths = [(sender, 3 - sender, link) for link in _links(world, fault)]
    return _cutting(world, FRAMES, paths)


def _beats(world: World, fault: Fault) -> Undo:
    """The EtherType of the node's heartbeats is dropped; ARP passes."""
    nodes = [each.number for each in _machines(world, fault)]
    return _cutting(
        world, BEATS, [(each, 3 - each, link) for each in nodes for link in _links(world, fault)]
    )


def _silent(world: World, fault: Fault) -> Undo:
    """The node's ports pass nothing at all; they keep their carrier."""
    node = fault.node or 1
    paths = [
        path
        for link in _links(world, fault)
        for other in PARTIES
        if other != node
        for path in ((node, other, link), (other, node, link))
    ]
    return _cutting(world, FRAMES, paths)


def _uplink(world: World, fault: Fault) -> Undo:
    """The node's switch loses its uplink: carrier stays, all but its own hosts are gone."""
    return _silent(world, fault)


def _gateways(world: World, fault: Fault) -> Undo:
    """The third parties vanish, for one node or for both."""
    paths = [
        path
        for each in _machines(world, fault)
        for link in _links(world, fault)
        for path in ((OTHERS, each.number, link), (each.number, OTHERS, link))
    ]
    return _cutting(world, FRAMES, paths)


def _percent(name: str) -> Callable[[World, Fault], Undo]:
    def begin(world: World, fault: Fault) -> Undo:
        table, links = getattr(world.wires, name), _links(world, fault)
        for link in links:
            table[link] += fault.amount

        def undo() -> None:
            for link in links:
                table[link] = max(0, table[link] - fault.amount)

        return undo

    return begin


def _carrier(world: World, fault: Fault) -> Undo:
    """The node's ports lose their carrier, and the node sees it."""
    machine, links = world.machines[fault.node or 1], _links(world, fault)

    def change(by: int) -> None:
        for link in links:
            world.wires.unplug(machine.number, link, by)
            if machine.heart:
                usable = world.wires.carrier(machine.number, link)
                machine.heart.set_carrier(link, usable, machine.now_ns)
        world.judge.network_changed()
        world.wake(machine)

    change(1)
    return lambda: change(-1)


def _stall(world: World, fault: Fault) -> Undo:
    """SIGSTOP heart; its kernel goes on."""
    machine = world.machines[fault.node or 1]
    session = machine.heart.session if machine.heart else 0
    machine.stalls[session] += 1

    def undo() -> None:
        machine.stalls[session] -= 1
        world.wake(machine)

    return undo


def _busy(world: World, fault: Fault) -> Undo:
    """Others have the node's processors: heart waits for each turn, for `amount` ms at most."""
    machine = world.machines[fault.node or 1]
    machine.busy_ns += fault.amount * MS_NS

    def undo() -> None:
        machine.busy_ns -= fault.amount * MS_NS
        machine.waits_until_ns = world.now_ns
        world.wake(machine)

    return undo


def _standing_still(clocks_go_on: bool) -> Callable[[World, Fault], Undo]:
    def begin(world: World, fault: Fault) -> Undo:
        machine = world.machines[fault.node or 1]
        machine.freeze()
        world.keeps[machine.number] = bool(fault.amount)
        return lambda: world.thaw(machine, clocks_go_on)

    return begin


def _kill(world: World, fault: Fault) -> Undo:
    """SIGKILL heart; its supervisor starts it again after `amount` milliseconds."""
    world.machines[fault.node or 1].kill(max(fault.amount, 20) * MS_NS)
    return lambda: None


def _crash(world: World, fault: Fault) -> Undo:
    """Cut the power; boot when it ends."""
    number = fault.node or 1
    world.power_off(number)
    return lambda: world.power_on(number)


def _stop(world: World, fault: Fault) -> Undo:
    """`systemctl stop`: a switchover if the peer is ready, else a farewell. Then started."""
    machine = world.machines[fault.node or 1]
    machine.stop(NEVER_NS)

    def undo() -> None:
        machine.returns_ns = world.now_ns
        if machine.heart is None and machine.powered and machine.starts_ns == NEVER_NS:
            machine.starts_ns = world.now_ns
        world.wake(machine)

    return undo


def _switchover(world: World, fault: Fault) -> Undo:
    """An operator asks the active node to hand over; an amount forces what is not in sync."""

    def ask(machine: Machine) -> None:
        if machine.heart:
            switchover(machine.heart, "operator", bool(fault.amount), machine.now_ns)

    for machine in _machines(world, fault):
        if machine.answers:
            machine.order(partial(ask, machine))
    return lambda: None


def _hold(world: World, fault: Fault) -> Undo:
    """Maintenance: an active node hands over first; with an amount, by force."""
    machine = world.machines[fault.node or 1]
    heart = machine.heart
    refused = ["it does not answer"] if machine.waits else []
    if heart and machine.answers and not machine.waits:
        refused = hold(heart, FAR_NS, bool(fault.amount), machine.now_ns)
        world.wake(machine)
    if refused:
        return lambda: None
    machine.held += 1

    def undo() -> None:
        machine.held -= 1
        if machine.heart and not machine.held:
            release(machine.heart)
            world.wake(machine)

    return undo


def _restart(world: World, fault: Fault) -> Undo:
    """An announced restart of heart: it is back after `amount` milliseconds."""
    machine = world.machines[fault.node or 1]
    if machine.answers:
        machine.order(partial(machine.restart, max(fault.amount, 20) * MS_NS))
    return lambda: None


def _gate(world: World, fault: Fault) -> Undo:
    """Somebody breaks the node's gate; it is read back as broken until it is mended.

    With an amount it also hears no frame any more: it closes only when the lease runs out.
    """
    machine = world.machines[fault.node or 1]
    machine.fault = "gate: gone"
    machine.kernel.deaf |= bool(fault.amount)
    world.wake(machine)

    def undo() -> None:
        if not machine.runs:
            world.later(MEND_NS, undo)
            return
        machine.fault = ""
        machine.kernel.mend()
        world.wake(machine)

    return undo


def _stranger(world: World, fault: Fault) -> Undo:
    """A third machine answers for the shared address of a link, whoever asks."""
    links = _links(world, fault)
    for link in links:
        world.strangers[link] += 1

    def undo() -> None:
        for link in links:
            world.strangers[link] -= 1

    return undo


def _sync(world: World, fault: Fault) -> Undo:
    """Sync is dead: no replica, no barrier, and nobody writes the epoch."""
    machine = world.machines[fault.node or 1]
    machine.sync_down += 1

    def undo() -> None:
        machine.sync_down -= 1

    return undo


def _lag(world: World, fault: Fault) -> Undo:
    """The replica lags by `amount` milliseconds."""
    before = world.lag_ns
    world.lag_ns = fault.amount * MS_NS

    def undo() -> None:
        world.lag_ns = before

    return undo


WORDS: dict[str, Callable[[World, Fault], Undo]] = {
    "partition": _partition,
    "one-way": _one_way,
    "beats": _beats,
    "silent": _silent,
    "uplink": _uplink,
    "gateways": _gateways,
    "loss": _percent("loss"),
    "double": _percent("doubled"),
    "jitter": _percent("jitter_us"),
    "carrier": _carrier,
    "stall": _stall,
    "busy": _busy,
    "pause": _standing_still(clocks_go_on=False),
    "starve": _standing_still(clocks_go_on=True),
    "kill": _kill,
    "crash": _crash,
    "stop": _stop,
    "switchover": _switchover,
    "gate": _gate,
    "hold": _hold,
    "restart": _restart,
    "stranger": _stranger,
    "sync": _sync,
    "lag": _lag,
    "forge": flood,
    "replay": replay,
}


def begin(world: World, fault: Fault) -> Undo:
    """Do it, and return how it ends."""
    world.tell(None, f"{fault.what}{_whom(fault)}")
    undo = WORDS[fault.what](world, fault)

    def end() -> None:
        if fault.for_ms:
            world.tell(None, f"{fault.what} is over")
        undo()

    return end


def _whom(fault: Fault) -> str:
    node = f" {NAMES[fault.node]}" if fault.node else ""
    links = f" links {', '.join(map(str, fault.links))}" if fault.links else ""
    return node + links + (f" ({fault.amount})" if fault.amount else "")
