# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate in the kernel: read back by everybody, made by the gate service alone.

`GateReader` is for heart and stage: it asks, cheaply and often, whether the gate is in place and
whether it is open, and never changes anything. `GateKeeper` is for the gate service: it owns the
table, makes it, mends it in one transaction and lets go of it so that it stays closed. Packets pass
through the old rules or through the new ones, never through none.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.gate_compare import differences, is_kind
from amaranten_ha.core.gate_rules import (
    ADDRESS_SETS,
    LEASE,
    TABLE,
    VOICE,
    Address,
    Plan,
    Port,
    own_of,
    shared_of,
    table,
)
from amaranten_ha.core.nft_words import FoundTable, Rule, Table
from amaranten_ha.core.timing import lease_kernel_ms
from amaranten_ha.io import nft
from amaranten_ha.io.nft_channel import Channel, Refused
from amaranten_ha.settings import Settings

READ_TRIES = 5
MAKE_TRIES = 4


@dataclass(frozen=True, slots=True)
class GateState:
    """What a reader saw; `problem` is a sentence, empty if there is none.

    `owned` is False while no service holds the table: it still works, but anybody may remove it.
    """

    intact: bool
    open_lease: bool
    open_voice: bool
    problem: str = ""
    owned: bool = True


def plan_of(settings: Settings, running: Iterable[Address] = ()) -> Plan:
    """Derive the gate from the settings, and from what else this node was found to have."""
    own = [network for each in settings.interfaces for network in each.own]
    shared = [network for each in settings.interfaces for network in each.shared]
    timing = settings.timing
    shared_addresses = shared_of(own, shared)
    return Plan(
        cluster=settings.cluster.id,
        node=settings.node.number,
        ports=tuple(Port(each.name, each.device) for each in settings.interfaces),
        own=(own_of(own) | frozenset(running)) - shared_addresses,
        shared=shared_addresses,
        lease_ms=timing.lease_kernel_ms,
        damped_lease_ms=timing.lengthened().lease_kernel_ms,
        linger_ms=lease_kernel_ms(timing.linger_ms),
        restarting_ms=lease_kernel_ms(timing.restarting_ms),
    )


def device_indexes(devices: Iterable[str]) -> dict[str, int]:
    """Index of each device that exists now."""
    found = {}
    for device in devices:
        with contextlib.suppress(OSError):
            found[device] = socket.if_nametoindex(device)
    return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Our table in the kernel's own bytes; two equal ones hold the same gate."""

    head: bytes | None
    sets: tuple[bytes, ...] = ()
    elements: tuple[tuple[bytes, ...], ...] = ()
    chains: tuple[bytes, ...] = ()
    rules: tuple[bytes, ...] = ()


def read_table(channel: Channel) -> tuple[Snapshot, bool]:
    """Read the whole table, and tell whether no ruleset changed meanwhile."""
    before, head = channel.ask([nft.get_generation(), nft.get_table()])
    if head is None:
        return Snapshot(None), True
    steady = True

    def dump(request: nft.Request) -> tuple[bytes, ...]:
        nonlocal steady
        bodies, undisturbed = channel.dump(request)
        steady = steady and undisturbed
        return tuple(bodies)

    snapshot = Snapshot(
        head,
        dump(nft.dump_sets()),
        tuple(dump(nft.dump_elements(name)) for name in ADDRESS_SETS),
        tuple(body for body in dump(nft.dump_chains()) if nft.in_our_table(body)),
        dump(nft.dump_rules()),
    )
    return snapshot, steady and channel.ask([nft.get_generation()])[0] == before


def decode_table(snapshot: Snapshot) -> FoundTable | None:
    """The snapshot in the gate's words."""
    if snapshot.head is None:
        return None
    flags, owner = nft.decode_table(snapshot.head)
    rules: dict[str, list[Rule]] = {}
    for body in snapshot.rules:
        chain, rule = nft.decode_rule(body)
        rules.setdefault(chain, []).append(rule)
    return FoundTable(
        flags,
        owner,
        sets={each.name: each for each in map(nft.decode_set, snapshot.sets)},
        elements={
            name: frozenset(key for body in bodies for key, _left in nft.decode_elements(body)[1])
            for name, bodies in zip(ADDRESS_SETS, snapshot.elements, strict=True)
        },
        chains={each.name: each for each in map(nft.decode_chain, snapshot.chains)},
        rules={chain: tuple(held) for chain, held in rules.items()},
    )


