# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw ctnetlink: dump the table, look one entry up, and change it in batches.

`sync` enters with bytes and gets bytes; what they mean is `core.flow`'s business. Changes go
through a socket of their own: the kernel stamps their events with its port id, and the event
socket (`io.events`) drops those. Nothing in here decides.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from amaranten_ha.core.command import Command, Verb
from amaranten_ha.core.errors import KernelRefused

CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102
EXPECT_NEW, EXPECT_GET, EXPECT_DELETE = 0x200, 0x201, 0x202
CREATE = 0x400
CREATE_EXCLUSIVE = 0x400 | 0x200
BATCH_MAX = 128

_NETFILTER = 12
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
NF_HEADER = struct.Struct("=BBH")
BODY_BYTES = _HEADER.size + NF_HEADER.size
_REPLY_BUFFER_BYTES = 1 << 20
RECEIVE_BYTES = 64 << 10
SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_CAP_ACK = 270, 10


_NF_V4, _NF_V6 = (NF_HEADER.pack(family, 0, 0) for family in (socket.AF_INET, socket.AF_INET6))


class Request(NamedTuple):
    """One change, of a connection or an expectation: kind, flags, address family, attributes."""

    kind: int
    flags: int
    family: int
    attributes: bytes

    def encode(self, sequence: int, *, last: bool) -> bytes:
        """Return the message; only the last one of a batch asks for an answer."""
        size = BODY_BYTES + len(self.attributes)
        flags = _REQUEST | self.flags | (_ACK if last else 0)
        header = _HEADER.pack(size, self.kind, flags, sequence, 0)
        return header + NF_HEADER.pack(self.family, 0, 0) + self.attributes


_REQUESTS = {
    verb: (
        CT_DELETE if verb in (Verb.DELETE, Verb.EVICT) else CT_NEW,
        _REQUEST | (CREATE_EXCLUSIVE if verb in (Verb.CREATE, Verb.CREATE_PLAIN) else 0),
    )
    for verb in Verb
}


