# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated kernel of a node: the gate's sets, the shared addresses, and who gets an answer.

The gate is not imitated: each frame that heart sends is put through the shipped rules of
`core.gate_rules`, expression by expression, and those rules renew or delete the lease. A kernel
lives on when heart is stopped or dead; it decides nothing, and it knows no role.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from amaranten_ha.core import gate_rules
from amaranten_ha.core.beat import MAGIC, MAJOR, MARK, Flag, Kind, Role
from amaranten_ha.core.nft_words import (
    Base,
    Change,
    Compare,
    Lookup,
    Mask,
    Meta,
    Payload,
    Relation,
    Renew,
    Verdict,
)
from amaranten_ha.core.timing import MS_NS, Timing, lease_kernel_ms

Effect = tuple[str, Change, int]
_Case = tuple[Kind, Role, bool, bool, bool]
"""Kind, role, damped, lease, voice."""
_MARK_BYTES = MARK.to_bytes(4, sys.byteorder)


def _compares(relation: Relation, loaded: bytes, data: bytes) -> bool:
    if relation is Relation.EQUAL:
        return loaded == data
    if relation is Relation.NOT_EQUAL:
        return loaded != data
    return loaded <= data if relation is Relation.AT_MOST else loaded >= data


def effects(rules: tuple[object, ...], frame: bytes, live: frozenset[str]) -> tuple[Effect, ...]:
    """Put a frame of heart's through the rules of a chain; return what it does to the sets."""
    found: list[Effect] = []
    for rule in rules:
        register = b""
        for word in rule.expressions:  # type: ignore[attr-defined]
            if isinstance(word, Meta):
                register = _MARK_BYTES
            elif isinstance(word, Payload):
                assert word.base is Base.NETWORK
                register = frame[word.offset : word.offset + word.length]
            elif isinstance(word, Mask):
                register = bytes(a & b for a, b in zip(register, word.mask, strict=True))
            elif isinstance(word, Compare):
                if not _compares(word.relation, register, word.data):
                    break
            elif isinstance(word, Lookup):
                if word.set not in live:
                    break
            elif isinstance(word, Renew):
                found.append((word.set, word.change, word.timeout_ms))
            elif isinstance(word, Verdict):
                return tuple(found)
    return tuple(found)


@dataclass
class Kernel:
    """The part of a node that outlives heart; every time is the node's own."""

    cluster: int
    number: int
    timing: Timing
    lease_until_ns: int = 0
    voice_until_ns: int = 0
    addresses_on: bool = False
    deaf: bool = False
    """The gate is broken: no frame of heart's changes it any more."""
    _rules: tuple[object, ...] = ()
    _known: dict[_Case, tuple[Effect, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = gate_rules.Plan(
            self.cluster,
            self.number,
            (),
            frozenset(),
            frozenset(),
            lease_ms=self.timing.lease_kernel_ms,
            damped_lease_ms=self.timing.lengthened().lease_kernel_ms,
            linger_ms=lease_kernel_ms(self.timing.linger_ms),
            restarting_ms=lease_kernel_ms(self.timing.restarting_ms),
        )
        chains = gate_rules.table(plan).chains
        self._rules = next(each.rules for each in chains if each.name == "heartbeat")

    def forwards(self, now_ns: int) -> bool:
        """Say whether the gate lets traffic through."""
        return now_ns < self.lease_until_ns

    def speaks(self, now_ns: int) -> bool:
        """Say whether the kernel answers for the shared addresses."""
        return self.addresses_on and now_ns < self.voice_until_ns

    def sent(self, kind: Kind, role: Role, damped: bool, now_ns: int) -> None:
        """Take in that a frame of heart's leaves, whether or not the port has carrier."""
        if self.deaf:
            return
        has_lease, has_voice = now_ns < self.lease_until_ns, now_ns < self.voice_until_ns
        case = kind, role, damped, has_lease, has_voice
        known = self._known.get(case)
        if known is None:
            live = frozenset(
                name
                for name, has in ((gate_rules.LEASE, has_lease), (gate_rules.VOICE, has_voice))
                if has
            )
            head = MAGIC + bytes((MAJOR, kind)) + self.cluster.to_bytes(2)
            head += bytes((self.number, role, 0, 0, 0, 0, 0, Flag.DAMPED if damped else 0))
            known = self._known[case] = effects(self._rules, head + bytes(16), live)
        for name, change, timeout_ms in known:
            until_ns = now_ns + timeout_ms * MS_NS if change is Change.UPDATE else 0
            if name == gate_rules.LEASE:
                self.lease_until_ns = until_ns
            else:
                self.voice_until_ns = until_ns

    def mend(self) -> None:
        """The gate's table is made anew, so its sets are empty."""
        if self.deaf:
            self.deaf = False
            self.lease_until_ns = self.voice_until_ns = 0

    def power_off(self) -> None:
        """Lose everything that was in memory."""
        self.lease_until_ns = self.voice_until_ns = 0
        self.addresses_on = self.deaf = False
