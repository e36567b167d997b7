# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with its gate's service running, and the probes that tell what passes.

Each probe is followed by a frame that must pass, on the same path: frames are worked on in the
order in which one processor gets them, so what did not arrive before that one was dropped.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator

import gate_bench as gb
import gate_frames as gf
from gate_bench import LAN, WAN, Bench
from gate_frames import Beat

from amaranten_ha.io.gate import GateReader, GateState

TOKEN = b"amaranten-probe!"


class Node:
    """The bench with the gate's service running, and the probes that tell what passes."""

    def __init__(self, bench: Bench, served: bool = True) -> None:
        """A node that is not served has no gate but what the test makes."""
        self.bench = bench
        if served:
            bench.service().ready()
        self.reader = GateReader(bench.settings)
        self.wire = {name: bench.host(name) for name in gb.HOST}
        self.device = {name: bench.device(name) for name in gb.HOST}

    def state(self) -> GateState:
        with gb.inside(self.bench.node):
            return self.reader.check()

    def left_ms(self) -> int:
        with gb.inside(self.bench.node):
            return self.reader.lease_left_ms()

    def open(self) -> None:
        self.bench.beat()
        state = self.state()
        assert state.open_lease and state.open_voice, state

    def close(self) -> None:
        self.bench.beat(Beat(kind=gf.CLOSE))
        state = self.state()
        assert not state.open_lease and not state.open_voice, state

    def asked(self, name: str, kind: int, payload: bytes) -> list[bytes]:
        """Send a frame to the node; return what came back before the node answered for itself."""
        wire = self.wire[name]
        wire.drain()
        wire.send(self.device[name].mac, kind, payload)
        wire.send(b"\xff" * 6, gf.ARP, gf.arp(1, wire.mac, gb.HOST[name], gb.OWN[name]))
        return wire.collect(gf.is_arp(2, gb.OWN[name]))

    def arp_answered(self, address: str, name: str = LAN) -> bool:
        question = gf.arp(1, self.wire[name].mac, gb.HOST[name], address)
        return any(map(gf.is_arp(2, address), self.asked(name, gf.ARP, question)))

    def nd_answered(self, address: str, name: str = LAN) -> bool:
        body = gf.neighbour(135, address, 1, self.wire[name].mac)
        packet = gf.ip6(gb.HOST6[name], address, 58, body)
        answer = gf.packed(address)
        return any(
            frame[12:14] == b"\x86\xdd" and frame[54] == 136 and frame[62:78] == answer
            for frame in self.asked(name, gf.IP6, packet)
        )

    def ping_answered(self, address: str, name: str = LAN) -> bool:
        packet = gf.echo(gb.HOST[name], address, TOKEN)
        return any(
            frame[26:30] == gf.packed(address) and frame[34] == 0 and TOKEN in frame
            for frame in self.asked(name, gf.IP, packet)
        )

    def forwards(self, source: str = LAN, target: str = WAN, prefix: bytes = b"") -> bool:
        """A host that believes this node to be its router sends a datagram to another network."""
        return self._passes(source, target, gf.IP, gb.HOST, gf.ip4, prefix)

    def forwards6(self, source: str = LAN, target: str = WAN) -> bool:
        return self._passes(source, target, gf.IP6, gb.HOST6, gf.ip6, b"")

    def _passes(
        self,
        source: str,
        target: str,
        kind: int,
        hosts: dict[str, str],
        packet: Callable[[str, str, int, bytes], bytes],
        prefix: bytes,
    ) -> bool:
        self.wire[target].drain()
        payload = packet(hosts[source], hosts[target], 17, gf.udp(5000, 5001, TOKEN))
        if prefix:
            self.asked(source, 0x8100, prefix + struct.pack(">H", kind) + payload)
        else:
            self.asked(source, kind, payload)
        return any(TOKEN in frame for frame in self.wire[target].drain())

    def takes_in(self, kind: int, payload: bytes, tag: bytes = b"") -> bool:
        """The host on lan sends a frame; does the node's kernel look at it behind the gate?"""
        ear = gb.Wire(self.bench.node, "lan0", kind=kind)
        target = self.device[LAN].mac
        own = {
            gf.ARP: gf.arp(1, self.wire[LAN].mac, gb.HOST[LAN], gb.OWN[LAN]),
            gf.IP: gf.ip4(gb.HOST[LAN], gb.OWN[LAN], 17, gf.udp(1, 2, b"the last one")),
            gf.IP6: gf.ip6(gb.HOST6[LAN], gb.OWN6[LAN], 17, gf.udp(1, 2, b"the last one")),
        }.get(kind, b"the last one" + bytes(40))
        if tag:
            self.wire[LAN].send(
                target, int.from_bytes(tag[:2]), tag[2:] + kind.to_bytes(2) + payload
            )
        else:
            self.wire[LAN].send(target, kind, payload)
        self.wire[LAN].send(target, kind, own)
        frames = ear.collect(lambda frame: frame[14:].startswith(own))
        ear.close()
        return any(frame[14:].startswith(payload) for frame in frames[:-1])

    def leaves(self, kind: int, payload: bytes, name: str = LAN) -> bool:
        """The node itself sends a frame; is it seen on the wire?"""
        wire = self.wire[name]
        wire.drain()
        self.device[name].send(wire.mac, kind, payload)
        self.device[name].send(wire.mac, gf.OTHER, b"the last one")
        frames = wire.collect(lambda frame: b"the last one" in frame)
        head = struct.pack(">H", kind) + payload[:30]
        return any(head in frame for frame in frames)


@contextlib.contextmanager
def running_node(served: bool = True) -> Iterator[Node]:
    """A node that is ready, on one processor; everything is removed afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    bench = Bench()
    try:
        bench.up()
        yield Node(bench, served)
    finally:
        bench.down()
        os.sched_setaffinity(0, before)


def closed(node: Node) -> Node:
    """The node, closed, with its gate as it should be."""
    node.bench.beat(Beat(kind=gf.CLOSE))
    gb.until(lambda: node.state().intact, "the gate is whole again")
    return node
