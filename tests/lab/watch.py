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
    """One frame that crossed a port; what it says of itself is read from its bytes when asked."""

    at_ns: int
    port: str
    way: Way
    data: bytes

    @property
    def node(self) -> str:
        """The node whose device sent it, or an empty string."""
        return _OWNERS.get(self.data[6:12], "")

    @property
    def source_mac(self) -> str:
        """The hardware address of the sender."""
        return ":".join(f"{byte:02x}" for byte in self.data[6:12])

    @property
    def target_mac(self) -> str:
        """The hardware address of the receiver."""
        return ":".join(f"{byte:02x}" for byte in self.data[:6])

    @property
    def ethertype(self) -> int:
        """What kind of frame it is."""
        return int.from_bytes(self.data[12:14], "big")

    @property
    def protocol(self) -> int:
        """The transport protocol of an IP packet, else 0."""
        return {IPV4: self.data[23:24], IPV6: self.data[20:21]}.get(self.ethertype, b"\0")[0]

    @property
    def raw_source(self) -> bytes:
        """The IP source address as it is on the wire, or nothing."""
        return {IPV4: self.data[26:30], IPV6: self.data[22:38]}.get(self.ethertype, b"")

    @property
    def raw_target(self) -> bytes:
        """The IP target address as it is on the wire, or nothing."""
        return {IPV4: self.data[30:34], IPV6: self.data[38:54]}.get(self.ethertype, b"")

    @property
    def source(self) -> str:
        """The IP source address, or an empty string."""
        return str(ipaddress.ip_address(self.raw_source)) if self.raw_source else ""

    @property
    def target(self) -> str:
        """The IP target address, or an empty string."""
        return str(ipaddress.ip_address(self.raw_target)) if self.raw_target else ""

    @property
    def _transport(self) -> bytes:
        start = 54 if self.ethertype == IPV6 else 14 + (self.data[14] & 0x0F) * 4
        return self.data[start:] if self.protocol in (TCP, UDP) else b""

    @property
    def source_port(self) -> int:
        """The TCP or UDP source port, else 0."""
        return int.from_bytes(self._transport[:2], "big")

    @property
    def target_port(self) -> int:
        """The TCP or UDP target port, else 0."""
        return int.from_bytes(self._transport[2:4], "big")

    @property
    def payload(self) -> bytes:
        """What TCP, UDP or the frame itself carries, as far as it was kept."""
        transport = self._transport
        if not transport:
            return self.data[14:]
        return transport[8:] if self.protocol == UDP else transport[(transport[12] >> 4) * 4 :]


def _bytes_of(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


_OWNERS = {_bytes_of(Wire(node, network).mac): node for node in NODES for network in NETWORKS}
_OWN = {
    (node, ipaddress.ip_interface(address(node, network, family)).ip.packed)
    for node in NODES
    for network in NETWORKS
    for family in (4, 6)
}


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

    def __exit__(self, kind: type[BaseException] | None, *_details: object) -> None:
        process = self._process
        assert process is not None
        with self._stack:
            if kind is not None:  # nobody will ask for the frames
                process.kill()
                process.communicate()
                return
            process.communicate(timeout=60)
            self._file.seek(0)
            self.frames = self._read(self._file.read())

    def _read(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        place = 0
        while place < len(data):
            at_ns, number, way, kept = RECORD.unpack_from(data, place)
            place += RECORD.size
            if number == END:
                if at_ns:
                    raise LabError(f"the recording is incomplete: {at_ns} frames were lost")
                return sorted(frames, key=lambda frame: frame.at_ns)
            direction = Way.IN if way == IN else Way.OUT
            frames.append(Frame(at_ns, self.ports[number], direction, data[place : place + kept]))
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
    source, target = frame.raw_source, frame.raw_target
    if not source or (frame.node, source) in _OWN:
        return False
    if frame.ethertype == IPV4:
        return source != bytes(4) and target[0] < 224
    link_local = source[0] == 0xFE and source[1] & 0xC0 == 0x80
    return not link_local and source != bytes(16) and target[0] != 0xFF


def after(frames: Iterable[Frame], node: str, other: str) -> list[Frame]:
    """What ``node`` still forwarded after ``other`` had begun: two nodes at once, in packets."""
    ordered = list(frames)
    begun = min((frame.at_ns for frame in ordered if frame.node == other), default=None)
    if begun is None:
        return []
    return [frame for frame in ordered if frame.node == node and frame.at_ns > begun]
