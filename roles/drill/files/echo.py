# SPDX-License-Identifier: GPL-3.0-or-later
"""The far end of the probes: sends back every UDP datagram and every TCP byte that it gets.

Prints {"ready": ...} once it listens, and ends after the given time, when its standard input is
closed if that is a pipe, or at SIGTERM, with {"result": ...}. ``late_ms`` is the longest time for
which a datagram waited here until it was read: a late echo looks like a silence of the way to it.
"""

import argparse
import contextlib
import json
import os
import selectors
import signal
import socket
import stat
import struct
import sys
import time

CONNECTIONS_MAX = 4096
DRAIN_MAX = 256
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
# Seconds of requests: a late reader is not to lose packets that the firewall has passed.
BUFFER = 8 * 1024 * 1024


def is_pipe(stream):
    """Whether somebody holds the other end of standard input and can close it."""
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Echo:
    """The sockets and the counts of one server."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.counts = {"datagrams": 0, "connections": 0, "bytes": 0, "resets": 0}
        self.open = 0
        self.late_ns = 0

    def listen(self, kind, port):
        """Listen on all addresses, IPv4 and IPv6."""
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.setblocking(False)
        work = self.answer
        if kind == socket.SOCK_DGRAM:
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        else:
            listener.listen(1024)
            work = self.accept
        self.selector.register(listener, selectors.EVENT_READ, work)

    def answer(self, listener):
        """Send datagrams back to where they came from."""
        for _turn in range(DRAIN_MAX):
            try:
                data, extra, _flags, sender = listener.recvmsg(65536, 64)
            except BlockingIOError:
                return
            self.counts["datagrams"] += 1
            with contextlib.suppress(OSError):  # no way back just now: the probe will notice
                listener.sendto(data, sender)
            if extra and len(extra[0][2]) >= 16:
                seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
                late_ns = time.time_ns() - seconds * 1_000_000_000 - nanoseconds
                self.late_ns = max(self.late_ns, late_ns)

    def accept(self, listener):
        """Take a new connection, up to the bound."""
        connection, _peer = listener.accept()
        if self.open >= CONNECTIONS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.counts["connections"] += 1
        self.open += 1
        self.selector.register(connection, selectors.EVENT_READ, self.copy)

    def copy(self, connection):
        """Send bytes back on the connection that they came by."""
        try:
            data = connection.recv(65536)
            if data:
                connection.sendall(data)
        except OSError:
            self.counts["resets"] += 1
            data = b""
        self.counts["bytes"] += len(data)
        if not data:
            self.selector.unregister(connection)
            connection.close()
            self.open -= 1

    def serve(self, seconds):
        """Answer until the time is over or nobody wants more."""
        deadline = time.monotonic() + seconds
        if is_pipe(sys.stdin):
            self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        while time.monotonic() < deadline:
            for key, _events in self.selector.select(0.5):
                if key.data is None:
                    if not sys.stdin.buffer.raw.read(4096):
                        return
                else:
                    key.data(key.fileobj)


def main():
    """Listen as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--udp", type=int, default=0, metavar="PORT")
    parser.add_argument("--tcp", type=int, default=0, metavar="PORT")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    with contextlib.suppress(OSError):  # not allowed to be quick: what was late is said
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    signal.signal(signal.SIGTERM, lambda *_details: sys.exit(0))
    echo = Echo()
    if arguments.udp:
        echo.listen(socket.SOCK_DGRAM, arguments.udp)
    if arguments.tcp:
        echo.listen(socket.SOCK_STREAM, arguments.tcp)
    print(json.dumps({"ready": {"udp": arguments.udp, "tcp": arguments.tcp}}), flush=True)
    try:
        echo.serve(arguments.seconds)
    finally:
        late_ms = round(echo.late_ns / 1e6, 1)
        print(json.dumps({"result": {**echo.counts, "late_ms": late_ms}}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
