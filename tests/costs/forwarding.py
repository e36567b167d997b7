# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate costs a forwarded packet: the same packets with it and without, by turns.

And what no gate at these two hooks can save: base chains of the same place without a rule.

A host on lan sends small datagrams to one on wan; the node forwards them through a ruleset with
connection tracking and NAT. Sending, forwarding and receiving are one process's work inside the
kernel, so its processor time is counted and other work on the machine is not. What sending alone
costs (the frame is dropped on arrival) is subtracted.
"""

from __future__ import annotations

import re
import resource
import statistics
from dataclasses import replace

import gate_bench as gb
import gate_frames as gf
from gate_bench import LAN, WAN, Bench, inside

from amaranten_ha.io import nft
from amaranten_ha.io.gate import GateKeeper, plan_of
from amaranten_ha.io.nft_channel import Channel
from tests.costs.sender import Sender

PACKETS = 100_032
OPEN_MS = 60_000
"""So long the gate stays open: on a busy machine the packets take more than a lease."""
SINK = """
table netdev sink {
    chain arriving {
        type filter hook ingress device "wan1" priority 0;
        udp dport 5001 counter drop
    }
}
"""
RULES = f"""
table inet fw {{
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan0 ct state new accept
    }}
    chain after {{
        type nat hook postrouting priority srcnat;
        oifname wan0 snat ip to {gb.OWN[WAN]}
    }}
}}
"""
VOID = """
table netdev void {
    chain arriving {
        type filter hook ingress device "lan0" priority -500;
        udp dport 5001 drop
    }
}
"""


FLOOR = (
    "table netdev floor {\n"
    + "\n".join(
        f'chain {hook}_{device} {{ type filter hook {hook} device "{device}" priority -500; }}'
        for device in ("lan0", "wan0")
        for hook in ("ingress", "egress")
    )
    + "\n}"
)


class Road:
    """A node between two hosts, with a switch for the gate."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        bench.shell(f"nft -f - <<'EOF'\n{RULES}\nEOF")
        gb.run(
            "ip", "netns", "exec", bench.hosts[WAN], "sh", "-c", f"nft -f - <<'EOF'\n{SINK}\nEOF"
        )
        near = bench.device(LAN).mac
        packet = gf.ip4(gb.HOST[LAN], gb.HOST[WAN], 17, gf.udp(5000, 5001, b"x"))
        frame = (near + bench.host(LAN).mac + b"\x08\x00" + packet).ljust(60, b"\0")
        self._sender = Sender(bench.hosts[LAN], "lan1", frame)
        self._channel: Channel | None = None

    def gate(self, wanted: bool) -> None:
        """Put the gate in place, open; or take it away."""
        if wanted:
            with inside(self._bench.node):
                self._channel = Channel()
                plan = replace(plan_of(self._bench.settings), restarting_ms=OPEN_MS)
                GateKeeper(self._channel).ensure(plan)
            self._bench.announce()
        elif self._channel is not None:
            self._channel.transact([nft.delete_table()])
            self._channel.close()
            self._channel = None

    def floor(self, wanted: bool) -> None:
        """Put chains without a rule at the gate's hooks; or take them away."""
        rules = FLOOR if wanted else "delete table netdev floor"
        self._bench.shell(f"nft -f - <<'EOF'\n{rules}\nEOF")

    def void(self, wanted: bool) -> None:
        """Have everything dropped on arrival; or not."""
        rules = VOID if wanted else "delete table netdev void"
        self._bench.shell(f"nft -f - <<'EOF'\n{rules}\nEOF")

    def arrived(self) -> int:
        """How many have arrived so far."""
        where = ("ip", "netns", "exec", self._bench.hosts[WAN], "nft", "list", "ruleset")
        found = re.search(r"counter packets (\d+)", gb.run(*where).stdout)
        assert found
        return int(found[1])

    def ns_per_packet(self, expected: bool = True) -> float:
        """Send them all; return the processor time for each, in nanoseconds."""
        before, used = self.arrived(), _used_ns()
        sent = self._sender.send(PACKETS)
        used = _used_ns() - used
        got = self.arrived() - before
        assert sent >= PACKETS and (got >= 0.99 * PACKETS) is expected, (sent, got)
        return used / PACKETS


def _used_ns() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


def measure(rounds: int) -> dict[str, object]:
    """Return nanoseconds for each packet: sending alone, without the gate, empty hooks, with it.

    Each of the latter two lies between two of "without", and is compared with their mean.
    """
    bench = Bench()
    found: dict[str, list[float]] = {"sending": [], "without": [], "floor": [], "with": []}
    more: dict[str, list[float]] = {"floor": [], "with": []}
    try:
        bench.up()
        road = Road(bench)
        put = {"floor": road.floor, "with": road.gate}
        for number in range(rounds):
            before = road.ns_per_packet()
            for case in ("floor", "with") if number % 2 else ("with", "floor"):
                put[case](True)
                value = road.ns_per_packet()
                put[case](False)
                after = road.ns_per_packet()
                found[case].append(value)
                found["without"].append(after)
                more[case].append(value - (before + after) / 2)
                before = after
            road.void(True)
            found["sending"].append(road.ns_per_packet(False))
            road.void(False)
    finally:
        bench.down()
    middle = {case: statistics.median(values) for case, values in found.items()}
    bare = middle["without"] - middle["sending"]
    cost = {case: statistics.median(values) for case, values in more.items()}
    return {
        "rounds": rounds,
        "packets": PACKETS,
        "ns": {case: [round(value) for value in values] for case, values in found.items()},
        "median_ns": {case: round(value) for case, value in middle.items()},
        "more_ns": {case: [round(value) for value in values] for case, values in more.items()},
        "floor_ns": round(cost["floor"]),
        "gate_ns": round(cost["with"]),
        "floor_rate_lost_percent": _lost(bare, cost["floor"]),
        "rate_lost_percent": _lost(bare, cost["with"]),
    }


def _lost(bare_ns: float, more_ns: float) -> float:
    """By how many percent the rate falls if each packet takes so much more."""
    return round(100 * more_ns / (bare_ns + more_ns), 1)