class GateReader:
    """Tells whether the gate is in place and open; for heart, ten times a second."""

    def __init__(self, settings: Settings, *, full_every: int = 50) -> None:
        """Read everything when a ruleset or a device changed, and at every 50th check."""
        self._expected = table(plan_of(settings))
        self._devices = [each.device for each in settings.interfaces]
        self._full_every = full_every
        self._channel: Channel | None = None
        self._seen: tuple[bytes | None, dict[str, int]] | None = None
        self._judged: tuple[Snapshot, dict[str, int]] | None = None
        self._turns = 0
        self._problem = ""
        self._owned = False

    def check(self) -> GateState:
        """Look once; a kernel that refuses to answer twice is a gate that cannot be verified."""
        reason: KernelRefused | None = None
        for _attempt in range(2):
            try:
                return self._check()
            except KernelRefused as error:
                reason = error
                self.close()
        return GateState(False, False, False, f"the gate cannot be read back: {reason}", False)

    def lease_left_ms(self) -> int:
        """Milliseconds until the lease ends if nothing renews it; 0 if the gate is closed."""
        answer = self._open().ask([nft.get_element(LEASE)])[0]
        return 0 if answer is None else max(1, nft.decode_elements(answer)[1][0][1])

    def outlives_its_service(self) -> bool:
        """Say whether the kernel keeps table and lease while the gate service restarts."""
        head = self._open().ask([nft.get_table()])[0]
        return head is not None and bool(nft.decode_table(head)[0] & nft.FLAG_PERSIST)

    def close(self) -> None:
        """Close the socket; the next check opens another."""
        if self._channel is not None:
            self._channel.close()
        self._channel, self._seen = None, None

    def _open(self) -> Channel:
        if self._channel is None:
            self._channel = Channel()
        return self._channel

    def _check(self) -> GateState:
        channel = self._open()
        indexes = device_indexes(self._devices)
        questions = [nft.get_generation(), nft.get_element(LEASE), nft.get_element(VOICE)]
        generation, lease, voice = channel.ask(questions)
        self._turns += 1
        if self._seen != (generation, indexes) or self._turns >= self._full_every:
            self._read(channel, indexes)
            self._seen, self._turns = (generation, indexes), 0
        intact = not self._problem
        return GateState(intact, lease is not None, voice is not None, self._problem, self._owned)

    def _read(self, channel: Channel, present: dict[str, int]) -> None:
        """Compare; what was read while rulesets changed counts only if it is as it should be."""
        for _try in range(READ_TRIES):
            snapshot, steady = read_table(channel)
            if (snapshot, present) != self._judged:
                found = decode_table(snapshot)
                self._problem = "; ".join(differences(self._expected, found, present, exact=False))
                self._owned = found is not None and found.owner != 0
                self._judged = snapshot, present
            if steady or not self._problem:
                return


