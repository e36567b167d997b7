# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One run of the wire probe: speak and listen on every interface at once, and write down what came.

Nothing is judged here.  The run ends when both nodes have heard everything from each other that can
be heard, and a moment later, in which frames may turn up where they should not; or at its deadline.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import time

from ansible_collections.amaranten.ha.plugins.module_utils import _wire_frames as frames
from ansible_collections.amaranten.ha.plugins.module_utils._wire_device import carrier

TICK_S = 0.1
RUN_S_MIN = 1.5
"""Long enough for five questions for a neighbour, whatever is answered."""
GRACE_S = 0.5
AFTER_CARRIER_S = 2.0
RUNS_PER_LISTEN = 3
"""The deadline moves with the peer's first frame and with a late carrier, up to this multiple."""
ASK_TICKS = (1, 3, 6, 9, 12)
ASK_AGAIN_TICKS = 10
LADDER = (
    9000,
    8000,
    4000,
    2000,
    1500,
    1492,
    1480,
    1460,
    1450,
    1440,
    1420,
    1400,
    1380,
    1280,
    1000,
    576,
)
LADDER_TICKS = (8, 12)
BUDGET = 256
ENTRIES_MAX = 4096
STRANGERS_MAX = 64
ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA = 263, 1, 8
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
RECEIVE_BYTES = 1 << 21
VLAN_VALID, VLAN_MASK = 1 << 4, 0x0FFF
AUXDATA = struct.Struct("=IIIHHHH")


class Port(object):
    """A device with its socket: one of the pair's, or another one that is only listened on."""

    def __init__(self, device, facts, vlans, interface=None):
        self.device = device
        self.mac = bytes(bytearray.fromhex(facts["mac"].replace(":", "")))
        self.vlans = vlans
        self.interface = interface
        self.name = interface["name"] if interface else ""
        self.link = interface["link"] if interface else 0
        self.mtu = 0
        self.carrier = False
        self.ticks = 0
        self.errors = ""
        self.bits = 0
        self.answers = {target: set() for target in self.targets()}
        self.speakers = set()
        self.echoes = 0
        self.socket = self.open()

    def targets(self):
        """Every address that is asked for here: (address, the own address to ask from) by text."""
        return self.interface["ask"] if self.interface else {}

    def open(self):
        """A packet socket that sees what arrives, before any packet filter does."""
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        program = frames.socket_filter()
        code = ctypes.create_string_buffer(program, len(program))
        descriptor = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
        found.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, descriptor)
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
        found.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        found.bind((self.device, ETH_P_ALL))
        if self.interface:
            index = socket.if_nametoindex(self.device)
            for group in (frames.GROUP, frames.multicast_mac(b"\0" * 15 + b"\1")):
                membership = struct.pack("iHH8s", index, 0, 6, group)
                found.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        return found

    def send(self, frame):
        """Send a frame; a refusal is remembered, not raised."""
        try:
            self.socket.send(frame)
        except OSError as error:
            self.errors = error.strerror or str(error)


