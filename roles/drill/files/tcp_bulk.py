# SPDX-License-Identifier: GPL-3.0-or-later
"""Push one TCP stream through the pair to an echo, and count what comes back in bins of 10 ms.

The stream is paced, so that it measures the pair and not the hosts' processors. Prints {"ready":
...} when it is established, {"progress": ...} every tenth of a second and {"result": ...} at the
end: after the given time or when its standard input is closed. A stream that breaks is not opened
again.
"""

import argparse
import json
import os
import select
import socket
import sys
import time

BIN_NS = 10_000_000
PROGRESS_NS = 100_000_000
CHUNK = bytes(16384)
AHEAD_MAX = 262_144


class Bulk:
    """One stream and what came back of it."""

    def __init__(self, target, port, mbit):
        self.socket = socket.create_connection((target, port), timeout=10)
        self.socket.setblocking(False)
        self.rate = mbit * 125_000
        self.began_ns = time.monotonic_ns()
        self.sent = self.back = 0
        self.bins = []
        self.error = ""
        self.last_ns = self.began_ns
        self.longest_ns = 0

    def wanted(self, now_ns):
        """Whether more should be sent just now."""
        allowed = (now_ns - self.began_ns) * self.rate // 1_000_000_000
        return self.sent < min(allowed, self.back + AHEAD_MAX)

    def push(self):
        """Send a chunk, as far as there is room."""
        try:
            self.sent += self.socket.send(CHUNK)
        except BlockingIOError:
            pass
        except OSError as problem:
            self.error = problem.strerror or str(problem)

    def hear(self):
        """Take what came back."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError as problem:
            self.error = problem.strerror or str(problem)
            return
        if not data:
            self.error = "closed by the other side"
            return
        now_ns = time.monotonic_ns()
        self.back += len(data)
        number = (now_ns - self.began_ns) // BIN_NS
        self.bins += [0] * (number + 1 - len(self.bins))
        self.bins[number] += len(data)
        self.longest_ns = max(self.longest_ns, now_ns - self.last_ns)
        self.last_ns = now_ns

    def run(self, seconds):
        """Push and hear until the time is over."""
        end_ns = self.began_ns + int(seconds * 1e9)
        told_ns = self.began_ns
        while not self.error and (now_ns := time.monotonic_ns()) < end_ns:
            writers = [self.socket] if self.wanted(now_ns) else []
            ready, writable, _broken = select.select([self.socket, sys.stdin], writers, [], 0.005)
            if writable:
                self.push()
            if self.socket in ready:
                self.hear()
            if sys.stdin in ready and not os.read(0, 4096):
                break
            if now_ns - told_ns >= PROGRESS_NS:
                told_ns = now_ns
                progress = {"at_ns": now_ns, "bytes": self.back, "error": self.error}
                print(json.dumps({"progress": progress}), flush=True)

    def result(self):
        """What is worth keeping."""
        stalled_ns = time.monotonic_ns() - self.last_ns
        return {
            "began_ns": self.began_ns,
            "bytes": self.back,
            "bytes_per_10ms": self.bins,
            "silence_ms": round(max(self.longest_ns, stalled_ns) / 1e6, 1),
            "survived": not self.error,
            "error": self.error,
        }


def main():
    """Push as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("port", type=int)
    parser.add_argument("--mbit", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    if not 0 < arguments.mbit <= 10_000:
        parser.error("mbit: 1..10000 is expected")
    bulk = Bulk(arguments.target, arguments.port, arguments.mbit)
    print(json.dumps({"ready": True}), flush=True)
    bulk.run(arguments.seconds)
    print(json.dumps({"result": bulk.result()}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as failure:
        sys.exit(f"tcp_bulk: {failure}")
