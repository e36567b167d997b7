# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate as data: from the pair's settings to the sets, chains and rules of one netdev table.

`io.gate` enters with a `Plan`, gives `table()` to the kernel, and `gate_compare` tells whether
what was read back is the same. Every device has two base chains of three rules each: what most
packets of an active node need, and a jump to the common chains for the others. Nothing is ever
decided here about roles: heart's own frames, on their way out, are what opens and closes the gate.

The gate fails closed. Without the lease nothing enters that is not for this node, and nothing
leaves that is not from this node. Speaking as a shared address needs the voice as well.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from amaranten_ha.core.beat import ETHERTYPE, MAGIC, MARK, Flag, Kind, Role
from amaranten_ha.core.nft_words import (
    Base,
    Chain,
    Change,
    Code,
    Compare,
    Expression,
    Hook,
    Key,
    Lookup,
    Mask,
    Meta,
    MetaKey,
    Payload,
    Relation,
    Renew,
    Rule,
    Set,
    Table,
    Verdict,
)

TABLE = "amaranten_ha"
PRIORITY = -500
"""Before everything that a user is likely to hang at the same hooks."""
LEASE, VOICE = "lease", "voice"
OWN4, OWN6, SHARED4, SHARED6 = "own4", "own6", "shared4", "shared6"
ADDRESS_SETS = (OWN4, OWN6, SHARED4, SHARED6)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Interface | ipaddress.IPv6Interface

_ACCEPT, _DROP = Verdict(Code.ACCEPT), Verdict(Code.DROP)
_IP, _IP6, _ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
_VLANS = (b"\x81\x00", b"\x88\xa8")
_ARP_SENDER, _ARP_TARGET = Payload(Base.NETWORK, 14, 4), Payload(Base.NETWORK, 24, 4)
_IP_SOURCE, _IP_TARGET = Payload(Base.NETWORK, 12, 4), Payload(Base.NETWORK, 16, 4)
_IP6_SOURCE, _IP6_TARGET = Payload(Base.NETWORK, 8, 16), Payload(Base.NETWORK, 24, 16)
_ND_TYPE, _ND_TARGET = Payload(Base.TRANSPORT, 0, 1), Payload(Base.TRANSPORT, 8, 16)
_RA_LIFETIME = Payload(Base.TRANSPORT, 6, 2)
_LINK_LOCAL = Mask(b"\xff\xc0" + bytes(14)), Compare(Relation.EQUAL, b"\xfe\x80" + bytes(14))


