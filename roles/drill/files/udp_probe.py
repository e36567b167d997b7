# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask over UDP at a steady rate, and note for every request when it left and when it was answered.

One socket, so one flow. Prints {"progress": ...} every tenth of a second and {"result": ...} at
the end: after the given time or count, when its standard input is closed, or at SIGTERM.
The times of answers are the kernel's, so that a probe that reads late is not taken for a firewall
that passes nothing. ``silence_ms`` is the longest time between two answers that followed one
another, without what the probe itself was late with its requests meanwhile; ``late_ms`` is how much
longer it may have been, because nobody asked then.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from bisect import bisect_left, bisect_right

REQUEST = struct.Struct("!8sQQ")
MAGIC = b"ha-probe"
COUNT_MAX = 2_000_000
PROGRESS_NS = 100_000_000
BIN_NS = 10_000_000
GAP_NS = 5_000_000
GAPS_MAX = 200
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
# Seconds of requests: a late reader is not to lose packets that the firewall has passed.
BUFFER = 8 * 1024 * 1024


def is_pipe(stream):
    """Whether somebody holds the other end of standard input and can close it."""
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Probe:
    """The requests of one flow and their answers."""

    def __init__(self, target, port, rate):
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect((target, port))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.every_ns = int(1e9 / rate)
        self.sent_ns = []
        self.answered_ns = {}
        self.refused = 0
        self.doubled = 0
        self.longest_ns = 0
        self.last_answer_ns = 0

    def ask(self, now_ns):
        """Send the next request; a way that is shut just now counts as a lost packet."""
        try:
            self.socket.send(REQUEST.pack(MAGIC, len(self.sent_ns), now_ns))
        except OSError:
            self.refused += 1
        self.sent_ns.append(now_ns)

    def hear(self):
        """Take all answers that are there."""
        offset_ns = time.monotonic_ns() - time.time_ns()
        while True:
            try:
                data, extra, _flags, _sender = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            except OSError:
                self.refused += 1  # an ICMP error came back
                continue
            if len(data) != REQUEST.size:
                continue
            magic, number, _sent_ns = REQUEST.unpack(data)
            if magic != MAGIC or number >= len(self.sent_ns):
                continue
            if number in self.answered_ns:
                self.doubled += 1
                continue
            self.answer(number, arrival_ns(extra, offset_ns))

    def answer(self, number, arrived_ns):
        """Note when an answer arrived; the wall clock may have been set, then it is now."""
        now_ns = time.monotonic_ns()
        at_ns = arrived_ns if self.sent_ns[number] <= arrived_ns <= now_ns else now_ns
        self.answered_ns[number] = at_ns
        if self.last_answer_ns:
            self.longest_ns = max(self.longest_ns, at_ns - self.last_answer_ns)
        self.last_answer_ns = at_ns

    def gaps(self):
        """The times between answers that followed one another, and up to an unanswered request."""
        answers = sorted(self.answered_ns.values())
        if answers and self.sent_ns[-1] > answers[-1]:
            answers.append(self.sent_ns[-1])
        return list(pairs(answers))

    def late_ns(self, begin_ns, end_ns):
        """For how long of a span the next request was overdue."""
        first = max(bisect_left(self.sent_ns, begin_ns) - 1, 0)
        near = self.sent_ns[first : bisect_right(self.sent_ns, end_ns) + 1]
        return sum(
            max(0, min(later, end_ns) - max(earlier + self.every_ns, begin_ns))
            for earlier, later in pairs(near)
            if later - earlier > max(GAP_NS, 2 * self.every_ns)
        )

    def silence(self, gaps):
        """(its length, where it began) of the longest, without what the probe was late, in ns."""
        longest = (0, 0)
        for begin_ns, end_ns in gaps:
            if end_ns - begin_ns > longest[0]:
                late_ns = self.late_ns(begin_ns, end_ns)
                longest = max(longest, (end_ns - begin_ns - late_ns, begin_ns))
        return longest

    def progress(self, now_ns):
        """What is worth telling while it runs."""
        waiting_ns = now_ns - (self.last_answer_ns or self.sent_ns[0])
        return {
            "at_ns": now_ns,
            "sent": len(self.sent_ns),
            "answered": len(self.answered_ns),
            "waiting_ms": round(waiting_ns / 1e6, 1),
            "longest_ms": round(self.longest_ns / 1e6, 1),
        }

    def bins(self):
        """Answers in each hundredth of a second, from the first request on."""
        if not self.sent_ns:
            return []
        counts = [0] * ((time.monotonic_ns() - self.sent_ns[0]) // BIN_NS + 1)
        for at_ns in self.answered_ns.values():
            counts[(at_ns - self.sent_ns[0]) // BIN_NS] += 1
        return counts

    def result(self):
        """What is worth keeping when it is over."""
        trips = sorted(at - self.sent_ns[number] for number, at in self.answered_ns.items())
        gap_ns = max((later - earlier for earlier, later in pairs(self.sent_ns)), default=0)
        gaps = self.gaps()
        silence_ns, from_ns = self.silence(gaps)
        longest_ns = max((end_ns - begin_ns for begin_ns, end_ns in gaps), default=0)
        long = [gap for gap in gaps if gap[1] - gap[0] > max(GAP_NS, 2 * self.every_ns)]
        long.sort(key=lambda gap: gap[0] - gap[1])
        return {
            "sent": len(self.sent_ns),
            "answered": len(self.answered_ns),
            "packets_lost": len(self.sent_ns) - len(self.answered_ns),
            "silence_ms": round(silence_ns / 1e6, 1),
            "silence_from_ns": from_ns,
            "late_ms": round((longest_ns - silence_ns) / 1e6, 1),
            "began_ns": self.sent_ns[0] if self.sent_ns else 0,
            "answered_per_10ms": self.bins(),
            "gaps_ns": sorted(long[:GAPS_MAX]),
            "send_gap_ms": round(gap_ns / 1e6, 1),
            "refused": self.refused,
            "doubled": self.doubled,
            "trip_median_us": trips[len(trips) // 2] // 1000 if trips else None,
            "trip_max_us": trips[-1] // 1000 if trips else None,
        }

    def run(self, seconds, count):
        """Ask until the bound, then wait a moment for the last answers."""
        began_ns = time.monotonic_ns()
        next_ns, told_ns = began_ns, began_ns
        end_ns = began_ns + int(seconds * 1e9)
        sources = [self.socket, sys.stdin] if is_pipe(sys.stdin) else [self.socket]
        while len(self.sent_ns) < count:
            now_ns = time.monotonic_ns()
            if now_ns >= end_ns:
                break
            if now_ns >= next_ns:
                self.ask(now_ns)
                next_ns += self.every_ns
                # After a stall of our own go on at the rate, do not catch up in a burst.
                next_ns = max(next_ns, now_ns - 5 * self.every_ns)
            if now_ns - told_ns >= PROGRESS_NS:
                print(json.dumps({"progress": self.progress(now_ns)}), flush=True)
                told_ns = now_ns
            wait_s = max(0.0, (next_ns - time.monotonic_ns()) / 1e9)
            ready, _writable, _broken = select.select(sources, [], [], wait_s)
            self.hear()
            if sys.stdin in ready and not sys.stdin.buffer.raw.read(4096):
                break
        last_ns = time.monotonic_ns() + 2_000_000_000
        while len(self.answered_ns) < len(self.sent_ns) and time.monotonic_ns() < last_ns:
            select.select([self.socket], [], [], 0.05)
            self.hear()


def pairs(values):
    """Each value with the one after it; itertools has this from Python 3.10 on only."""
    return ((values[at], values[at + 1]) for at in range(len(values) - 1))


def arrival_ns(extra, offset_ns):
    """The kernel's time of arrival on the monotonic clock; 0 if it gave none."""
    for _level, kind, data in extra:
        if kind == SO_TIMESTAMPNS and len(data) >= 16:
            seconds, nanoseconds = struct.unpack("qq", data[:16])
            return seconds * 1_000_000_000 + nanoseconds + offset_ns
    return 0


def main():
    """Probe as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=float, default=1000, help="requests per second")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--count", type=int, default=COUNT_MAX)
    parser.add_argument("--packets", help="write [number, sent_ns, answered_ns] of each here")
    arguments = parser.parse_args()
    with contextlib.suppress(OSError):  # not allowed to be quick: what was late is said
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    if not 0 < arguments.rate <= 20000 or not 0 < arguments.count <= COUNT_MAX:
        parser.error(f"rate: 1..20000 and count: 1..{COUNT_MAX} are expected")
    probe = Probe(arguments.target, arguments.port, arguments.rate)
    signal.signal(signal.SIGTERM, lambda *_details: sys.exit(0))
    try:
        probe.run(arguments.seconds, arguments.count)
    finally:
        print(json.dumps({"result": probe.result()}), flush=True)
        if arguments.packets:
            rows = [[n, at, probe.answered_ns.get(n)] for n, at in enumerate(probe.sent_ns)]
            with open(arguments.packets, "w", encoding="ascii") as file:
                json.dump(rows, file)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
