# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep many TCP connections talking: each sends a number, waits for its echo, and rests a moment.

Prints {"ready": ...} when all are established, {"progress": ...} every tenth of a second, and
{"result": ...} at the end: after the given time, or when its standard input is closed. The end is
an examination: every connection must bring one more number there and back in time, and only
those that do have survived. A connection that is reset or closed is never opened again.
"""

import argparse
import contextlib
import json
import os
import selectors
import socket
import stat
import struct
import sys
import time
from dataclasses import dataclass, field

NUMBER = struct.Struct("!Q")
NUMBER_BYTES = 8
CONNECTIONS_MAX = 4096
PROGRESS_NS = 100_000_000
STUCK_NS = 50_000_000


def is_pipe(stream):
    """Whether somebody holds the other end of standard input and can close it."""
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@dataclass
class Connection:
    """One connection and what it has been through."""

    socket: socket.socket
    next_ns: int
    number: int = 0
    waiting_since_ns: int = 0
    heard_ns: int = 0
    longest_ns: int = 0
    buffer: bytes = b""
    error: str = ""
    exchanges: int = 0
    source: str = field(default="")

    def ping(self, now_ns):
        """Send the next number."""
        self.number += 1
        self.waiting_since_ns = now_ns
        try:
            self.socket.sendall(NUMBER.pack(self.number))
        except OSError as problem:
            self.error = problem.strerror or str(problem)

    def pong(self, now_ns):
        """Take what came back; true if it completed the exchange."""
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError as problem:
            self.error = problem.strerror or str(problem)
            return False
        if not data:
            self.error = "closed by the other side"
            return False
        self.buffer += data
        if len(self.buffer) < NUMBER_BYTES:
            return False
        (echoed,) = NUMBER.unpack(self.buffer[:NUMBER_BYTES])
        self.buffer = self.buffer[NUMBER_BYTES:]
        if echoed != self.number:
            self.error = f"sent {self.number}, got {echoed} back"
            return False
        self.longest_ns = max(self.longest_ns, now_ns - self.waiting_since_ns)
        self.waiting_since_ns = 0
        self.heard_ns = now_ns
        self.exchanges += 1
        return True


class Choir:
    """All the connections."""

    def __init__(self, every_ms):
        self.every_ns = every_ms * 1_000_000
        self.selector = selectors.DefaultSelector()
        self.all = []

    def open(self, target, port, count, timeout_s):
        """Open them one after the other; the first failure ends it all."""
        for index in range(count):
            opened = socket.create_connection((target, port), timeout=timeout_s)
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begin_ns = time.monotonic_ns() + self.every_ns * index // count
            connection = Connection(opened, begin_ns)
            connection.source = "{} port {}".format(*opened.getsockname()[:2])
            self.selector.register(opened, selectors.EVENT_READ, connection)
            self.all.append(connection)

    def turn(self, now_ns):
        """Ping whoever's time has come."""
        for connection in self.all:
            due = not connection.waiting_since_ns and connection.next_ns <= now_ns
            if due and not connection.error:
                connection.next_ns = now_ns + self.every_ns
                connection.ping(now_ns)
            if connection.error:
                self.drop(connection)

    def drop(self, connection):
        """Close a connection that has failed, for good."""
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(connection.socket)
        connection.socket.close()

    def listen(self, timeout_s):
        """Take what comes back; true if somebody closed our standard input."""
        ended = False
        for key, _events in self.selector.select(timeout_s):
            if key.data is None:
                ended = not sys.stdin.buffer.raw.read(4096)
                continue
            key.data.pong(time.monotonic_ns())
        return ended

    def talk(self, seconds):
        """Exchange until the time is over or standard input is closed."""
        if is_pipe(sys.stdin):
            self.selector.register(sys.stdin, selectors.EVENT_READ, None)
        told_ns = time.monotonic_ns()
        end_ns = told_ns + int(seconds * 1e9)
        while (now_ns := time.monotonic_ns()) < end_ns:
            self.turn(now_ns)
            if now_ns - told_ns >= PROGRESS_NS:
                told_ns = now_ns
                print(json.dumps({"progress": self.progress(now_ns)}), flush=True)
            if self.listen(0.005):
                break
        if is_pipe(sys.stdin):
            self.selector.unregister(sys.stdin)

    def examine(self, timeout_s):
        """One more exchange on each; the number of those that managed it in time."""
        end_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        wanted = {}
        while (now_ns := time.monotonic_ns()) < end_ns:
            for connection in self.all:
                if connection.error:
                    self.drop(connection)
                elif not connection.waiting_since_ns and id(connection) not in wanted:
                    wanted[id(connection)] = connection.exchanges + 1
                    connection.ping(now_ns)
            alive = [c for c in self.all if not c.error]
            if all(c.exchanges >= wanted.get(id(c), sys.maxsize) for c in alive):
                break
            self.listen(0.005)
        for connection in self.all:
            done = connection.exchanges >= wanted.get(id(connection), sys.maxsize)
            if not done and not connection.error:
                connection.error = f"no answer within {timeout_s:g} s"
        return sum(not connection.error for connection in self.all)

    def progress(self, now_ns):
        """What is worth telling while it runs."""
        return {
            "at_ns": now_ns,
            "exchanges": sum(connection.exchanges for connection in self.all),
            "failed": sum(bool(connection.error) for connection in self.all),
            "stuck": sum(
                bool(c.waiting_since_ns and now_ns - c.waiting_since_ns > STUCK_NS)
                for c in self.all
            ),
        }


def main():
    """Talk as the command line says; 1 if a connection was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--every-ms", type=int, default=200, help="rest between two exchanges")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--final-seconds", type=float, default=15)
    arguments = parser.parse_args()
    if not 0 < arguments.connections <= CONNECTIONS_MAX:
        parser.error(f"connections: 1..{CONNECTIONS_MAX} are expected")
    choir = Choir(arguments.every_ms)
    choir.open(arguments.target, arguments.port, arguments.connections, 10)
    print(json.dumps({"ready": {"connections": len(choir.all)}}), flush=True)
    choir.talk(arguments.seconds)
    survived = choir.examine(arguments.final_seconds)
    lost = [f"{c.source}: {c.error}" for c in choir.all if c.error]
    result = {
        "connections": len(choir.all),
        "connections_survived": survived,
        "exchanges": sum(connection.exchanges for connection in choir.all),
        "longest_ms": round(max(connection.longest_ns for connection in choir.all) / 1e6, 1),
        "lost": lost[:20],
    }
    print(json.dumps({"result": result}), flush=True)
    return 0 if not lost else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as failure:
        sys.exit(f"tcp_pingpong: {failure}")
