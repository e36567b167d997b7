# SPDX-License-Identifier: GPL-3.0-or-later
"""Announcements as heart sends them, and what a neighbour's kernel makes of them.

The neighbour has an entry of the other node, changed a moment ago: the case that Linux ignores
unless the announcement is a true gratuitous ARP. On a plain device, on a VLAN and on a bond.
"""

from __future__ import annotations

from ..guest.bench import HOST, NODE_MAC, OWN, SHARED, SHARED6, Asker, Bench, Shape
from ..guest.net import until

OTHER_MAC = "02:00:00:0d:0d:0d"


def _entry(bench: Bench, address: str) -> str:
    return bench.lan.run("ip", "neigh", "show", "to", address, "dev", "eth0")


def _point_elsewhere(bench: Bench, *addresses: str) -> None:
    bench.lan.ip(
        *(f"neigh replace {each} lladdr {OTHER_MAC} dev eth0 nud reachable" for each in addresses)
    )


def _moves(bench: Bench) -> None:
    bench.take_over()
    for address in (SHARED, SHARED6, "fe80::1"):
        _point_elsewhere(bench, address)
        bench.ports["lan"].announce()
        until(
            f"{address} is at {NODE_MAC}",
            lambda: NODE_MAC in _entry(bench, address),  # noqa: B023  called at once
        )


def check_neighbours_follow() -> None:
    _moves(Bench())


def check_neighbours_follow_on_vlan() -> None:
    _moves(Bench(Shape.VLAN))


def check_neighbours_follow_on_bond() -> None:
    _moves(Bench(Shape.BOND))


def check_ipv6_hosts_keep_their_router() -> None:
    """An advertisement without the Router flag would make a host drop its default route."""
    bench = Bench()
    _point_elsewhere(bench, "fe80::1")
    bench.lan.ip("neigh replace fe80::1 lladdr 02:00:00:0d:0d:0d dev eth0 nud reachable router")
    bench.ports["lan"].announce()
    until("fe80::1 has moved", lambda: NODE_MAC in _entry(bench, "fe80::1"))
    assert "router" in _entry(bench, "fe80::1"), _entry(bench, "fe80::1")


def check_closed_gate_announces_nothing() -> None:
    bench = Bench()
    bench.gate()
    addresses = (SHARED, SHARED6, "fe80::1")
    _point_elsewhere(bench, *addresses)
    bench.ports["lan"].announce()
    found = Asker(bench.lan, HOST).who_has(OWN)  # answered after all that was announced
    assert found == {OWN: NODE_MAC}
    for address in addresses:
        assert OTHER_MAC in _entry(bench, address), f"{address} was announced by a closed gate"
    bench.beat()
    bench.ports["lan"].announce()
    for address in addresses:
        until(
            f"{address} has moved",
            lambda: NODE_MAC in _entry(bench, address),  # noqa: B023  called at once
        )
