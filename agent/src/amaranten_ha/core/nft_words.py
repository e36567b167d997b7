# SPDX-License-Identifier: GPL-3.0-or-later
"""The few words of nf_tables that the gate is written in: expressions, rules, chains, sets.

`gate_rules` writes with them and compares; `io.nft` turns them into the kernel's bytes and back.
Every expression works on one register, as the gate needs no more. Nothing here knows a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class MetaKey(IntEnum):
    """What `Meta` loads; the kernel's NFT_META_*."""

    PROTOCOL = 1
    MARK = 3
    L4PROTO = 16


class Base(IntEnum):
    """Where the offset of `Payload` counts from; the kernel's NFT_PAYLOAD_*."""

    LINK = 0
    NETWORK = 1
    TRANSPORT = 2


class Relation(IntEnum):
    """How `Compare` compares; the kernel's NFT_CMP_*."""

    EQUAL = 0
    NOT_EQUAL = 1
    AT_MOST = 3
    AT_LEAST = 5


class Change(IntEnum):
    """What `Renew` does with the element; the kernel's NFT_DYNSET_OP_*."""

    UPDATE = 1
    DELETE = 2


class Code(IntEnum):
    """Verdicts; the kernel's NF_* and NFT_*."""

    DROP = 0
    ACCEPT = 1
    JUMP = -3
    GOTO = -4


class Key(IntEnum):
    """Types of set keys, by nft's numbers; they matter to the kernel only by their length."""

    IPV4 = 7
    IPV6 = 8
    MARK = 19

    @property
    def length(self) -> int:
        """Bytes of one key."""
        return 16 if self is Key.IPV6 else 4


class Hook(IntEnum):
    """Where a chain of the netdev family hangs; the kernel's NF_NETDEV_*."""

    INGRESS = 0
    EGRESS = 1


@dataclass(frozen=True, slots=True)
class Meta:
    """Load a fact about the packet."""

    key: MetaKey


@dataclass(frozen=True, slots=True)
class Payload:
    """Load bytes of the packet."""

    base: Base
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Mask:
    """Keep only these bits."""

    mask: bytes


@dataclass(frozen=True, slots=True)
class Compare:
    """Go on only if the loaded bytes stand in this relation to the data."""

    relation: Relation
    data: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """Go on only if the loaded bytes are in the set."""

    set: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Put the loaded bytes into the set for this long, or take them out."""

    set: str
    change: Change
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the packet."""

    code: Code
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Strange:
    """An expression that was read back and that we never write; equal to nothing of ours."""

    name: str
    raw: bytes


Expression = Meta | Payload | Mask | Compare | Lookup | Renew | Verdict | Strange


@dataclass(frozen=True, slots=True)
class Rule:
    """Expressions in their order; the comment is for people who list the table."""

    expressions: tuple[Expression, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Set:
    """A set; `lasting` ones hold addresses, the others elements with a timeout from packets."""

    name: str
    key: Key
    lasting: bool = True
    elements: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; with a hook it is a base chain on that device, policy accept."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that the gate's table shall hold."""

    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class FoundChain:
    """A chain as the kernel told it."""

    name: str
    hook: int | None
    priority: int
    policy: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FoundSet:
    """A set as the kernel told it."""

    name: str
    key: int
    length: int
    flags: int


@dataclass(frozen=True, slots=True)
class FoundTable:
    """What the kernel holds under our table's name; `owner` is a netlink port, 0 for nobody."""

    flags: int
    owner: int
    sets: Mapping[str, FoundSet] = field(default_factory=dict)
    elements: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    chains: Mapping[str, FoundChain] = field(default_factory=dict)
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
