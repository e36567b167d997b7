# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole TCP life cycles and UDP flows as frames, faster than sockets could make them.

Tests and measurements of replication enter. The frames go into a router's `lan` and `wan` from the
client's and the server's namespace; the hosts behind the addresses do not exist, so nobody answers
but us: every packet of both ends is written here.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterable, Iterator

from sync_netns import Namespace
from sync_pair import NOBODY, SHARED_WAN, Node, Pair

SYN, ACK, FIN, RST = 0x02, 0x10, 0x01, 0x04
HOSTS = 64
_MAC_OF_NOBODY = bytes.fromhex("020000000099")


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _frame(mac: str, source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, source,
                       target)  # fmt: skip
    head = head[:10] + struct.pack("!H", _sum(head)) + head[12:]
    ether = bytes.fromhex(mac.replace(":", "")) + _MAC_OF_NOBODY + b"\x08\x00"
    return ether + head + body


def _tcp(source: bytes, target: bytes, ports: tuple[int, int], flags: int, numbers: tuple[int, int],
         options: bytes = b"") -> bytes:  # fmt: skip
    offset = (20 + len(options)) // 4 << 4
    body = struct.pack("!HHIIBBHHH", *ports, *numbers, offset, flags, 65535, 0, 0) + options
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(body))
    return body[:16] + struct.pack("!H", _sum(pseudo + body)) + body[18:]


_SYN_OPTIONS = bytes([2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 0, 0])


class Traffic:
    """Writes both ends of connections through one router of the pair."""

    def __init__(self, pair: Pair, node: Node) -> None:
        self._near = _sender(pair.client, "lan")
        self._far = _sender(pair.server, "wan")
        self._lan, self._wan = node.mac["lan"], node.mac["wan"]
        self._target = socket.inet_aton(NOBODY)
        self._shared = socket.inet_aton(SHARED_WAN)
        for each in (pair.a, pair.b):
            orders = "".join(
                f"neigh replace {_host(number)} lladdr 02:00:00:00:00:99 dev lan nud permanent\n"
                for number in range(HOSTS)
            )
            each.run("ip", "-batch", "-", stdin=orders)

    def tcp(self, number: int) -> tuple[Iterator[tuple[bool, bytes]], ...]:
        """Return the frames that open and those that close connection `number`."""
        source, ports = _host_bytes(number), _ports(number)
        return self._opening(source, ports), self._closing(source, ports)

    def _opening(self, source: bytes, ports: tuple[int, int]) -> Iterator[tuple[bool, bytes]]:
        yield True, self._out(source, ports, SYN, (1000, 0), _SYN_OPTIONS)
        yield False, self._back(ports, SYN | ACK, (5000, 1001), _SYN_OPTIONS)
        yield True, self._out(source, ports, ACK, (1001, 5001))

    def _closing(self, source: bytes, ports: tuple[int, int]) -> Iterator[tuple[bool, bytes]]:
        yield True, self._out(source, ports, FIN | ACK, (1001, 5001))
        yield False, self._back(ports, FIN | ACK, (5001, 1002))
        yield True, self._out(source, ports, ACK, (1002, 5002))

    def _out(self, source: bytes, ports: tuple[int, int], flags: int, numbers: tuple[int, int],
             options: bytes = b"") -> bytes:  # fmt: skip
        body = _tcp(source, self._target, ports, flags, numbers, options)
        return _frame(self._lan, source, self._target, 6, body)

    def _back(self, ports: tuple[int, int], flags: int, numbers: tuple[int, int],
              options: bytes = b"") -> bytes:  # fmt: skip
        body = _tcp(self._target, self._shared, ports[::-1], flags, numbers, options)
        return _frame(self._wan, self._target, self._shared, 6, body)

    def udp(self, number: int) -> tuple[bool, bytes]:
        """Return the one frame that begins UDP flow `number`."""
        source, ports = _host_bytes(number), _ports(number)
        body = struct.pack("!HHHH", *ports, 8, 0)
        return True, _frame(self._lan, source, self._target, 17, body)

    def send(self, frames: Iterable[tuple[bool, bytes]]) -> None:
        """Send frames from the near or the far side."""
        near, far = self._near.send, self._far.send
        for is_near, frame in frames:
            (near if is_near else far)(frame)

    def close(self) -> None:
        """Close the sockets."""
        self._near.close()
        self._far.close()


def paced(per_second: int, seconds: float, step: int = 50) -> Iterator[int]:
    """Yield numbers at a rate, in steps; late steps are made up for."""
    began, count = time.monotonic(), 0
    while count < per_second * seconds:
        due = int((time.monotonic() - began) * per_second)
        if due - count < step:
            time.sleep(step / per_second / 4)
            continue
        yield from range(count, due)
        count = due


def _ports(number: int) -> tuple[int, int]:
    """Own ports for each connection, so that none of them has to be changed."""
    return 1024 + number % 60_000, 443 + number // 60_000


def _host(number: int) -> str:
    return f"10.71.1.{120 + number % HOSTS}"


def _host_bytes(number: int) -> bytes:
    return socket.inet_aton(_host(number))


def _sender(inside: Namespace, device: str) -> socket.socket:
    with inside.inside():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind((device, 0))
    return made


@contextlib.contextmanager
def unheard(pair: Pair, ports: range) -> Iterator[None]:
    """Begin a flow to nobody at each of these ports while A's service is stopped.

    None of them ends before the test leaves, and what was reported before is forgotten.
    """
    timeout = "net.netfilter.nf_conntrack_udp_timeout"
    pair.a.run("sysctl", "-qw", f"{timeout}=600")
    with pair.a.still(), pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            sender.sendto(b"x", (NOBODY, port))
        for node in (pair.a, pair.b):
            node.forget_reports()
    try:
        yield
    finally:
        pair.a.run("sysctl", "-qw", f"{timeout}=30")
