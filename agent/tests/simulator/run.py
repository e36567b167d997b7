# SPDX-License-Identifier: GPL-3.0-or-later
"""One schedule from the cold start to the verdict: a phase of faults, then quiet, then liveness.

A campaign, a test or a person with a seed enters with a plan. While there are faults the judge
looks at safety; then everything is mended, and within a bounded time exactly one node must be
active and the other passive, and stay so. The outcome is a value; nothing is printed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranten_ha.core.orders import release
from amaranten_ha.core.timing import MS_NS, PROFILES
from simulator.faults import MEND_NS, begin
from simulator.judge import HOLDERS, LINGER_MS, Violation
from simulator.machine import NEVER_NS
from simulator.plan import Fault, Plan
from simulator.world import World

CALM_BEATS = 8
CALM_MS_MIN = 150
"""So long, and longer than a linger, roles must stand at the end; one run in 32 watches longer."""
BACK_MS_MAX = 8_000
"""So long a heart may still be away when everything is mended: an announced restart is slow, or a
stop waits five seconds for its hand-over. Patience begins when both are back, not before."""
HARMLESS = frozenset(
    {"switchover", "lag", "gateways", "forge", "replay", "double", "restart", "busy"}
)
"""While nothing else happens the pair never stops forwarding; a restart must end in its time, and
who is busy must come to its turn within the lease."""

CRASH = "crash"
"""The name of the violation when an engine raises what nobody catches."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    plan: Plan
    violation: str = ""
    """The invariant that broke, empty if none did."""
    text: str = ""
    virtual_ms: int = 0
    rules: tuple[tuple[str, int], ...] = ()


def patience_ms(plan: Plan) -> int:
    """How long the pair may take to find its roles after the last fault."""
    timing = PROFILES[plan.profile]
    if plan.damping:
        timing = timing.lengthened()
    conflict = any(fault.what == "stranger" for fault in plan.faults)
    over_ms = timing.conflict_over_ms if conflict else 0
    return (
        over_ms + timing.settle_ms + timing.one_way_ms + 2 * timing.alone_ms + 20 * timing.beat_ms
    )


