# SPDX-License-Identifier: GPL-3.0-or-later
"""Note which node's hardware address delivers packets here, and when: what the nodes themselves
say of being active is not asked.

Runs on a vantage host of a drill, as root, and listens on all interfaces. Prints
{"ready": ...} once it listens and {"result": ...} when its standard input is closed: for each of
the nodes' addresses the number of packets that it passed on, the first and the last moment, and the
spans in which it did (a pause of SPAN_NS ends a span). The kernel's own times of arrival are used.
"""

import argparse
import contextlib
import json
import os
import select
import socket
import struct
import sys
import time

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
BUFFER = 32 * 1024 * 1024
IPV4, IPV6 = 0x0800, 0x86DD
UDP, TCP = 17, 6
SPAN_NS = 50_000_000
SPANS_MAX = 2000


class Tap:
    """What was heard of each node."""

    def __init__(self, macs):
        self.nodes = {bytes.fromhex(mac.replace(":", "")): mac for mac in macs}
        self.heard = {mac: {"packets": 0, "spans": []} for mac in macs}
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)

    def drain(self):
        """Take what has arrived."""
        offset_ns = time.monotonic_ns() - time.time_ns()
        while True:
            try:
                data, extra, _flags, source = self.socket.recvmsg(64, 64)
            except BlockingIOError:
                return
            mac = self.nodes.get(data[6:12])
            if mac is None or source[2] == PACKET_OUTGOING or not is_forwarded(data):
                continue
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            self.note(mac, seconds * 1_000_000_000 + nanoseconds + offset_ns)

    def note(self, mac, at_ns):
        """A packet that a node passed on."""
        found = self.heard[mac]
        found["packets"] += 1
        spans = found["spans"]
        if spans and (at_ns - spans[-1][1] < SPAN_NS or len(spans) >= SPANS_MAX):
            spans[-1][1] = at_ns
        else:
            spans.append([at_ns, at_ns])

    def result(self):
        """All of it, and how many packets the kernel could not keep for us."""
        lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        return {"nodes": self.heard, "missed": lost}


def is_forwarded(data):
    """Whether it is UDP or TCP: a node's own neighbour discovery and errors are not traffic."""
    kind = int.from_bytes(data[12:14], "big")
    protocol = {IPV4: data[23:24], IPV6: data[20:21]}.get(kind, b"\0")[0]
    return protocol in (UDP, TCP)


def main():
    """Listen as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("macs", nargs="+")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    tap = Tap(arguments.macs)
    print(json.dumps({"ready": True}), flush=True)
    deadline = time.monotonic() + arguments.seconds
    while time.monotonic() < deadline:
        ready = select.select([tap.socket, sys.stdin], [], [], 0.5)[0]
        tap.drain()
        if sys.stdin in ready and not os.read(0, 4096):
            break
    print(json.dumps({"result": tap.result()}), flush=True)


if __name__ == "__main__":
    main()
