# SPDX-License-Identifier: GPL-3.0-or-later
"""Network devices and shared addresses through raw rtnetlink: what is there, and three verbs.

Heart enters: `Links` tells which device is which and whether it has carrier; `Addresses` puts the
shared addresses on with one prebuilt send and takes them off with another. The shared addresses
are /32 and /128 without duplicate address detection, and IPv6 ones are deprecated for use as a
source, so that a node's own traffic keeps its own address.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from amaranten_ha.core.tlv import attribute, walk
from amaranten_ha.io import rtnetlink

_GROUPS = 0x1 | 0x10 | 0x100
"""Links and addresses: a network manager that takes a shared address off is noticed at once."""
_IFLA_IFNAME = 3
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_FOREVER = 0xFFFFFFFF
_IFINFO = struct.Struct("=BxHiII")

SharedAddress = tuple[int, bytes]
"""Index of the device, packed address."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the kernel has it now."""

    name: str
    index: int
    carrier: bool


class Links:
    """The devices that carry our logical interfaces, kept up to date by the kernel's events."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._events = rtnetlink.connect(_GROUPS)
        self._events.setblocking(False)
        self.devices: dict[str, Device] = {}
        self.reload()

    def fileno(self) -> int:
        """Return the descriptor of the event socket."""
        return self._events.fileno()

    def reload(self) -> None:
        """Read all devices anew; for the start, and after events were lost."""
        self.devices.clear()
        with rtnetlink.connect() as channel:
            for kind, payload in rtnetlink.dump(
                channel, rtnetlink.GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0)
            ):
                self._take(kind, payload)

    def drain(self) -> bool:
        """Take in what the kernel told of devices; True if it told anything, of addresses too."""
        changed = False
        while True:
            try:
                data = self._events.recv(rtnetlink.RECEIVE_BYTES)
            except BlockingIOError:
                return changed
            except OSError:
                self.reload()
                return True
            changed = True
            for kind, _sequence, payload in rtnetlink.split(data):
                self._take(kind, payload)

    def _take(self, kind: int, payload: bytes) -> None:
        if kind not in (rtnetlink.NEW_LINK, rtnetlink.DEL_LINK):
            return
        family, _type, index, flags, _change = rtnetlink.unpack(_IFINFO, payload)
        if family != socket.AF_UNSPEC:
            return
        names = [value for key, value in walk(payload[16:]) if key == _IFLA_IFNAME]
        name = names[0].rstrip(b"\0").decode(errors="replace") if names else ""
        stale = [each.name for each in self.devices.values() if each.index == index]
        for old in stale:
            if old != name or kind == rtnetlink.DEL_LINK:
                del self.devices[old]
        if kind == rtnetlink.NEW_LINK and name in self._names:
            carrier = bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)
            self.devices[name] = Device(name, index, carrier)


class Addresses:
    """The shared addresses on this node: on, off, and what is there."""

    def __init__(self) -> None:
        self._channel = rtnetlink.connect()

    def put_on(self, wanted: Iterable[SharedAddress]) -> list[str]:
        """Put all addresses on with one send; return the kernel's refusals in words."""
        return self._send(wanted, rtnetlink.NEW_ADDRESS, rtnetlink.CREATE | rtnetlink.REPLACE, ())

    def take_off(self, wanted: Iterable[SharedAddress]) -> list[str]:
        """Take all addresses off with one send; an address that is not there is no refusal."""
        return self._send(wanted, rtnetlink.DEL_ADDRESS, 0, (99, 19))

    def present(self) -> set[SharedAddress]:
        """Return all addresses of full prefix length that the kernel has.

        One family after the other: newer kernels answer that without the lock under which others
        change the network, and a question for every family waits for it (7 ms and more were seen).
        """
        found: set[SharedAddress] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = rtnetlink.ADDRESS.pack(family, 0, 0, 0, 0)
            answers = rtnetlink.dump(self._channel, rtnetlink.GET_ADDRESS, asked)
            found.update(filter(None, map(_full, answers)))
        return found

    def _send(
        self, wanted: Iterable[SharedAddress], request: int, flags: int, tolerated: tuple[int, ...]
    ) -> list[str]:
        batch = list(wanted)
        if not batch:
            return []
        self._channel.send(
            b"".join(
                rtnetlink.message(request, flags | rtnetlink.ACK, _address(index, packed), number)
                for number, (index, packed) in enumerate(batch)
            )
        )
        refusals, waiting = [], len(batch)
        while waiting:
            for kind, sequence, payload in rtnetlink.split(
                self._channel.recv(rtnetlink.RECEIVE_BYTES)
            ):
                if kind != rtnetlink.ERROR:
                    continue
                waiting -= 1
                code = rtnetlink.error_of(payload)
                if code and code not in tolerated:
                    packed = batch[sequence][1]
                    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
                    text = socket.inet_ntop(family, packed)
                    refusals.append(f"shared address {text}: {os.strerror(code)}")
        return refusals


def _full(answer: tuple[int, bytes]) -> SharedAddress | None:
    """Read one answer of the kernel; None for an address of a shorter prefix."""
    _family, prefix, _flags, _scope, index = rtnetlink.unpack(rtnetlink.ADDRESS, answer[1])
    values = dict(walk(answer[1][rtnetlink.ADDRESS.size :]))
    packed = values.get(rtnetlink.IFA_LOCAL) or values.get(rtnetlink.IFA_ADDRESS)
    return (index, packed) if packed and prefix == 8 * len(packed) else None


def _address(index: int, packed: bytes) -> bytes:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    flags = _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE
    body = rtnetlink.ADDRESS.pack(family, 8 * len(packed), flags & 0xFF, 0, index)
    body += attribute(rtnetlink.IFA_LOCAL, packed) + attribute(rtnetlink.IFA_ADDRESS, packed)
    body += attribute(rtnetlink.IFA_FLAGS, struct.pack("=I", flags))
    if family == socket.AF_INET6:
        body += attribute(rtnetlink.IFA_CACHEINFO, struct.pack("=IIII", 0, _FOREVER, 0, 0))
    return body