def run(plan: Plan, trace: bool = False) -> tuple[Outcome, World]:
    """Run a schedule; the world is for who wants to look at it."""
    world = World(plan)
    if trace:
        world.trace = []
    violation = text = ""
    try:
        with world.codec.running():
            _play(world, plan)
            _quiet(world, plan)
    except Violation as found:
        violation, text = found.name, str(found)
    except Exception as error:  # noqa: BLE001
        # A heart that ends by an exception is a finding like any other, with its seed.
        violation, text = CRASH, f"{CRASH}: {error!r}"
    rules = tuple(sorted(world.judge.counts.items()))
    return Outcome(plan, violation, text, world.now_ns // MS_NS, rules), world


def play(plan: Plan) -> World:
    """Run the phase of faults alone, for who wants to measure it; raises Violation."""
    world = World(plan)
    with world.codec.running():
        _play(world, plan)
    return world


def _play(world: World, plan: Plan) -> None:
    if not plan.cold:
        settled = world.now_ns + 4 * world.timing.settle_ms * MS_NS
        if not world.run_until(settled, world.is_settled):
            raise Violation("start", f"the pair did not settle: {world.roles()}")
        world.run(3 * world.timing.beat_ms)
        world.nobody_forwards_ns = world.both_forward_ns = world.deserted_ns = 0
    start_ns = world.faults_from_ns = world.now_ns
    for fault in plan.faults:
        world.run_until(max(world.now_ns, start_ns + fault.at_ms * MS_NS))
        undo = begin(world, fault)
        if fault.for_ms:
            world.later(fault.for_ms * MS_NS, undo)
        else:
            world.endings.append(undo)
    if plan.faults:
        ends_ms = max(fault.at_ms + fault.for_ms for fault in plan.faults)
        world.run_until(max(world.now_ns, start_ns + ends_ms * MS_NS))
    harmless = not plan.cold and all(_is_harmless(world, fault) for fault in plan.faults)
    if harmless and world.nobody_forwards_ns:
        gap_us = world.nobody_forwards_ns // 1000
        raise Violation("gap", f"nobody forwarded for {gap_us} us although nothing was broken")

    limit_ms = _deserted_ms_max(world, plan)
    if limit_ms is not None and world.deserted_ns > limit_ms * MS_NS:
        text = f"nobody forwarded for {world.deserted_ns // MS_NS} ms, and a heart was only busy"
        raise Violation("deserted", text)


def _deserted_ms_max(world: World, plan: Plan) -> int | None:
    """For how long nobody may forward while one heart is busy, and the other node is there or gone.

    Who is busy for longer than its lease at every turn promises nothing.
    """
    timing = world.timing
    busy = [fault for fault in plan.faults if fault.what == "busy"]
    others = [fault for fault in plan.faults if fault.what != "busy"]
    nodes, amount = {fault.node for fault in busy}, sum(fault.amount for fault in busy)
    if plan.cold or len(nodes) != 1 or amount > timing.lease_kernel_ms:
        return None
    if not others:
        return timing.dead_ms
    if any(fault.what != "crash" or fault.node in nodes for fault in others):
        return None
    return timing.one_way_ms + timing.alone_ms + timing.settle_ms + 2 * amount


def _is_harmless(world: World, fault: Fault) -> bool:
    timing = world.timing
    if fault.what == "restart" and fault.amount > timing.restarting_ms:
        return False
    if fault.what == "busy" and fault.amount > timing.lease_ms - 2 * timing.beat_ms:
        return False
    return fault.what in HARMLESS


def _quiet(world: World, plan: Plan) -> None:
    """Mend everything, and wait for one active node."""
    world.run_until(world.now_ns)
    world.tell(None, "everything is mended")
    for undo in world.endings:
        undo()
    world.heal()
    world.run_until(world.now_ns + MEND_NS)
    for machine in world.machines.values():
        machine.fault = ""
        machine.kernel.mend()
        machine.held = 0
        if machine.heart:
            release(machine.heart)
        machine.power_on()
        if machine.heart is None and machine.starts_ns == NEVER_NS:
            machine.starts_ns = world.now_ns
        world.wake(machine)
    world.run_until(world.now_ns + BACK_MS_MAX * MS_NS, world.has_hearts)
    world.run(world.timing.dead_ms + 3 * world.timing.beat_ms)
    limit_ns = world.now_ns + patience_ms(plan) * MS_NS
    if not world.run_until(limit_ns, world.is_settled):
        raise Violation("liveness", f"no single active node: {_state(world)}")
    roles = world.roles()
    calm_ms = max(CALM_BEATS * world.timing.beat_ms, CALM_MS_MIN)
    if plan.seed % 32 == 0:
        calm_ms = patience_ms(plan)
    world.run(calm_ms)
    if world.roles() != roles and not _may_move(plan):
        raise Violation("calm", f"roles moved in quiet times: {roles} to {_state(world)}")
    _end(world)


def _may_move(plan: Plan) -> bool:
    """A stop that still waits for its hand-over may move the role once more."""
    return any(fault.what in ("stop", "switchover") for fault in plan.faults)


def _end(world: World) -> None:
    if not world.is_settled():
        raise Violation("liveness", f"not one active and one passive: {_state(world)}")
    for machine in world.machines.values():
        active = machine.role in HOLDERS
        kernel = machine.kernel
        if active and not (machine.forwards() and kernel.addresses_on):
            raise Violation("liveness", f"{machine.plan.name} is active and does not forward")
        if active and world.announced_ns[machine.number] + LINGER_MS * MS_NS < world.both_spoke_ns:
            text = f"{machine.plan.name} has not announced since both answered for the addresses"
            raise Violation("unannounced", text)
        if not active and (machine.forwards() or kernel.addresses_on):
            raise Violation("liveness", f"{machine.plan.name} is passive and not closed")
    epochs = {each.heart.epoch for each in world.machines.values() if each.heart}
    if len(epochs) != 1 and not world.judge.forgotten(max(epochs)):
        raise Violation("liveness", f"the two know different epochs: {sorted(epochs)}")


def _state(world: World) -> str:
    return ", ".join(
        f"{each.plan.name} {each.role.word if each.role else 'down'}"
        f" ({each.heart.reason if each.heart else ''})"
        for each in world.machines.values()
    )
