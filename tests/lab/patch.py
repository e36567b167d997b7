# SPDX-License-Identifier: GPL-3.0-or-later
"""Cabling a lab wrong on purpose, as a tired person or a switch would, and right again.

Tests of the wiring's verdict enter here. Everything happens in the switch: a port goes to another
bridge, two bridges are joined, a port takes only short frames, frames from one port to another are
dropped, or thrown back. The nodes see carrier all the time. ``mend`` undoes everything.
"""

from __future__ import annotations

from .plan import NETWORKS, NODES, BadRequest, Wire, host_wires, node_wires
from .shell import run
from .wires import Wires

TABLE = "bridge patch"
REFLECTING = "netdev reflect"
FULL_MTU = 1500


class Patch:
    """The patch panel of one lab."""

    def __init__(self, wires: Wires) -> None:
        self.wires = wires

    def move(self, wire: Wire, network: str) -> None:
        """Plug a cable into another network's bridge."""
        if network not in NETWORKS:
            raise BadRequest(f"network {network!r}: expected one of {', '.join(NETWORKS)}")
        self.wires.ip("switch", f"link set {wire.port} master {network}")

    def swap(self, one: Wire, other: Wire) -> None:
        """Exchange two cables at the switch."""
        self.move(one, other.network)
        self.move(other, one.network)

    def join(self, one: str, other: str) -> None:
        """Connect two networks, as by a cable between two switches that should be apart."""
        name = f"join-{one}-{other}"
        self.wires.ip(
            "switch",
            f"link add {name}0 type veth peer name {name}1",
            f"link set {name}0 master {one} up",
            f"link set {name}1 master {other} up",
        )

    def narrow(self, wire: Wire, mtu: int) -> None:
        """Let a port of the switch take packets up to this size only."""
        self.wires.ip("switch", f"link set {wire.port} mtu {mtu}")

    def block(self, sender: Wire, receiver: Wire, only: str = "") -> None:
        """Drop what goes from one port to another; `only` narrows it to some frames."""
        self.wires.nft(
            f"add table {TABLE}\n"
            f"add chain {TABLE} forward {{ type filter hook forward priority 0; }}\n"
            f'add rule {TABLE} forward iifname "{sender.port}" oifname "{receiver.port}" '
            f"{only} drop\n"
        )

    def separate(self, one: Wire, other: Wire) -> None:
        """Drop everything between two ports, both ways."""
        self.block(one, other)
        self.block(other, one)

    def reflect(self, wire: Wire) -> None:
        """Throw every frame of a port back to it once, as a loop does, without a storm."""
        self.wires.nft(
            f"add table {REFLECTING}\n"
            f"add chain {REFLECTING} back {{ type filter hook ingress "
            f'device "{wire.port}" priority -400; }}\n'
            f'add rule {REFLECTING} back dup to "{wire.port}"\n'
        )

    def mend(self) -> None:
        """Undo everything that was done here, on every port that there is."""
        ports = self.wires.ports()
        lines = [f"link delete {port}" for port in ports if port.startswith("join-")][::2]
        for wire in (*(w for node in NODES for w in node_wires(node)), *host_wires()):
            if wire.port in ports:
                lines.append(f"link set {wire.port} master {wire.network} mtu {FULL_MTU}")
        self.wires.ip("switch", *lines)
        # A bridge takes on the smallest MTU of its ports, and keeps it.
        self.wires.ip("switch", *(f"link set {network} mtu {FULL_MTU}" for network in NETWORKS))
        switch = ["ip", "netns", "exec", self.wires.plan.namespace("switch")]
        listed = run([*switch, "nft", "list", "tables"]).stdout
        for table in (TABLE, REFLECTING):
            if f"table {table}" in listed:
                self.wires.nft(f"delete table {table}\n")
