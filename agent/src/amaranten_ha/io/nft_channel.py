# SPDX-License-Identifier: GPL-3.0-or-later
"""A netlink socket to nf_tables: one transaction, some questions, one dump.

The kernel answers inside the call that asks, so nothing here waits, except that a transaction
queues behind the transactions of others. The gate service's socket owns the table by its port
number; heart's only asks. No message's inside is known here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.io.nft import Request

_NETFILTER = 12
_NETDEV_FAMILY = 5
_NF_TABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ERROR, _DONE = 2, 3
_REQUEST, _MULTI, _ACK, _INTERRUPTED = 1, 2, 4, 0x10
_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct(">BBH")
_PREFIX = _HEADER.size + _FAMILY.size
_RECEIVE_BYTES = 1 << 17
_BUFFER_BYTES = 1 << 21
_NEW_GENERATION = 15
_GROUP_NFTABLES = 7
_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_ATTACH_FILTER = 270, 1, 26
_EVENTS_MAX = 64
_ONLY_GENERATIONS = b"".join(
    struct.pack("=HBBI", *line)
    for line in (
        (0x28, 0, 0, 4),  # nlmsg_type as the network would write it
        (0x15, 0, 1, int.from_bytes(struct.pack("=H", _NF_TABLES << 8 | _NEW_GENERATION))),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )
)
_SO_PROTOCOL, _SO_DOMAIN, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 38, 39, 32, 33


class Refused(KernelRefused):
    """The kernel refused one request; `index` is its place in the batch, -1 for all of it."""

    def __init__(self, what: str, code: int, index: int = -1) -> None:
        super().__init__(f"{what}: {os.strerror(code)}")
        self.code, self.index = code, index


class RulesetEvents:
    """Readable after each transaction on any ruleset: of ours, of the operator, of a stranger.

    A filter in the kernel lets only the notice of a new generation through, so that a ruleset of
    thousands of rules rings once.
    """

    def __init__(self) -> None:
        self._socket = _open()
        self._socket.setblocking(False)
        code = ctypes.create_string_buffer(_ONLY_GENERATIONS, len(_ONLY_GENERATIONS))
        lines = len(_ONLY_GENERATIONS) // 8
        program = struct.pack("HxxxxxxP", lines, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Say whether it rang, and forget it; lost events ring, too."""
        rang = False
        for _event in range(_EVENTS_MAX):
            try:
                self._socket.recv(64)
            except BlockingIOError:
                return rang
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise Refused("nf_tables events", error.errno or errno.EIO) from None
            rang = True
        return rang

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Channel:
    """A socket to nf_tables; `port` is what the kernel knows its owner by."""

    def __init__(self, adopted: int | None = None) -> None:
        """Open a socket, or adopt the descriptor of one that survived its process."""
        if adopted is None:
            self._socket = _open()
        else:
            self._socket = _adopt(adopted)
        self._socket.setblocking(False)
        self._sequence = 0
        self._buffer = bytearray(_RECEIVE_BYTES)
        self.port: int = self._socket.getsockname()[0]
        for _message in self._messages():
            pass

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this process's descriptor; the kernel's socket may live on in another's."""
        self._socket.close()

    def transact(self, requests: Sequence[Request], family: int = _NETDEV_FAMILY) -> None:
        """Have all requests done in one transaction, or none: then raise `Refused`."""
        first = self._sequence + 1
        self._sequence += len(requests) + 2
        batch = [_pack(_BATCH_BEGIN, _REQUEST, first, b"", resource=_NF_TABLES)]
        for number, (kind, flags, body) in enumerate(requests, first + 1):
            last = _ACK if number == first + len(requests) else 0
            kind, flags = _NF_TABLES << 8 | kind, _REQUEST | flags | last
            batch.append(_pack(kind, flags, number, body, family=family))
        batch.append(_pack(_BATCH_END, _REQUEST, self._sequence, b"", resource=_NF_TABLES))
        self._send(b"".join(batch))
        done = False
        refusal: Refused | None = None
        for kind, _flags, sequence, body in self._messages():
            if kind != _ERROR or not first <= sequence <= self._sequence:
                continue
            code = _error_of(body)
            if code and refusal is None:
                index = sequence - first - 1
                refusal = Refused("nf_tables transaction", code, index)
            done = done or not code
        if refusal is not None:
            raise refusal
        if not done:
            raise Refused("nf_tables transaction, which the kernel did not confirm", errno.EIO)

    def ask(self, requests: Sequence[Request], family: int = _NETDEV_FAMILY) -> list[bytes | None]:
        """Ask all with one send; the answer to what does not exist is None."""
        first = self._sequence + 1
        self._sequence += len(requests)
        self._send(
            b"".join(
                _pack(_NF_TABLES << 8 | kind, _REQUEST | flags, number, body, family=family)
                for number, (kind, flags, body) in enumerate(requests, first)
            )
        )
        answers: dict[int, bytes | None] = {}
        for kind, _flags, sequence, body in self._messages():
            if not first <= sequence <= self._sequence:
                continue
            if kind == _ERROR:
                code = _error_of(body)
                if code not in (0, errno.ENOENT):
                    raise Refused("nf_tables question", code, sequence - first)
                answers.setdefault(sequence, None)
            else:
                answers[sequence] = body
        if len(answers) < len(requests):
            raise Refused("nf_tables question, which the kernel did not answer", errno.EIO)
        return [answers.get(first + index) for index in range(len(requests))]

    def dump(self, request: Request, family: int = _NETDEV_FAMILY) -> tuple[list[bytes], bool]:
        """Return all objects that the request selects, and whether nothing changed meanwhile."""
        kind, flags, body = request
        self._sequence += 1
        kind = _NF_TABLES << 8 | kind
        self._send(_pack(kind, _REQUEST | flags, self._sequence, body, family=family))
        found: list[bytes] = []
        steady = True
        for kind, flags, sequence, body in self._messages():
            if sequence != self._sequence:
                continue
            steady = steady and not flags & _INTERRUPTED
            if kind == _DONE:
                return found, steady
            if kind == _ERROR:
                code = _error_of(body)
                if code == errno.ENOENT:
                    return [], False
                raise Refused("nf_tables dump", code)
            found.append(body)
        raise Refused("nf_tables dump, which the kernel did not finish", errno.EIO)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise Refused("nf_tables request", error.errno or errno.EIO) from None

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        """All messages that are there: type, flags, sequence, body."""
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                raise Refused("nf_tables answer", error.errno or errno.EIO) from None
            yield from _split(bytes(self._buffer[:size]))