@dataclass(frozen=True, slots=True)
class Port:
    """A logical interface and the device that carries it on this node."""

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the gate of one node depends on."""

    cluster: int
    node: int
    ports: tuple[Port, ...]
    own: frozenset[Address]
    """Addresses that only this node has, directed broadcasts included."""
    shared: frozenset[Address]
    lease_ms: int
    damped_lease_ms: int
    """The lease while flap damping makes all durations longer."""
    linger_ms: int
    restarting_ms: int


def own_of(networks: Iterable[Network]) -> frozenset[Address]:
    """Own addresses and the directed broadcasts of their IPv4 networks."""
    found: set[Address] = set()
    for each in networks:
        found.add(each.ip)
        if isinstance(each, ipaddress.IPv4Interface) and each.network.prefixlen < 31:
            found.add(each.network.broadcast_address)
    return frozenset(found)


def shared_of(networks: Iterable[Network], shared: Iterable[Network]) -> frozenset[Address]:
    """Shared addresses, and the subnet-router anycast address of every IPv6 network.

    A node that may forward answers for the anycast address by itself: that is the active's right.
    """
    found: set[Address] = {each.ip for each in shared}
    own = list(networks)
    for each in (*own, *shared):
        network = each.network
        if network.version == 6 and network.prefixlen < 127 and not network.is_link_local:
            found.add(network.network_address)
    return frozenset(found - {each.ip for each in own})


def running_own(
    found: Iterable[tuple[str, Address, bool]], declared: Collection[str]
) -> frozenset[Address]:
    """Choose from (device, address, permanent) what this node may also call its own.

    Any address of a device that is not ours (management, loopback, tunnels), so that the passive
    can be reached at it through our interfaces; of ours only what the network gave (autoconfigured
    addresses, which are not permanent): a static one that nobody declared is no own address.
    """
    return frozenset(
        address
        for device, address, permanent in found
        if (device not in declared or (address.version == 6 and not permanent))
        and not (address.is_link_local and address.version == 6)
        and not address.is_loopback
    )


def table(plan: Plan) -> Table:
    """Return the whole table: sets first, then chains, each after those that it jumps to."""
    common = (
        Chain("with_voice", _with_voice()),
        Chain("heartbeat", _heartbeat(plan)),
        Chain("arriving", _arriving()),
        Chain("leaving", _leaving()),
    )
    based = tuple(
        Chain(f"{way}_{port.name}", (*_most(), Rule((Verdict(Code.JUMP, way),))), hook, port.device)
        for port in plan.ports
        for way, hook in (("arriving", Hook.INGRESS), ("leaving", Hook.EGRESS))
    )
    sets = (
        Set(LEASE, Key.MARK, lasting=False),
        Set(VOICE, Key.MARK, lasting=False),
        Set(OWN4, Key.IPV4, elements=_packed(plan.own - plan.shared, 4)),
        Set(OWN6, Key.IPV6, elements=_packed(plan.own - plan.shared, 6)),
        Set(SHARED4, Key.IPV4, elements=_packed(plan.shared, 4)),
        Set(SHARED6, Key.IPV6, elements=_packed(plan.shared, 6)),
    )
    return Table(sets, common + based)


def _packed(addresses: Iterable[Address], version: int) -> frozenset[bytes]:
    return frozenset(each.packed for each in addresses if each.version == version)


def _is(load: Meta | Payload, *values: bytes) -> tuple[Expression, ...]:
    """The loaded bytes equal the value, or lie between the two values."""
    if len(values) == 1:
        return load, Compare(Relation.EQUAL, values[0])
    low, high = values
    return load, Compare(Relation.AT_LEAST, low), Compare(Relation.AT_MOST, high)


def _not(load: Meta | Payload, value: bytes) -> tuple[Expression, ...]:
    return load, Compare(Relation.NOT_EQUAL, value)


def _mark(value: int) -> bytes:
    """The mark is compared in the machine's byte order, unlike everything from the packet."""
    return value.to_bytes(4, sys.byteorder)


def _protocol(value: bytes) -> tuple[Expression, ...]:
    return _is(Meta(MetaKey.PROTOCOL), value)


def _constant() -> tuple[Expression, ...]:
    """A key that is the same for every packet; nft has no word for a literal here."""
    return Meta(MetaKey.MARK), Mask(bytes(4))


def _has(name: str) -> tuple[Expression, ...]:
    return *_constant(), Lookup(name)


def _icmp6(*types: int) -> tuple[Expression, ...]:
    return (
        *_protocol(_IP6),
        *_is(Meta(MetaKey.L4PROTO), b"\x3a"),
        *_is(_ND_TYPE, *(bytes((each,)) for each in types)),
    )


def _need_voice() -> Verdict:
    return Verdict(Code.GOTO, "with_voice")


def _with_voice() -> tuple[Rule, ...]:
    return (
        Rule((*_has(VOICE), _ACCEPT), "this node speaks as the shared addresses"),
        Rule((_DROP,), "it does not"),
    )


