# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection on standard input and output: SSH's way into the lab's management network.

``pipe.py ADDRESS PORT`` connects and copies both ways; ``pipe.py ADDRESS PORT SECONDS`` only
waits until the other side speaks, as an SSH server does when it is ready. Started alone by the
interpreter, so nothing of the package is imported here.
"""

import os
import select
import socket
import sys
import time


def copy_both_ways(connection):
    """Copy until the other side has nothing more to say."""
    sources = [0, connection.fileno()]
    while True:
        ready, _writable, _broken = select.select(sources, [], [])
        if connection.fileno() in ready:
            data = connection.recv(65536)
            if not data:
                return 0
            while data:
                data = data[os.write(1, data) :]
        if 0 in ready:
            data = os.read(0, 65536)
            if data:
                connection.sendall(data)
            else:
                connection.shutdown(socket.SHUT_WR)
                sources.remove(0)


def wait_until_it_speaks(address, port, seconds):
    """Try until somebody answers with at least one byte; 1 if nobody did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, port), timeout=1) as connection:
                if connection.recv(1):
                    return 0
        except OSError:
            pass
        time.sleep(0.1)
    return 1


def main(address, port, seconds=None):
    """Connect as the command line says."""
    if seconds is not None:
        return wait_until_it_speaks(address, int(port), float(seconds))
    with socket.create_connection((address, int(port)), timeout=10) as connection:
        connection.settimeout(None)
        return copy_both_ways(connection)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except OSError as problem:
        sys.exit(f"{sys.argv[1]} port {sys.argv[2]}: {problem}")
