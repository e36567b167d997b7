# SPDX-License-Identifier: GPL-3.0-or-later
"""Network devices and shared addresses through raw rtnetlink: what is there, and three verbs.

Heart enters: `Links` tells which device is which and whether it has carrier; `Addresses` puts the
shared addresses on with one prebuilt send and takes them off with another. The shared addresses
are /32 and /128 without duplicate address detection, and IPv6 ones are deprecated for use as a
source, so that a node's own traffic keeps its own address.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from amaranten_ha.core.errors import KernelRefused

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP, _REPLACE, _CREATE = 1, 4, 0x300, 0x100, 0x400
_RTMGRP_LINK = 1
_IFLA_IFNAME, _IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 3, 1, 2, 6, 8
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_FOREVER = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RECEIVE_BYTES = 65536

SharedAddress = tuple[int, bytes]
"""Index of the device, packed address."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the kernel has it now."""

    name: str
    index: int
    carrier: bool


def _open(groups: int = 0) -> socket.socket:
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.bind((0, groups))
    return channel


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return _HEADER.pack(16 + len(body), kind, _REQUEST | flags, sequence, 0) + body


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    position = 0
    while position + 16 <= len(data):
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(data, position)
        yield kind, sequence, data[position + 16 : position + length]
        position += (length + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        if length < 4:
            return
        yield kind & 0x3FFF, data[position + 4 : position + length]
        position += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value.ljust((len(value) + 3) & ~3, b"\0")


def _dump(channel: socket.socket, request: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    channel.send(_message(request, _DUMP, 1, body))
    while True:
        for kind, _sequence, payload in _messages(channel.recv(_RECEIVE_BYTES)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                raise KernelRefused(f"rtnetlink dump: {os.strerror(code)}")
            yield kind, payload


class Links:
    """The devices that carry our logical interfaces, kept up to date by the kernel's events."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._events = _open(_RTMGRP_LINK)
        self._events.setblocking(False)
        self.devices: dict[str, Device] = {}
        self.reload()

    def fileno(self) -> int:
        """Return the descriptor of the event socket."""
        return self._events.fileno()

    def reload(self) -> None:
        """Read all devices anew; for the start, and after events were lost."""
        self.devices.clear()
        with contextlib.closing(_open()) as channel:
            for kind, payload in _dump(channel, _RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
                self._take(kind, payload)

    def drain(self) -> bool:
        """Take in what the kernel told; True if there was anything."""
        changed = False
        while True:
            try:
                data = self._events.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return changed
            except OSError:
                self.reload()
                return True
            changed = True
            for kind, _sequence, payload in _messages(data):
                self._take(kind, payload)

    def _take(self, kind: int, payload: bytes) -> None:
        if kind not in (_RTM_NEWLINK, _RTM_DELLINK):
            return
        family, _type, index, flags, _change = _IFINFO.unpack_from(payload)
        if family != socket.AF_UNSPEC:
            return
        names = [value for key, value in _attributes(payload[16:]) if key == _IFLA_IFNAME]
        name = names[0].rstrip(b"\0").decode() if names else ""
        stale = [each.name for each in self.devices.values() if each.index == index]
        for old in stale:
            if old != name or kind == _RTM_DELLINK:
                del self.devices[old]
        if kind == _RTM_NEWLINK and name in self._names:
            carrier = bool(flags & _IFF_UP and flags & _IFF_LOWER_UP)
            self.devices[name] = Device(name, index, carrier)


class Addresses:
    """The shared addresses on this node: on, off, and what is there."""

    def __init__(self) -> None:
        self._channel = _open()

    def put_on(self, wanted: Iterable[SharedAddress]) -> list[str]:
        """Put all addresses on with one send; return the kernel's refusals in words."""
        return self._send(wanted, _RTM_NEWADDR, _CREATE | _REPLACE, ())

    def take_off(self, wanted: Iterable[SharedAddress]) -> list[str]:
        """Take all addresses off with one send; an address that is not there is no refusal."""
        return self._send(wanted, _RTM_DELADDR, 0, (99, 19))

    def present(self) -> set[SharedAddress]:
        """Return all addresses of full prefix length that the kernel has."""
        found = set()
        for _kind, payload in _dump(self._channel, _RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            _family, prefix, _flags, _scope, index = _IFADDR.unpack_from(payload)
            values = dict(_attributes(payload[8:]))
            packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if packed and prefix == 8 * len(packed):
                found.add((index, packed))
        return found

    def _send(
        self, wanted: Iterable[SharedAddress], request: int, flags: int, tolerated: tuple[int, ...]
    ) -> list[str]:
        batch = list(wanted)
        if not batch:
            return []
        self._channel.send(
            b"".join(
                _message(request, flags | _ACK, number, _address(index, packed))
                for number, (index, packed) in enumerate(batch)
            )
        )
        refusals, waiting = [], len(batch)
        while waiting:
            for kind, sequence, payload in _messages(self._channel.recv(_RECEIVE_BYTES)):
                if kind != _NLMSG_ERROR:
                    continue
                waiting -= 1
                code = -struct.unpack_from("=i", payload)[0]
                if code and code not in tolerated:
                    packed = batch[sequence][1]
                    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
                    text = socket.inet_ntop(family, packed)
                    refusals.append(f"shared address {text}: {os.strerror(code)}")
        return refusals


def _address(index: int, packed: bytes) -> bytes:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    flags = _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE
    body = _IFADDR.pack(family, 8 * len(packed), flags & 0xFF, 0, index)
    body += _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    body += _attribute(_IFA_FLAGS, struct.pack("=I", flags))
    if family == socket.AF_INET6:
        body += _attribute(_IFA_CACHEINFO, struct.pack("=IIII", 0, _FOREVER, 0, 0))
    return body
