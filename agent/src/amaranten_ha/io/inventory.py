# SPDX-License-Identifier: GPL-3.0-or-later
"""What addresses this machine has, and a bell that rings when devices or addresses change.

The gate service, stage and sync enter, at their leisure; heart puts addresses on and off in its own
way (`io.links`). One dump, one removal, one event socket. Nothing is put on here.
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
from amaranten_ha.core.tlv import walk
from amaranten_ha.io import rtnetlink

_GROUPS = 0x1 | 0x10 | 0x100
"""Links, IPv4 addresses, IPv6 addresses."""
_PERMANENT = 0x80
_FLAGS = struct.Struct("=I")


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
    everything = rtnetlink.ADDRESS.pack(0, 0, 0, 0, 0)
    with rtnetlink.connect() as channel:
        answers = list(rtnetlink.dump(channel, rtnetlink.GET_ADDRESS, everything))
    return [_decode(body, names) for kind, body in answers if kind == rtnetlink.NEW_ADDRESS]


def remove_address(gone: HostAddress) -> None:
    """Take one address off; one that is gone already is no error."""
    with rtnetlink.connect() as channel:
        channel.send(rtnetlink.message(rtnetlink.DEL_ADDRESS, rtnetlink.ACK, gone.raw))
        for kind, _sequence, body in rtnetlink.split(channel.recv(rtnetlink.RECEIVE_BYTES)):
            code = rtnetlink.error_of(body) if kind == rtnetlink.ERROR else 0
            if code not in (0, errno.EADDRNOTAVAIL, errno.ENODEV):
                raise KernelRefused(
                    f"{gone.address} cannot be taken off {gone.device}: {os.strerror(code)}"
                )


class HostEvents:
    """Readable whenever a link or an address of this machine changed."""

    def __init__(self) -> None:
        self._socket = rtnetlink.connect(_GROUPS)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what rang; who asks reads the present state, so that lost events do no harm."""
        while True:
            try:
                self._socket.recv(rtnetlink.RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelRefused(f"rtnetlink events: {error.strerror}") from None


def _decode(body: bytes, names: dict[int, str]) -> HostAddress:
    _family, _prefix, flags, _scope, index = rtnetlink.unpack(rtnetlink.ADDRESS, body)
    values = dict(walk(body[rtnetlink.ADDRESS.size :]))
    if rtnetlink.IFA_FLAGS in values:
        flags = rtnetlink.unpack(_FLAGS, values[rtnetlink.IFA_FLAGS])[0]
    packed = values.get(rtnetlink.IFA_LOCAL) or values.get(rtnetlink.IFA_ADDRESS, b"")
    if len(packed) not in (4, 16):
        raise KernelRefused(f"rtnetlink: an address of {len(packed)} bytes")
    permanent = bool(flags & _PERMANENT)
    return HostAddress(names.get(index, str(index)), ipaddress.ip_address(packed), permanent, body)