class Run(object):
    """A run: who we are, our ports, and what was heard so far."""

    def __init__(self, cluster, node, run, ports, listen_s):
        self.cluster = cluster
        self.node = node
        self.run = run
        self.ports = ports
        self.spoken = [port for port in ports if port.interface]
        self.listen_s = listen_s
        self.began = time.monotonic()
        self.deadline = self.began + listen_s
        self.sequence = 0
        self.heard = {}
        self.skew_ns = {}
        self.beats = {}
        self.others = {}
        self.peer_heard = {}
        self.peer_done = False
        self.first_heard = None
        self.ticks_heard = 0
        self.done_at = None
        self.buffer = bytearray(1 << 17)

    def go(self):
        """Speak and listen until it is over."""
        poller = select.poll()
        by_number = {}
        for port in self.ports:
            poller.register(port.socket, select.POLLIN)
            by_number[port.socket.fileno()] = port
        tick = self.began
        while not self.over():
            now = time.monotonic()
            if now >= tick:
                tick = max(tick + TICK_S, now)
                self.tick()
            wait_ms = max(int((tick - time.monotonic()) * 1000) + 1, 1)
            for number, events in poller.poll(wait_ms):
                if events & select.POLLIN:
                    self.drain(by_number[number])
                elif self.gone(by_number[number]):
                    poller.unregister(number)

    def gone(self, port):
        """Take note of an error on a socket; whether it will never be of use again."""
        error = port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return not error

    def over(self):
        """Whether both know all, or there is nothing to wait for any more."""
        now = time.monotonic()
        if now >= min(self.deadline, self.began + RUNS_PER_LISTEN * self.listen_s):
            return True
        if now < self.began + RUN_S_MIN or not (self.complete() and self.peer_done):
            return False
        self.done_at = self.done_at or now
        return now >= self.done_at + GRACE_S

    def complete(self):
        """Whether on each interface we heard all of the peer, and the peer heard all of us."""
        return bool(self.spoken) and all(
            port.bits == frames.ALL_BITS and self.peer_heard.get(port.link) == frames.ALL_BITS
            for port in self.spoken
        )

    # Speaking --------------------------------------------------------------------------------

    def tick(self):
        """Everything that is sent ten times a second."""
        done = self.complete()
        # A peer that began late has missed what was sent before it.
        self.ticks_heard += self.first_heard is not None
        heard = {port.link: port.bits for port in self.spoken}
        for port in self.spoken:
            if not port.carrier and not self.connect(port):
                continue
            port.ticks += 1
            self.sequence += 1
            for kind in frames.KINDS:
                self.say(port, kind, heard, done)
            if not self.peer_heard.get(port.link, 0) & frames.FULL_BIT:
                self.say(port, frames.PROBE, heard, done, port.mtu)
                self.say(port, frames.IP, heard, done, port.mtu)
                if port.ticks in LADDER_TICKS or self.ticks_heard in LADDER_TICKS:
                    for size in (step for step in LADDER if step < port.mtu):
                        self.say(port, frames.PROBE, heard, done, size)
                        self.say(port, frames.IP, heard, done, size)
            self.ask(port)

    def connect(self, port):
        """Whether the port has a carrier now; if it came late, there is time for it yet."""
        port.carrier = carrier(port.device)
        if port.carrier and time.monotonic() > self.began + TICK_S:
            self.deadline = max(self.deadline, time.monotonic() + AFTER_CARRIER_S)
        return port.carrier

    def say(self, port, kind, heard, done, size=0):
        """One frame of a kind, as large as it may be or as small as it can be."""
        body = frames.Body(
            self.cluster, self.node, port.link, self.run, kind, self.sequence, size, done, heard
        )
        port.send(frames.wrap(kind, port.mac, body.pack(time.time_ns()), size))

    def ask(self, port):
        """Questions for neighbours, until they are answered."""
        if port.ticks not in ASK_TICKS and port.ticks % ASK_AGAIN_TICKS:
            return
        for target, (packed, sender) in sorted(port.targets().items()):
            if not port.answers[target]:
                port.send(frames.ask(port.mac, sender, packed))

    # Listening -------------------------------------------------------------------------------

    def drain(self, port):
        """Take in what has arrived on a port, up to a budget."""
        view = memoryview(self.buffer)
        for _dummy in range(BUDGET):
            try:
                size, ancillary, flags, address = port.socket.recvmsg_into([view], 64)
            except OSError:
                return
            now_ns = time.time_ns()
            vlan = 0
            for level, kind, value in ancillary:
                if level == SOL_PACKET and kind == PACKET_AUXDATA:
                    fields = AUXDATA.unpack_from(value)
                    vlan = fields[5] & VLAN_MASK if fields[0] & VLAN_VALID else 0
            # A tagged frame that a device of its own takes is that device's.
            if vlan not in port.vlans:
                self.take(port, bytes(view[: min(size, 2048)]), size, vlan, now_ns)

    def take(self, port, frame, size, vlan, now_ns):
        """Write down what a frame tells."""
        body = frames.found(frame)
        if body is not None:
            self.hear(port, frame, body, size, vlan, now_ns)
            return
        beat = frames.heartbeat(frame)
        if beat is not None:
            count(self.beats, (port.device, beat[0], beat[1], text(frame[6:12])))
            return
        if frame[6:12] == port.mac:
            port.echoes += 1
            return
        found = frames.answer(frame)
        if found is not None and found[0] in port.answers:
            port.answers[found[0]].add(text(found[1]))
        said = frames.speaker(frame)
        if said is not None and len(port.speakers) < STRANGERS_MAX:
            port.speakers.add((said, text(frame[6:12])))

    def hear(self, port, frame, body, size, vlan, now_ns):
        """A frame of some probe."""
        mac = text(frame[6:12])
        if body.cluster != self.cluster or body.run != self.run:
            count(self.others, (port.device, body.cluster, body.node, mac))
            return
        key = (port.device, body.node, body.link, body.kind, vlan, mac)
        if key not in self.heard and len(self.heard) >= ENTRIES_MAX:
            return
        # A body that a bridge cut short would claim more than has arrived.
        carried = min(body.size, size - 14)
        self.heard[key] = max(self.heard.get(key, 0), carried)
        if body.node == self.node:
            return
        if self.first_heard is None:
            self.first_heard = time.monotonic()
            self.deadline = max(self.deadline, self.first_heard + self.listen_s)
        if body.link != port.link or vlan:
            return
        port.bits |= 1 << frames.KINDS.index(body.kind)
        if body.size and body.size >= port.mtu and carried >= body.size:
            port.bits |= frames.FULL_BIT
        for link, bits in body.heard.items():
            self.peer_heard[link] = self.peer_heard.get(link, 0) | bits
        self.peer_done = self.peer_done or body.done
        if body.kind == frames.PROBE and not body.size:
            skew_ns = now_ns - body.wall_ns
            self.skew_ns[port.name] = min(self.skew_ns.get(port.name, skew_ns), skew_ns)


def text(mac):
    """A hardware address as people write it."""
    return ":".join("%02x" % byte for byte in bytearray(mac))


def count(table, key):
    """Count something that strangers can make as many of as they like."""
    if key in table or len(table) < STRANGERS_MAX:
        table[key] = table.get(key, 0) + 1
