# SPDX-License-Identifier: GPL-3.0-or-later
"""Note which node's hardware address delivers packets here, and when: what the nodes themselves
say of being active is not asked.

Runs on a vantage host of a drill, as root, and listens on all interfaces. Prints
{"ready": ...} once it listens and {"result": ...} when its standard input is closed: for each of
the nodes' addresses the number of packets that it passed on, and when it did: the first moment, and
from each to the next in microseconds. Of packets of one node that follow each other within
THIN_NS the first is kept, and every one that changes the node. The times are the kernel's.
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
from array import array

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
BUFFER = 32 * 1024 * 1024
IPV4, IPV6 = 0x0800, 0x86DD
UDP, TCP = 17, 6
THIN_NS = 500_000
TIMES_MAX = 2_000_000


class Tap:
    """What was heard of each node."""

    def __init__(self, macs, own):
        self.nodes = {bytes.fromhex(mac.replace(":", "")): mac for mac in macs}
        self.own = {packed(address) for address in own}
        self.packets = dict.fromkeys(macs, 0)
        self.times = {mac: array("q") for mac in macs}
        self.latest = ""
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
            if mac is None or source[2] == PACKET_OUTGOING or not self.is_forwarded(data):
                continue
            seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
            self.note(mac, seconds * 1_000_000_000 + nanoseconds + offset_ns)

    def is_forwarded(self, data):
        """Whether it is UDP or TCP that a node passed on, and nothing that it says itself."""
        kind = int.from_bytes(data[12:14], "big")
        source = {IPV4: data[26:30], IPV6: data[22:38]}.get(kind, b"")
        protocol = {IPV4: data[23:24], IPV6: data[20:21]}.get(kind, b"\0")[0]
        return protocol in (UDP, TCP) and source not in self.own

    def note(self, mac, at_ns):
        """A packet that a node passed on."""
        self.packets[mac] += 1
        times = self.times[mac]
        is_news = mac != self.latest or not times or at_ns - times[-1] >= THIN_NS
        self.latest = mac
        if is_news and len(times) < TIMES_MAX:
            times.append(at_ns)

    def result(self):
        """All of it, and how many packets could not be kept, by the kernel or here."""
        missed = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        nodes = {}
        for mac, times in self.times.items():
            whole = [at_ns // 1000 for at_ns in times]
            after_us = [whole[n] - whole[n - 1] for n in range(1, len(whole))]
            from_ns = whole[0] * 1000 if whole else 0
            nodes[mac] = {"packets": self.packets[mac], "from_ns": from_ns, "after_us": after_us}
            missed += len(times) >= TIMES_MAX
        return {"nodes": nodes, "missed": missed}


def packed(address):
    """An address as it is on the wire."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


def main():
    """Listen as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("macs", nargs="+")
    parser.add_argument("--own", default="", help="addresses of the nodes, with commas")
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    tap = Tap(arguments.macs, filter(None, arguments.own.split(",")))
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