def _most() -> tuple[Rule, ...]:
    """The way of most packets of an active node, first; no other rule would drop these.

    A packet costs what its rules cost (docs/figures.md). So these stand in the base chains, and the
    constant is made of the protocol that was just compared: nothing has to be loaded for it.
    """
    no_nd = *_not(Meta(MetaKey.L4PROTO), b"\x3a"), *_protocol(_IP6)
    lease = Mask(bytes(4)), Lookup(LEASE)
    return (
        Rule((*_protocol(_IP), *lease, _ACCEPT), "this node forwards"),
        Rule((*no_nd, *lease, _ACCEPT), "the same for IPv6"),
    )


def _tagged() -> tuple[Rule, ...]:
    """Frames of a VLAN pass: sub-interfaces gate themselves. VLAN 0 is only a priority."""
    vlan = Payload(Base.LINK, 14, 2), Mask(b"\x0f\xff"), Compare(Relation.NOT_EQUAL, bytes(2))
    return tuple(
        Rule((*_is(Payload(Base.LINK, 12, 2), each), *vlan, _ACCEPT), "VLANs gate themselves")
        for each in _VLANS
    )


def _frame(low: Kind, high: Kind, *more: Expression) -> tuple[Expression, ...]:
    """A frame of one of the kinds from low to high, of which more is true."""
    kinds = sorted({low, high})
    return (*_is(Payload(Base.NETWORK, 5, 1), *(bytes((each,)) for each in kinds)), *more)


def _renews(timeout_ms: int) -> tuple[Expression, ...]:
    """Forward and speak for so long."""
    return (
        Renew(LEASE, Change.UPDATE, timeout_ms),
        Renew(VOICE, Change.UPDATE, timeout_ms),
        _ACCEPT,
    )


def _heartbeat(plan: Plan) -> tuple[Rule, ...]:
    """What heart's own frames do to the gate; LINGER and RESTARTING prolong, and never open."""
    cluster, node = plan.cluster.to_bytes(2), plan.node.to_bytes(1)
    role = Payload(Base.NETWORK, 9, 1)
    entitled = _is(role, bytes((Role.ACTIVE,)), bytes((Role.HANDING_OVER,)))
    bit = Flag.DAMPED.to_bytes(1)
    damped = Payload(Base.NETWORK, 15, 1), Mask(bit), Compare(Relation.EQUAL, bit)
    return (
        Rule((*_not(Meta(MetaKey.MARK), _mark(MARK)), _ACCEPT), "not from heart"),
        Rule((*_not(Payload(Base.NETWORK, 0, 4), MAGIC), _ACCEPT), "no heartbeat"),
        Rule((*_not(Payload(Base.NETWORK, 6, 2), cluster), _ACCEPT), "another cluster"),
        Rule((*_not(Payload(Base.NETWORK, 8, 1), node), _ACCEPT), "another node"),
        Rule(
            (
                *_frame(Kind.BEAT, Kind.BEAT, *entitled, *damped, *_constant()),
                *_renews(plan.damped_lease_ms),
            ),
            "the same while changes are damped: for longer",
        ),
        Rule(
            (
                *_frame(Kind.BEAT, Kind.BEAT, *entitled, *_constant()),
                *_renews(plan.lease_ms),
            ),
            "BEAT of an active node: forward and speak",
        ),
        Rule(
            (
                *_frame(Kind.LINGER, Kind.LINGER, *_has(LEASE)),
                Renew(LEASE, Change.UPDATE, plan.linger_ms),
                Renew(VOICE, Change.DELETE),
                _ACCEPT,
            ),
            "LINGER: silent, but forwards what still arrives",
        ),
        Rule(
            (
                *_frame(Kind.RESTARTING, Kind.RESTARTING, *_has(VOICE)),
                *_renews(plan.restarting_ms),
            ),
            "RESTARTING: an announced restart keeps the gate open",
        ),
        Rule(
            (
                *_frame(Kind.CLOSE, Kind.FAREWELL, *_constant()),
                Renew(LEASE, Change.DELETE),
                Renew(VOICE, Change.DELETE),
                _ACCEPT,
            ),
            "CLOSE, FAREWELL: closed at once",
        ),
        Rule((_ACCEPT,), "other frames change nothing"),
    )


