# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom heart is told to ask: one address of each host, the ones that it keeps first."""

from __future__ import annotations

import ipaddress

from amaranten_ha.core import neighbour


def known(*rows: tuple[int, str, int]) -> dict[bytes, bytes]:
    """Rows of (logical interface, address, number of the host)."""
    return {
        neighbour.key(link, ipaddress.ip_address(address).packed): bytes((2, 0, 0, 0, 0, host))
        for link, address, host in rows
    }


def test_a_host_is_asked_at_one_address_and_at_the_one_that_it_keeps() -> None:
    rows = known(
        (1, "fe80::1", 1),
        (1, "2001:db8::1", 1),
        (1, "192.0.2.1", 1),
        (1, "fe80::2", 2),
        (1, "2001:db8::2", 2),
        (1, "fe80::3", 3),
        (2, "fe80::3", 3),
    )
    assert neighbour.by_link(rows, 4) == {
        "1": ["192.0.2.1", "2001:db8::2", "fe80::3"],
        "2": ["fe80::3"],
    }


def test_so_many_hosts_of_a_link_are_asked_at_most() -> None:
    rows = known(*((1, f"192.0.2.{host}", host) for host in range(9, 0, -1)))
    assert neighbour.by_link(rows, 2) == {"1": ["192.0.2.1", "192.0.2.2"]}
