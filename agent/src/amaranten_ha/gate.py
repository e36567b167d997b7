# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate service: makes the gate, keeps it whole, owns its table, and does nothing else.

systemd enters. The table's owner is a netlink socket that systemd keeps for us, so that a crash
leaves the gate where it is and the next process finds it, verifies it and goes on. This service
never opens or closes the gate: heart's frames do, in the kernel, whether it runs or not.

Stopping it leaves the table in place, closed as soon as heart's lease ends: by the kernel itself
where it knows `persist`, else by handing the table over to nobody. `nft delete table netdev
amaranten_ha` then removes it, for those who really mean it.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
from pathlib import Path

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.gate_rules import running_own
from amaranten_ha.io.gate import GateKeeper, device_indexes, plan_of
from amaranten_ha.io.inventory import HostEvents, host_addresses
from amaranten_ha.io.nft_channel import Channel
from amaranten_ha.io.unit import Unit, kept
from amaranten_ha.settings import CONFIG_PATH, KEYS_PATH, Settings, load

STORED = "gate"
LOOK_MS = 1000


def say(text: str) -> None:
    """One sentence for the journal."""
    print(text, file=sys.stderr, flush=True)


def open_channel(unit: Unit) -> Channel:
    """Adopt the socket of an earlier life, or open one and have systemd keep it."""
    descriptor = kept().get(STORED)
    if descriptor is not None:
        try:
            channel = Channel(descriptor)
        except KernelRefused as error:
            say(f"{error}; a new socket takes its place")
            unit.notify("FDSTOREREMOVE=1", f"FDNAME={STORED}")
        else:
            say(f"adopted the socket of the last run (netlink port {channel.port})")
            return channel
    channel = Channel()
    unit.keep(STORED, channel.fileno())
    return channel


class Gate:
    """The gate of one node, as its service sees it."""

    def __init__(self, settings: Settings, channel: Channel) -> None:
        self._settings = settings
        self._devices = {each.device: each.name for each in settings.interfaces}
        self._keeper = GateKeeper(channel)

    def look(self) -> None:
        """Verify, mend what is wrong, and say so."""
        found = [(each.device, each.address, each.permanent) for each in host_addresses()]
        plan = plan_of(self._settings, running_own(found, self._devices.keys()))
        for problem in self._keeper.ensure(plan):
            say(f"put right: {problem}")

    def describe(self) -> str:
        """Where the gate is in place, and where it waits for a device."""
        present = device_indexes(self._devices)
        here = ", ".join(f"{self._devices[each]} ({each})" for each in present) or "no device yet"
        missing = [
            f"{name} ({each})" for each, name in self._devices.items() if each not in present
        ]
        waits = f"; missing: {', '.join(missing)}" if missing else ""
        keeps = "the kernel keeps it" if self._keeper.persists else "kept by this service's socket"
        return f"gate in place on {here}{waits}; {keeps}"

    def leave(self) -> None:
        """Let go of the table; it stays."""
        self._keeper.release()


def serve(gate: Gate, unit: Unit) -> None:
    """Look at every event of a device or an address, and once a second; return when told to."""
    bell, ring = socket.socketpair()
    for end in (bell, ring):
        end.setblocking(False)
    signal.set_wakeup_fd(ring.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_signal: None)
    events = HostEvents()
    poll = select.poll()
    for waited in (events, bell):
        poll.register(waited, select.POLLIN)
    gate.look()
    text = gate.describe()
    say(text)
    unit.notify("READY=1", f"STATUS={text}")
    while True:
        ready = {descriptor for descriptor, _event in poll.poll(LOOK_MS)}
        if bell.fileno() in ready:
            return
        events.drain()
        gate.look()
        if (now := gate.describe()) != text:
            text = now
            say(text)
        unit.notify("WATCHDOG=1", f"STATUS={text}")


def main(arguments: list[str]) -> int:
    """Run the service until SIGTERM; the exit code is 0, errors are raised."""
    parser = argparse.ArgumentParser(prog="amaranten-ha gate")
    parser.add_argument("--config", type=Path, default=CONFIG_PATH)
    parser.add_argument("--keys", type=Path, default=KEYS_PATH)
    options = parser.parse_args(arguments)
    settings = load(options.config, options.keys)
    unit = Unit()
    gate = Gate(settings, open_channel(unit))
    serve(gate, unit)
    unit.notify("STOPPING=1")
    gate.leave()
    say("stopped; the gate stays as it is, closed once the lease ends")
    return 0
