# SPDX-License-Identifier: GPL-3.0-or-later
"""What addresses this machine has, and a bell that rings when devices or addresses change.

The gate service and stage enter, both at their leisure; heart has its own way to addresses
(`io.links`). Raw rtnetlink: one dump, one removal, one event socket. Nothing is put on here.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import dataclass

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.gate_rules import Address
from amaranten_ha.io.nft import attributes

_HEADER = struct.Struct("=IHHII")
_IFADDR = struct.Struct("=BBBBI")
_ERROR, _DONE = 2, 3
_NEW_ADDRESS, _DEL_ADDRESS, _GET_ADDRESS = 20, 21, 22
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_GROUPS = 0x1 | 0x10 | 0x100
"""Links, IPv4 addresses, IPv6 addresses."""
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_PERMANENT = 0x80
_RECEIVE_BYTES = 1 << 17
_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address on a device of this machine; `raw` is how the kernel told it."""

    device: str
    address: Address
    permanent: bool
    raw: bytes


def host_addresses() -> list[HostAddress]:
    """Every address of this machine."""
    names = dict(socket.if_nameindex())
    found: list[HostAddress] = []
    with _open() as channel:
        channel.send(_pack(_GET_ADDRESS, _DUMP, _IFADDR.pack(0, 0, 0, 0, 0)))
        while True:
            for kind, body in _split(channel.recv(_RECEIVE_BYTES)):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise KernelRefused(f"addresses cannot be listed: {_reason(body)}")
                if kind == _NEW_ADDRESS:
                    found.append(_decode(body, names))


def remove_address(gone: HostAddress) -> None:
    """Take one address off; one that is gone already is no error."""
    with _open() as channel:
        channel.send(_pack(_DEL_ADDRESS, _ACK, gone.raw))
        for kind, body in _split(channel.recv(_RECEIVE_BYTES)):
            code = -struct.unpack_from("=i", body)[0] if kind == _ERROR else 0
            if code not in (0, errno.EADDRNOTAVAIL, errno.ENODEV):
                raise KernelRefused(
                    f"{gone.address} cannot be taken off {gone.device}: {_reason(body)}"
                )


class HostEvents:
    """Readable whenever a link or an address of this machine changed."""

    def __init__(self) -> None:
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what rang; who asks reads the present state, so that lost events do no harm."""
        while True:
            try:
                self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelRefused(f"rtnetlink events: {error.strerror}") from None


def _decode(body: bytes, names: dict[int, str]) -> HostAddress:
    _family, _prefix, flags, _scope, index = _IFADDR.unpack_from(body)
    values = dict(attributes(body[_IFADDR.size :]))
    if _IFA_FLAGS in values:
        flags = struct.unpack("=I", values[_IFA_FLAGS])[0]
    packed = values.get(_IFA_LOCAL) or values[_IFA_ADDRESS]
    permanent = bool(flags & _PERMANENT)
    return HostAddress(names.get(index, str(index)), ipaddress.ip_address(packed), permanent, body)


def _open(groups: int = 0) -> socket.socket:
    channel = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    channel.bind((0, groups))
    channel.settimeout(_ANSWER_S)
    return channel


def _pack(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body


def _split(data: bytes) -> list[tuple[int, bytes]]:
    messages, position = [], 0
    while position + _HEADER.size <= len(data):
        length, kind, *_rest = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            break
        messages.append((kind, data[position + _HEADER.size : position + length]))
        position += (length + 3) & ~3
    return messages


def _reason(body: bytes) -> str:
    return os.strerror(-struct.unpack_from("=i", body)[0])
