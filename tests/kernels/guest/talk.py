# SPDX-License-Identifier: GPL-3.0-or-later
"""Two ends of a datagram: a mouth that speaks from one machine, an ear that listens on another.

The ear remembers everything, so that a check may ask at the end whether something that must not
arrive did arrive before something that had to.
"""

from __future__ import annotations

import select
import socket
import time

from .net import Net

PORT = 7777
LATE_S = 10.0


class Ear:
    """A UDP socket on one machine that remembers what it heard."""

    def __init__(self, where: Net, family: int = socket.AF_INET, port: int = PORT) -> None:
        with where:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.bind(("", port))
        self.sources: dict[bytes, str] = {}

    def join(self, group: str, own: str) -> None:
        """Listen to an IPv4 multicast group on the device of an own address."""
        both = socket.inet_aton(group) + socket.inet_aton(own)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, both)

    def heard(self, text: bytes) -> bool:
        """Whether ``text`` has arrived up to now."""
        while select.select([self._socket], [], [], 0)[0]:
            data, source = self._socket.recvfrom(2048)
            self.sources[data] = source[0]
        return text in self.sources

    def hears(self, text: bytes) -> None:
        """Wait until ``text`` has arrived."""
        deadline = time.monotonic() + LATE_S
        while not self.heard(text):
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{text!r} did not arrive within {LATE_S:.0f} s")
            select.select([self._socket], [], [], left)


class Mouth:
    """A UDP socket on one machine that speaks from a given address."""

    def __init__(self, where: Net, source: str = "", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self._where = where
        with where:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            self._socket.bind((source, port))

    def says(self, text: bytes, target: str, port: int = PORT) -> None:
        with self._where:  # the name of a device in the target means one of this machine
            where = socket.getaddrinfo(target, port, type=socket.SOCK_DGRAM)[0][4]
        self._socket.sendto(text, where)