def _arriving() -> tuple[Rule, ...]:
    request = _is(Payload(Base.NETWORK, 6, 2), b"\0\1")
    multicast = Mask(b"\xe0\0\0\0"), Compare(Relation.EQUAL, b"\xe0\0\0\0")
    ip, ip6 = _protocol(_IP), _protocol(_IP6)
    return (
        *_tagged(),
        Rule(
            (*_protocol(_ARP), *request, _ARP_TARGET, Lookup(SHARED4), _need_voice()),
            "who has a shared address?",
        ),
        Rule((*_icmp6(135), _ND_TARGET, Lookup(SHARED6), _need_voice()), "the same for IPv6"),
        Rule((*_has(LEASE), _ACCEPT), "all the rest, in an active node"),
        Rule((*ip, _IP_TARGET, Lookup(OWN4), _ACCEPT), "for this node"),
        Rule((*ip, _IP_TARGET, *multicast, _ACCEPT), "multicast and broadcast"),
        Rule((*ip, _DROP), "for the active node"),
        Rule((*ip6, _IP6_TARGET, Lookup(SHARED6), _DROP), "for the active node"),
        Rule((*ip6, _IP6_TARGET, Lookup(OWN6), _ACCEPT), "for this node"),
        Rule((*ip6, _IP6_TARGET, *_LINK_LOCAL, _ACCEPT), "never forwarded"),
        Rule((*ip6, *_is(Payload(Base.NETWORK, 24, 1), b"\xff"), _ACCEPT), "multicast"),
        Rule((*ip6, _DROP), "for the active node"),
        Rule((_ACCEPT,), "neither IP nor ARP: not forwarded by a router"),
    )


def _leaving() -> tuple[Rule, ...]:
    arp, ip, ip6 = _protocol(_ARP), _protocol(_IP), _protocol(_IP6)
    router = *_icmp6(134), *_not(_RA_LIFETIME, bytes(2))
    return (
        Rule((*_protocol(ETHERTYPE.to_bytes(2)), Verdict(Code.GOTO, "heartbeat"))),
        *_tagged(),
        Rule((*arp, _ARP_SENDER, Lookup(OWN4), _ACCEPT), "ARP of this node"),
        Rule((*arp, *_is(_ARP_SENDER, bytes(4)), _ACCEPT), "ARP probe of nobody"),
        Rule((*arp, _need_voice()), "ARP as a shared address"),
        Rule((*_icmp6(133, 137), _IP6_SOURCE, Lookup(SHARED6), _need_voice()), "ND, the same"),
        Rule((*_icmp6(136), _ND_TARGET, Lookup(SHARED6), _need_voice()), "answer for a shared one"),
        Rule((*router, _need_voice()), "only who forwards is a router; lifetime 0 may be said"),
        Rule((*_has(LEASE), _ACCEPT), "all the rest, from an active node"),
        Rule((*ip, _IP_SOURCE, Lookup(OWN4), _ACCEPT), "from this node"),
        Rule((*ip, *_is(_IP_SOURCE, bytes(4)), _ACCEPT), "from a node without an address"),
        Rule((*ip, _DROP), "forwarded, or as a shared address"),
        Rule((*ip6, _IP6_SOURCE, Lookup(SHARED6), _DROP), "as a shared address"),
        Rule((*ip6, _IP6_SOURCE, Lookup(OWN6), _ACCEPT), "from this node"),
        Rule((*ip6, *_is(_IP6_SOURCE, bytes(16)), _ACCEPT), "from a node without an address"),
        Rule((*ip6, _IP6_SOURCE, *_LINK_LOCAL, _ACCEPT), "never forwarded"),
        Rule((*ip6, _DROP), "forwarded"),
        Rule((_ACCEPT,), "neither IP nor ARP"),
    )