class Table:
    """The kernel's connection table, for requests that are answered at once."""

    def __init__(self) -> None:
        self._socket = open_socket(0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _REPLY_BUFFER_BYTES)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self.port = self._socket.getsockname()[0]
        self._sequence = 0

    def change(self, requests: Sequence[Request]) -> dict[int, int]:
        """Make the changes in order; return the error numbers by index (silence is success)."""
        errors: dict[int, int] = {}
        for start in range(0, len(requests), BATCH_MAX):
            batch = requests[start : start + BATCH_MAX]
            first = self._sequence + 1
            encoded = [
                request.encode(first + index, last=index + 1 == len(batch))
                for index, request in enumerate(batch)
            ]
            for index, code in self._send(encoded).items():
                errors[start + index] = code
        return errors

    def apply(self, commands: Sequence[Command]) -> dict[int, int]:
        """Do what the passive's side asks for, likewise; this is the path that is walked most."""
        errors: dict[int, int] = {}
        header = _HEADER.pack
        for start in range(0, len(commands), BATCH_MAX):
            batch = commands[start : start + BATCH_MAX]
            sequence, last = self._sequence, len(batch) - 1
            encoded: list[bytes] = []
            for index, command in enumerate(batch):
                sequence += 1
                kind, flags = _REQUESTS[command.verb]
                attributes = command.attributes
                family = _NF_V4 if command.family == socket.AF_INET else _NF_V6
                if index == last:
                    flags |= _ACK
                size = BODY_BYTES + len(attributes)
                encoded += (header(size, kind, flags, sequence, 0), family, attributes)
            for index, code in self._send(encoded, len(batch)).items():
                errors[start + index] = code
        return errors

    def look_up(self, family: int, key: bytes) -> bytes | None:
        """Return the attributes of the entry that has this tuple, None if there is none."""
        self._sequence += 1
        self._socket.send(Request(CT_GET, 0, family, key).encode(self._sequence, last=False))
        while True:
            for kind, sequence, body in messages(self._socket.recv(RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if kind != _ERROR:
                    return body[NF_HEADER.size :]
                code = _code(body)
                if code == errno.ENOENT:
                    return None
                raise _refused("look-up of a connection", code)

    def look_up_all(self, requests: Sequence[tuple[int, bytes]]) -> list[bytes]:
        """Look up many, each a family and a key; return the attributes of what was found.

        Why one was not found is not told: who wants to know looks it up alone.
        """
        if not requests:
            return []
        first = self._sequence + 1
        encoded = [
            Request(CT_GET, 0, family, key).encode(first + index, last=False)
            for index, (family, key) in enumerate(requests)
        ]
        self._sequence += len(requests)
        self._socket.send(b"".join(encoded))
        found: list[bytes] = []
        waiting = len(requests)
        while waiting:
            for kind, sequence, body in messages(self._socket.recv(RECEIVE_BYTES)):
                if sequence < first:
                    continue
                waiting -= 1
                if kind != _ERROR:
                    found.append(body[NF_HEADER.size :])
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _send(self, encoded: Sequence[bytes], count: int = 0) -> dict[int, int]:
        """Send messages with the next sequence numbers, and return what was refused."""
        first = self._sequence + 1
        self._sequence += count or len(encoded)
        last = self._sequence
        self._socket.send(b"".join(encoded))
        errors: dict[int, int] = {}
        while True:
            for kind, sequence, body in messages(self._socket.recv(RECEIVE_BYTES)):
                if kind != _ERROR or not first <= sequence <= last:
                    continue
                code = _code(body)
                if code:
                    errors[sequence - first] = code
                if sequence == last:
                    return errors


class Dump:
    """A walk through the whole table, read in pieces at the reader's pace."""

    def __init__(self, kind: int = CT_GET) -> None:
        """Begin the walk; `kind` is CT_GET or EXPECT_GET."""
        self._socket = open_socket(0)
        request = Request(kind, _DUMP, socket.AF_UNSPEC, b"")
        self._socket.send(request.encode(1, last=False))
        self.done = False

    def read(self) -> list[bytes]:
        """Return the attributes of the next entries; sets `done` after the last."""
        found = []
        for kind, _sequence, body in messages(self._socket.recv(RECEIVE_BYTES)):
            if kind == _DONE:
                self.done = True
            elif kind == _ERROR:
                self.done = True
                raise _refused("dump of the connection table", _code(body))
            else:
                found.append(body[NF_HEADER.size :])
        if self.done:
            self._socket.close()
        return found

    def close(self) -> None:
        """End the walk early."""
        self._socket.close()


class Revisit:
    """A walk through entries that are known: each of them is looked up.

    In place of a `Dump`, which goes through all buckets of the kernel's hash without a pause: while
    it finds nothing to fill its buffer with, its processor takes no packet and runs no other
    process (12 ms for 262 144 buckets and 100 entries).
    """

    def __init__(self, table: Table, requests: Sequence[tuple[int, bytes]]) -> None:
        """Begin the walk; each entry is given by its family and its key."""
        self._table = table
        self._requests = requests
        self._next = 0

    @property
    def done(self) -> bool:
        """All were looked up."""
        return self._next >= len(self._requests)

    def read(self) -> list[bytes]:
        """Return the attributes of the next entries that still exist."""
        piece = self._requests[self._next : self._next + BATCH_MAX]
        self._next += len(piece)
        return self._table.look_up_all(piece)

    def close(self) -> None:
        """End the walk early."""
        self._next = len(self._requests)


Reader = Dump | Revisit
"""A walk through the table, whole or through what is known."""


def open_socket(groups: int) -> socket.socket:
    """Return a ctnetlink socket that hears these groups."""
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        opened.bind((0, groups))
    except OSError as error:
        raise _refused("a ctnetlink socket", error.errno or 0) from None
    return opened


def _code(body: bytes) -> int:
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def _refused(what: str, code: int) -> KernelRefused:
    hint = ": is the module nf_conntrack_netlink missing?" if code == errno.EINVAL else ""
    return KernelRefused(f"{what}: {os.strerror(code)}{hint}")


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, sequence number and body of each netlink message."""
    start = 0
    while start + _HEADER.size <= len(data):
        size, kind, _flags, sequence, _port = _HEADER.unpack_from(data, start)
        if size < _HEADER.size:
            return
        yield kind, sequence, data[start + _HEADER.size : start + size]
        start += (size + 3) & ~3