class GateKeeper:
    """Owns the table; every verb leaves a gate that was read back, or raises KernelRefused."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._made: Table | None = None
        self._right: tuple[Snapshot, dict[str, int], Plan] | None = None
        self._flags = nft.FLAG_OWNER | nft.FLAG_PERSIST

    @property
    def persists(self) -> bool:
        """True if the kernel keeps the table when its owner is gone (6.9 and newer)."""
        return bool(self._flags & nft.FLAG_PERSIST)

    def ensure(self, plan: Plan) -> list[str]:
        """Make or mend the gate if it is not as planned; return what was found wrong."""
        expected = table(plan)
        wrong: list[str] = []
        refusal = KernelRefused("rulesets keep changing")
        for _try in range(MAKE_TRIES):
            present = device_indexes(port.device for port in plan.ports)
            snapshot, steady = read_table(self._channel)
            if (snapshot, present, plan) == self._right:
                return wrong
            found = decode_table(snapshot)
            problems = differences(expected, found, present) + self._ownership(found)
            if found is not None and not problems:
                self._made, self._right = _only(expected, found.chains), (snapshot, present, plan)
                self._flags = nft.FLAG_OWNER | (found.flags & nft.FLAG_PERSIST)
                return wrong
            if not steady:
                continue
            wrong = wrong or problems
            try:
                self._make(expected, found, present)
            except Refused as error:
                if error.code not in (errno.ENOENT, errno.ENODEV, errno.EBUSY, errno.EINTR):
                    raise KernelRefused(f"the gate could not be made: {error}") from None
                refusal = error
            else:
                refusal = KernelRefused(problems[0])
        raise KernelRefused(f"the gate could not be made in {MAKE_TRIES} tries: {refusal}")

    def release(self) -> None:
        """Let go of the table in such a way that it stays, closed unless heart keeps it open.

        A kernel that knows `persist` keeps an owner's table by itself. For an older one the table
        is replaced, in one transaction, by the same one without an owner; the lease starts closed
        and heart's next beat opens it again.
        """
        if self._made is not None and not self.persists:
            anew = [nft.delete_table(), nft.new_table(0), *_contents(self._made)]
            self._channel.transact(anew)

    def _ownership(self, found: FoundTable | None) -> list[str]:
        if found is None or found.owner == self._channel.port:
            return []
        if not found.owner:
            return [f"nobody owned table netdev {TABLE}"]
        raise KernelRefused(
            f"table netdev {TABLE} belongs to another socket (netlink port {found.owner}):"
            " expected this service alone; is a second gate running?"
        )

    def _make(self, expected: Table, found: FoundTable | None, present: Collection[str]) -> None:
        """One transaction, with all devices first: newer kernels take those that come later."""
        try:
            self._make_exactly(expected, found)
        except Refused as error:
            here = _only(
                expected, [each.name for each in expected.chains if each.device in present]
            )
            if error.code not in (errno.ENOENT, errno.ENODEV) or here == expected:
                raise
            self._make_exactly(here, found)

    def _make_exactly(self, expected: Table, found: FoundTable | None) -> None:
        if found is not None and (found.owner or found.flags & nft.FLAG_PERSIST):
            flags = nft.FLAG_OWNER | (found.flags & nft.FLAG_PERSIST)
            if found.owner and found.flags == flags:
                self._channel.transact(_replaced(expected, found))
            else:  # An orphan, or dormant. The kernel takes a change of flags alone only.
                self._channel.transact([nft.new_table(flags)])
            return
        away = [] if found is None else [nft.delete_table()]
        try:
            self._channel.transact([*away, nft.new_table(self._flags), *_contents(expected)])
        except Refused as error:
            if error.code not in (errno.EOPNOTSUPP, errno.EINVAL) or not self.persists:
                raise
            self._flags = nft.FLAG_OWNER
            self._make_exactly(expected, found)


def _only(whole: Table, chains: Collection[str]) -> Table:
    """The table without the base chains that are not named."""
    kept = (each for each in whole.chains if not each.device or each.name in chains)
    return Table(whole.sets, tuple(kept))


def _contents(made: Table, kept: Collection[str] = ()) -> list[nft.Request]:
    """Requests that fill an empty table; `kept` sets are there already."""
    requests = []
    for number, each in enumerate(made.sets, 1):
        if each.name not in kept:
            requests.append(nft.new_set(each, number))
            if each.elements:
                requests.append(nft.new_elements(each))
    for chain in made.chains:
        requests.append(nft.new_chain(chain))
        requests.extend(nft.new_rule(chain.name, rule) for rule in chain.rules)
    return requests


def _replaced(made: Table, found: FoundTable) -> list[nft.Request]:
    """Requests that replace all but the sets of lease and voice, if these are of our kind."""
    kept = [each.name for each in made.sets if not each.lasting and is_kind(each, found)]
    gone = [name for name in found.sets if name not in kept]
    return [
        nft.delete_rules(),
        *(nft.delete_chain(name) for name in found.chains),
        *(nft.delete_set(name) for name in gone),
        *_contents(made, kept),
    ]
