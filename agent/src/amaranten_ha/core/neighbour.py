# SPDX-License-Identifier: GPL-3.0-or-later
"""A neighbour entry as bytes: on which logical interface, which address, which MAC.

Both sides enter with what rtnetlink says. Devices have other names and numbers on the other node,
so an entry travels under the number of its logical interface. Only what was learned by ARP or
neighbour discovery is worth telling; what an administrator wrote down is on both nodes already.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from amaranten_ha.core import tlv
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.flow import AF_INET, AF_INET6
from amaranten_ha.core.vital import Item

COUNT_MAX = 512
"""Linux keeps 1024 of a family and begins to collect old ones at 512, on every machine alike."""
REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT = 0x02, 0x04, 0x08, 0x10, 0x40, 0x80
_LEARNED = REACHABLE | STALE | DELAY | PROBE
_FIXED = NOARP | PERMANENT
_FRESH = REACHABLE | DELAY | PROBE
_HEAD = struct.Struct("=BxxxiHBB")
_DST, _LLADDR, _CACHE = 1, 2, 3
_PROXY = 0x08
_LINK = struct.Struct(">H")
_MAC_BYTES = 6


class Neighbour(NamedTuple):
    """One row of the kernel's table."""

    device: int
    """Its number in this kernel."""
    address: bytes
    mac: bytes
    state: int
    used: int
    """How long ago it was used, in the kernel's ticks."""

    @property
    def learned(self) -> bool:
        """It was learned from the network and can be used."""
        return bool(self.state & _LEARNED) and len(self.mac) == _MAC_BYTES and any(self.mac)

    def yields(self, mac: bytes) -> bool:
        """Say whether this row of the own table may be replaced by what the peer knows."""
        if self.state & _FIXED:
            return False
        return not (self.state & _FRESH) or self.mac == mac


def read(body: bytes) -> Neighbour | None:
    """Read a message of rtnetlink; None for what is no neighbour of a host."""
    if len(body) < _HEAD.size:
        return None
    family, index, state, flags, _kind = _HEAD.unpack_from(body)
    if family not in (AF_INET, AF_INET6) or flags & _PROXY:
        return None
    found = dict(tlv.walk(body[_HEAD.size :]))
    address, cache = found.get(_DST, b""), found.get(_CACHE, b"")
    if len(address) not in (4, 16):
        return None
    used = int(struct.unpack_from("=II", cache)[1]) if len(cache) >= 8 else 0
    return Neighbour(index, address, found.get(_LLADDR, b""), state, used)


def message(row: Neighbour) -> bytes:
    """Return the row as the body of a request."""
    family = AF_INET if len(row.address) == 4 else AF_INET6
    return (
        _HEAD.pack(family, row.device, row.state, 0, 0)
        + tlv.attribute(_DST, row.address)
        + (tlv.attribute(_LLADDR, row.mac) if row.mac else b"")
    )


def key(link: int, address: bytes) -> bytes:
    """Return what identifies a neighbour on both nodes."""
    return _LINK.pack(link) + address


def unpacked(item: Item) -> tuple[int, bytes, bytes]:
    """Return the number of the logical interface, address and MAC; raises PeerError."""
    if len(item.key) not in (6, 18) or len(item.value) != _MAC_BYTES or item.value[0] & 1:
        raise PeerError("a neighbour is an interface, an address and the MAC of one host")
    return _LINK.unpack_from(item.key)[0], item.key[2:], item.value


def by_link(known: Mapping[bytes, bytes], count_max: int) -> dict[str, list[str]]:
    """Return an address of each of so many hosts at most on each logical interface, as text.

    One host with many addresses is one witness only. Addresses that a host keeps come first:
    those of IPv4, then global ones, then link-local ones, which also switches and bridges have.
    """
    hosts: dict[int, dict[bytes, ipaddress.IPv4Address | ipaddress.IPv6Address]] = {}
    for each, mac in sorted(known.items(), key=lambda item: _rank(item[0])):
        address = ipaddress.ip_address(each[_LINK.size :])
        hosts.setdefault(_LINK.unpack_from(each)[0], {}).setdefault(mac, address)
    return {
        str(link): [str(address) for address in islice(found.values(), count_max)]
        for link, found in hosts.items()
    }


def _rank(known: bytes) -> tuple[int, bool, bytes]:
    address = ipaddress.ip_address(known[_LINK.size :])
    return address.version, address.is_link_local, known
