# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting on the wire: which node forwarded which packet, and when.

``Lab.watch`` records at the switch's ports, so nothing that a node says of itself is believed. By
default the ports of the hosts are recorded: what comes out of them was really delivered, and the
sending hardware address tells which node it came through. On a port of a node one sees also what
the node sends into a silence, for a tap stands before the drop.
"""

from __future__ import annotations

import ipaddress
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .host import Host
from .plan import NETWORKS, NODES, LabError, Wire, address
from .recorder import END, IN, RECORD

IPV4, IPV6, ARP, HEARTBEAT = 0x0800, 0x86DD, 0x0806, 0x88B5
TCP, UDP = 6, 17


class Way(Enum):
    """Which way a frame crossed a port, as the switch sees it."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that crossed a port; addresses and ports are empty where it has none."""

    at_ns: int
    port: str
    way: Way
    source_mac: str
    target_mac: str
    ethertype: int
    protocol: int = 0
    source: str = ""
    target: str = ""
    source_port: int = 0
    target_port: int = 0
    payload: bytes = b""

    @property
    def node(self) -> str:
        """The node whose device sent it, or an empty string."""
        return _OWNERS.get(self.source_mac, "")


_OWNERS = {Wire(node, network).mac: node for node in NODES for network in NETWORKS}


class Watch:
    """A recording that is going on; leave the ``with`` block, then read ``frames``."""

    def __init__(self, switch: Host, ports: Iterable[str], ethertypes: Iterable[int]) -> None:
        self.switch = switch
        self.ports = list(ports)
        self.ethertypes = list(ethertypes)
        self.frames: list[Frame] = []
        self._stack = ExitStack()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Watch:
        recorder = str(Path(__file__).with_name("recorder.py"))
        wanted = ",".join(f"{ethertype:x}" for ethertype in self.ethertypes)
        words = ["/usr/bin/python3", "-I", recorder, wanted, *self.ports]
        self._file = self._stack.enter_context(tempfile.TemporaryFile())
        self._process = self.switch.popen(
            words, stdin=subprocess.PIPE, stdout=self._file, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        if first != "recording\n":
            raise LabError(f"cannot record {', '.join(self.ports)}: {first}")
        return self

    def __exit__(self, *_details: object) -> None:
        process = self._process
        assert process is not None
        with self._stack:
            process.communicate(timeout=60)
            self._file.seek(0)
            self.frames = self._read(self._file.read())

    def _read(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        place = 0
        while place < len(data):
            at_ns, number, way, _wire_length, kept = RECORD.unpack_from(data, place)
            place += RECORD.size
            if number == END:
                if at_ns:
                    raise LabError(f"the recording is incomplete: {at_ns} frames were lost")
                return sorted(frames, key=lambda frame: frame.at_ns)
            direction = Way.IN if way == IN else Way.OUT
            frames.append(decode(data[place : place + kept], at_ns, self.ports[number], direction))
            place += kept
        raise LabError("the recording has no end: the recorder died")

    def delivered(self) -> list[Frame]:
        """The IP packets that came out of hosts' ports through one of the nodes."""
        return [
            frame
            for frame in self.frames
            if frame.way is Way.OUT and frame.node and is_forwarded(frame)
        ]


def is_forwarded(frame: Frame) -> bool:
    """Whether a node passed this on for somebody else: not its own speech, not to a group."""
    if frame.ethertype not in (IPV4, IPV6):
        return False
    source = ipaddress.ip_address(frame.source)
    target = ipaddress.ip_address(frame.target)
    own = frame.source in _own_addresses(frame.node)
    return not (own or source.is_link_local or source.is_unspecified or target.is_multicast)


def _own_addresses(node: str) -> set[str]:
    return {
        address(node, network, family).partition("/")[0]
        for network in NETWORKS
        for family in (4, 6)
    }


def after(frames: Iterable[Frame], node: str, other: str) -> list[Frame]:
    """What ``node`` still forwarded after ``other`` had begun: two nodes at once, in packets."""
    ordered = list(frames)
    begun = min((frame.at_ns for frame in ordered if frame.node == other), default=None)
    if begun is None:
        return []
    return [frame for frame in ordered if frame.node == node and frame.at_ns > begun]


def decode(data: bytes, at_ns: int, port: str, way: Way) -> Frame:
    """What a frame says of itself, as far as it was kept."""
    target_mac, source_mac = (":".join(f"{byte:02x}" for byte in part) for part in _macs(data))
    ethertype = int.from_bytes(data[12:14], "big")
    common = (at_ns, port, way, source_mac, target_mac, ethertype)
    if ethertype == IPV4 and len(data) >= 34:
        start = 14 + (data[14] & 0x0F) * 4
        protocol, source, target = data[23], data[26:30], data[30:34]
    elif ethertype == IPV6 and len(data) >= 54:
        start, protocol, source, target = 54, data[20], data[22:38], data[38:54]
    else:
        return Frame(*common, payload=data[14:])
    names = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(target))
    source_port = target_port = 0
    if protocol in (TCP, UDP) and len(data) >= start + 8:
        source_port = int.from_bytes(data[start : start + 2], "big")
        target_port = int.from_bytes(data[start + 2 : start + 4], "big")
        start += 8 if protocol == UDP else (data[start + 12] >> 4) * 4
    return Frame(*common, protocol, *names, source_port, target_port, data[start:])


def _macs(data: bytes) -> tuple[bytes, bytes]:
    return data[:6], data[6:12]
