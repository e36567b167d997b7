# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down every frame on some ports of the switch, with the kernel's own time of arrival.

Started by ``Watch`` in the switch's namespace, alone, with the ports and the wanted EtherTypes as
arguments; the records go to standard output. It ends when its standard input is closed, and its
last record says how many frames the kernel could not keep for it: an honest zero, or the recording
proves nothing. Its file is also what ``watch`` reads the record's layout from.
"""

import ctypes
import os
import selectors
import socket
import struct
import sys
import time

# time in monotonic ns, port number, direction, length of what was kept
RECORD = struct.Struct("!QBBH")
IN, OUT, END = 0, 1, 255
KEPT = 128
BUFFER = 64 * 1024 * 1024

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_OUTGOING = 4
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
DRAIN_MAX = 512


def filter_program(ethertypes):
    """A classic BPF program that lets only these EtherTypes through."""
    count = len(ethertypes)
    code = [(0x28, 0, 0, 12)]  # load the EtherType
    for index, ethertype in enumerate(ethertypes):
        code.append((0x15, count - index, 0, ethertype))  # equal: jump to the accepting end
    code += [(0x06, 0, 0, 0), (0x06, 0, 0, KEPT)]
    return b"".join(struct.pack("=HBBI", *line) for line in code), len(code)


def open_port(name, ethertypes):
    """A socket that hears one port, both ways."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    port.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    code, length = filter_program(ethertypes)
    memory = ctypes.create_string_buffer(code)
    program = struct.pack("HL", length, ctypes.addressof(memory))
    port.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    port.bind((name, ETH_P_ALL))
    port.setblocking(False)
    return port


def clock_offset_ns():
    """What to add to the wall clock's time to get the monotonic clock's: the quickest of five."""
    samples = []
    for _sample in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        samples.append((after - before, (before + after) // 2 - wall))
    return min(samples)[1]


def drain(port, number, out):
    """Write down what has arrived on a port."""
    offset_ns = clock_offset_ns()
    for _turn in range(DRAIN_MAX):
        try:
            data, extra, _flags, source = port.recvmsg(KEPT, 64)
        except BlockingIOError:
            return
        seconds, nanoseconds = struct.unpack("qq", extra[0][2][:16])
        at_ns = seconds * 1_000_000_000 + nanoseconds + offset_ns
        direction = OUT if source[2] == PACKET_OUTGOING else IN
        out.write(RECORD.pack(at_ns, number, direction, len(data)) + data)


def main(ethertypes, *names):
    """Record until standard input is closed."""
    wanted = [int(text, 16) for text in ethertypes.split(",")]
    ports = [open_port(name, wanted) for name in names]
    selector = selectors.DefaultSelector()
    for number, port in enumerate(ports):
        selector.register(port, selectors.EVENT_READ, number)
    selector.register(0, selectors.EVENT_READ, None)
    with os.fdopen(1, "wb", buffering=1 << 20) as out:
        os.write(2, b"recording\n")
        going = True
        while going:
            for key, _events in selector.select():
                if key.data is None:
                    going = bool(os.read(0, 4096))
                else:
                    drain(key.fileobj, key.data, out)
        for number, port in enumerate(ports):
            drain(port, number, out)
        lost = 0
        for port in ports:
            counted = port.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            lost += struct.unpack("II", counted)[1]
        out.write(RECORD.pack(lost, END, 0, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