def _error_of(body: bytes) -> int:
    return -int.from_bytes(body[:4], sys.byteorder, signed=True)


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        skip = _HEADER.size if kind in (_ERROR, _DONE) else _PREFIX
        yield kind, flags, sequence, data[position + skip : position + length]
        position += (length + 3) & ~3


def _pack(
    kind: int,
    flags: int,
    sequence: int,
    body: bytes,
    resource: int = 0,
    family: int = _NETDEV_FAMILY,
) -> bytes:
    family = family if not resource else 0
    return (
        _HEADER.pack(_PREFIX + len(body), kind, flags, sequence, 0)
        + _FAMILY.pack(family, 0, resource)
        + body
    )


def _open() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        channel = socket.socket(socket.AF_NETLINK, kind, _NETFILTER)
        channel.bind((0, 0))
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            channel.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    except OSError as error:
        raise KernelRefused(f"nf_tables cannot be reached: {error.strerror}") from None
    return channel


def _adopt(descriptor: int) -> socket.socket:
    """Take over a stored descriptor; the caller keeps one that is of another kind."""
    try:
        channel = socket.socket(fileno=descriptor)
    except OSError:
        raise _wrong_kind(descriptor) from None
    kind = [channel.getsockopt(socket.SOL_SOCKET, each) for each in (_SO_DOMAIN, _SO_PROTOCOL)]
    if kind != [socket.AF_NETLINK, _NETFILTER]:
        channel.detach()
        raise _wrong_kind(descriptor)
    return channel


def _wrong_kind(descriptor: int) -> KernelRefused:
    return KernelRefused(f"descriptor {descriptor} from the store is no nf_tables socket")
