# SPDX-License-Identifier: GPL-3.0-or-later
"""The logical interfaces on their devices: bound, lost and bound again under another index.

Heart enters with logical names; a port hides which device it is on and whether that exists now.
The frames of announcements are built when a port is bound, not when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from amaranten_ha.core import ether
from amaranten_ha.core.beat import ETHERTYPE, GROUP_MAC
from amaranten_ha.core.budget import Budget
from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.node import SEALED_BYTES_MAX
from amaranten_ha.core.prober import Probe
from amaranten_ha.io.frames import LinkSocket, Received
from amaranten_ha.io.links import Device, SharedAddress
from amaranten_ha.settings import Interface


class Port:
    """One logical interface of this node."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.budget = Budget()
        self._dropped = 0
        self.socket: LinkSocket | None = None
        self.carrier = False
        self.problem = "device is missing"
        self.shared: list[SharedAddress] = []
        self._announcements: list[bytes] = []

    def bind(self, device: Device | None) -> bool:
        """Follow the device; True if the port has a new socket, or lost its old one."""
        self.carrier = device is not None and device.carrier
        if self.socket and device and self.socket.index == device.index:
            return False
        if self.socket:
            self.socket.close()
        elif device is None:
            return False
        self.socket, self.shared, self._announcements = None, [], []
        self.problem = "device is missing"
        if device is not None:
            self._open(device)
        return True

    def _open(self, device: Device) -> None:
        try:
            self.socket = LinkSocket(device.name, device.index, SEALED_BYTES_MAX)
        except KernelRefused as error:
            self.problem = str(error)
            return
        self.problem = ""
        self.shared = [(device.index, each.ip.packed) for each in self.interface.shared]
        for each in self.interface.shared:
            self._announcements += ether.announcements(each.ip, self.socket.mac)

    def drain(self, now_ns: int) -> Iterator[Received]:
        """Yield what has arrived, as far as the link's budget goes."""
        if self.socket is None:
            return
        granted, count = self.budget.grant(now_ns), 0
        for received in self.socket.drain(granted):
            count += 1
            yield received
        self.budget.took(count, granted)

    def dropped(self) -> int:
        """Return how many frames the kernel has thrown away: more came than the budget takes."""
        if self.socket:
            self._dropped += self.socket.dropped()
        return self._dropped

    def beat(self, message: bytes, peer_mac: bytes | None) -> None:
        """Send a heartbeat: to the group, and while the peer is heard to its own MAC."""
        if self.socket:
            data = ether.frame(peer_mac or GROUP_MAC, self.socket.mac, ETHERTYPE, message)
            self.socket.send(data)

    def ask(self, probe: Probe) -> None:
        """Send a probe."""
        if self.socket:
            data = ether.probe(probe.address, self.socket.mac, probe.own, probe.destination)
            self.socket.send(data)

    def announce(self) -> None:
        """Tell the network that the shared addresses are here."""
        if self.socket:
            for data in self._announcements:
                self.socket.send(data)
