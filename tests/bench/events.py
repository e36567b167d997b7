# SPDX-License-Identifier: GPL-3.0-or-later
"""When entries of the load appeared in the connection table of one node, in the kernel's own words.

Started alone in a node's network namespace by ``replication.lag``; one runs in each node, and both
use the machine's monotonic clock. It notes one entry of sixteen, by the client's and the server's
port, says {"ready": ...} when it listens, and {"result": ...} when its standard input is closed.
"""

import json
import os
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER = 12
GROUP_NEW = 1
SO_RCVBUFFORCE = 33
BUFFER = 64 * 1024 * 1024
MESSAGE = struct.Struct("=IHH")
# Of an IPv4 entry with ports: the original tuple is the first attribute (kernel facts, 7).
CLIENT_PORT, SERVER_PORT = 60, 68
FIRST_SERVICE, SERVICES = 20000, 100
SAMPLED = 16


def note(data, now_ns, seen):
    """Take every entry of the load that a datagram tells of."""
    place = 0
    while place + MESSAGE.size <= len(data):
        length, _kind, _flags = MESSAGE.unpack_from(data, place)
        if length < MESSAGE.size:
            return
        if length > SERVER_PORT + 2:
            (client,) = struct.unpack_from("!H", data, place + CLIENT_PORT)
            (server,) = struct.unpack_from("!H", data, place + SERVER_PORT)
            if 0 <= server - FIRST_SERVICE < SERVICES and client % SAMPLED == 0:
                seen.setdefault(f"{client}:{server}", now_ns)
        place += (length + 3) & ~3


def main():
    """Listen until nobody wants more."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    listener.bind((0, GROUP_NEW))
    seen, lost = {}, 0
    print(json.dumps({"ready": {}}), flush=True)
    while True:
        ready, _writable, _broken = select.select([listener, 0], [], [])
        if listener in ready:
            try:
                data = listener.recv(65536)
            except OSError:
                lost += 1
                continue
            note(data, time.monotonic_ns(), seen)
        elif not os.read(0, 4096):
            break
    print(json.dumps({"result": {"seen": seen, "lost": lost}}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
