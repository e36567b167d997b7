# SPDX-License-Identifier: GPL-3.0-or-later
"""Open new TCP connections through the pair at a steady rate; each brings one number and its echo.

Prints {"ready": ...}, {"progress": ...} every tenth of a second and {"result": ...} at the end:
after the given time or when its standard input is closed. An attempt that is not done within two
seconds has failed; the slowest one that was done shows how long newcomers had to wait.
"""

import argparse
import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

PROGRESS_NS = 100_000_000
PATIENCE_NS = 2_000_000_000
OPEN_MAX = 2048


class Newcomers:
    """All attempts."""

    def __init__(self, target, port, rate):
        self.family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self.address = (target, port)
        self.every_ns = int(1e9 / rate)
        self.selector = selectors.DefaultSelector()
        self.open = {}
        self.tried = self.done = self.failed = 0
        self.slowest_ns = 0
        self.failures_ns = []

    def begin(self, now_ns):
        """One more attempt."""
        self.tried += 1
        attempt = socket.socket(self.family, socket.SOCK_STREAM)
        attempt.setblocking(False)
        code = attempt.connect_ex(self.address)
        if code not in (0, errno.EINPROGRESS) or len(self.open) >= OPEN_MAX:
            attempt.close()
            self.fail(now_ns)
            return
        self.open[attempt] = now_ns
        self.selector.register(attempt, selectors.EVENT_WRITE)

    def fail(self, began_ns):
        """Count an attempt that came to nothing."""
        self.failed += 1
        if len(self.failures_ns) < 1000:
            self.failures_ns.append(began_ns)

    def end(self, attempt):
        """Forget an attempt; when it began."""
        self.selector.unregister(attempt)
        attempt.close()
        return self.open.pop(attempt)

    def serve(self, attempt, events):
        """Send the number once connected, take it back, and be done."""
        try:
            if events & selectors.EVENT_WRITE:
                attempt.sendall(struct.pack("!Q", self.tried))
                self.selector.modify(attempt, selectors.EVENT_READ)
            elif attempt.recv(64):
                self.done += 1
                self.slowest_ns = max(self.slowest_ns, time.monotonic_ns() - self.end(attempt))
            else:
                self.fail(self.end(attempt))
        except OSError:
            self.fail(self.end(attempt))

    def run(self, seconds):
        """Open and serve until the time is over, then wait for the last ones."""
        now_ns = next_ns = told_ns = time.monotonic_ns()
        end_ns = now_ns + int(seconds * 1e9)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        going = True
        while going or self.open:
            now_ns = time.monotonic_ns()
            if going and now_ns >= next_ns:
                self.begin(now_ns)
                next_ns = max(next_ns + self.every_ns, now_ns - 5 * self.every_ns)
            wait_ns = max(0, next_ns - now_ns) if going else 50_000_000
            for key, events in self.selector.select(wait_ns / 1e9):
                if key.fileobj is not sys.stdin:
                    self.serve(key.fileobj, events)
                elif not os.read(0, 4096):
                    self.selector.unregister(sys.stdin)
                    going = False
            for attempt in [a for a, at_ns in self.open.items() if now_ns - at_ns > PATIENCE_NS]:
                self.fail(self.end(attempt))
            going = going and now_ns < end_ns
            if now_ns - told_ns >= PROGRESS_NS:
                told_ns = now_ns
                progress = {"at_ns": now_ns, "done": self.done, "failed": self.failed}
                print(json.dumps({"progress": progress}), flush=True)

    def result(self):
        """What is worth keeping."""
        return {
            "tried": self.tried,
            "done": self.done,
            "failed": self.failed,
            "slowest_ms": round(self.slowest_ns / 1e6, 1),
            "failures_ns": self.failures_ns,
        }


def main():
    """Open as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=50, help="new connections per second")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    if not 0 < arguments.rate <= 1000:
        parser.error("rate: 1..1000 is expected")
    newcomers = Newcomers(arguments.target, arguments.port, arguments.rate)
    print(json.dumps({"ready": True}), flush=True)
    newcomers.run(arguments.seconds)
    print(json.dumps({"result": newcomers.result()}), flush=True)


if __name__ == "__main__":
    main()
