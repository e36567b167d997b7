# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces for tests, and live connections with both ends in the test's hand.

Tests of replication enter. Names begin with `sy`; whoever makes a namespace removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator

from amaranten_ha.core import flow
from amaranten_ha.io.netlink import Dump

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str, stdin: str | None = None, check: bool = True) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


meanwhile: list[Callable[[], None]] = []
"""What has to go on while a test waits."""


def wait_for(what: Callable[[], bool], timeout_s: float, why: str) -> None:
    """Poll until it is so; fails with the reason at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not what():
        for other in meanwhile:
            other()
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {why}")
        time.sleep(0.01)


class Namespace:
    """A network namespace with a name of ours."""

    def __init__(self, name: str) -> None:
        self.name = name
        # A run that was killed may have had the same number.
        run("ip", "netns", "del", name, check=False)
        run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command inside."""
        return run("ip", "netns", "exec", self.name, *command, stdin=stdin, check=check)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this process makes meanwhile belongs to the namespace."""
        with (
            open("/proc/self/ns/net", "rb") as home,
            open(f"/run/netns/{self.name}", "rb") as there,
        ):
            assert _libc.setns(there.fileno(), _CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert _libc.setns(home.fileno(), _CLONE_NEWNET) == 0

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """Return a socket of this namespace, with a deadline of its own."""
        with self.inside():
            made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.settimeout(3)
        return made

    def dumped(self) -> list[flow.Entry]:
        """Every connection of its kernel, as the kernel itself lists them."""
        with self.inside():
            walk = Dump()
        found: list[flow.Entry] = []
        while not walk.done:
            found += map(flow.parse, walk.read())
        return found

    def remove(self) -> None:
        """Remove it with everything inside."""
        run("ip", "netns", "del", self.name, check=False)


class Talk:
    """One live connection through the pair, both ends in the test's hand."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self._count = 0

    def exchange(self, timeout_s: float = 3) -> bool:
        """Send one message each way; False if it does not arrive in time."""
        self._count += 1
        text = f"message {self._count:08d}".encode()
        try:
            for one, other in ((self.near, self.far), (self.far, self.near)):
                one.settimeout(timeout_s)
                other.settimeout(timeout_s)
                one.send(text)
                if other.recv(64) != text:
                    return False
        except OSError:
            return False
        return True

    def finish(self) -> None:
        """Close both directions in order, the far end's first, so the near port is free again."""
        for one, other in ((self.far, self.near), (self.near, self.far)):
            one.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""

    def close(self) -> None:
        """Cut both ends off, so that nothing of this connection is sent in a later test."""
        for end in (self.near, self.far):
            if end.fileno() >= 0 and end.type == socket.SOCK_STREAM:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


def tcp(
    near: Namespace,
    far: Namespace,
    to: str,
    listen: str,
    port: int,
    dport: int = 0,
    *,
    sport: int = 0,
) -> Talk:
    """Open a TCP connection through the pair, from any port or from this one."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with far.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((listen, port))
        listener.listen(1)
        client = near.socket(family, socket.SOCK_STREAM)
        client.bind(("", sport))
        client.connect((to, dport or port))
        server = listener.accept()[0]
    return Talk(client, server)


def udp(near: Namespace, far: Namespace, to: str, port: int) -> tuple[Talk, tuple[str, int]]:
    """Begin a UDP flow through the pair; returns it and the address that the far end sees."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    client = near.socket(family, socket.SOCK_DGRAM)
    server = far.socket(family, socket.SOCK_DGRAM)
    server.bind((to, port))
    client.connect((to, port))
    client.send(b"first")
    seen = server.recvfrom(64)[1]
    server.connect(seen[:2])
    return Talk(client, server), seen[:2]
