# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true before heart starts: gate verified, no shared address left, then forwarding.

systemd enters before every start of heart. The order is law: nothing may be forwarded and no
shared address may be present without a gate that was read back. After a crash the lease is awaited
and what is left over is removed, so that heart starts with empty hands. An announced restart does
not come through here: heart begins anew in its own process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.io.gate import GateReader, device_indexes
from amaranten_ha.io.inventory import host_addresses, remove_address
from amaranten_ha.settings import CONFIG_PATH, KEYS_PATH, Settings, load

GATE_WAIT_S = 10
LEASE_MARGIN_S = 0.2
LOOK_S = 0.01
SYSCTL = Path("/proc/sys/net")


def say(text: str) -> None:
    """One sentence for the journal."""
    print(text, file=sys.stderr, flush=True)


def until(done: Callable[[], bool], seconds: float) -> bool:
    """Poll until it is done; False if it was not in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
    return True


def await_gate(reader: GateReader, seconds: float) -> None:
    """Return when the gate was read back whole."""
    if not until(lambda: reader.check().intact, seconds):
        problem = reader.check().problem
        raise KernelRefused(
            f"the gate is not in place after {seconds:g} s: {problem};"
            " is amaranten-ha-gate.service running?"
        )


def await_closed(reader: GateReader) -> None:
    """Wait for the end of the lease that a heart before us left."""
    left_s = reader.lease_left_ms() / 1000
    if not until(lambda: not reader.check().open_lease, left_s + LEASE_MARGIN_S):
        raise KernelRefused("the lease is being renewed: expected no other heart to run")


def remove_leftovers(settings: Settings) -> None:
    """Take off every shared address that an earlier life left on our devices."""
    shared = {each.device: {one.ip for one in each.shared} for each in settings.interfaces}
    for found in host_addresses():
        if found.address in shared.get(found.device, ()):
            remove_address(found)
            say(f"removed {found.address} from {found.device}: left over from an earlier life")


def read_sysctl(path: str) -> str:
    """One value under net; empty if the kernel does not have it."""
    try:
        return (SYSCTL / path).read_text().strip()
    except FileNotFoundError:
        return ""


def write_sysctl(path: str, value: str) -> bool:
    """Set one value under net; False if the kernel does not have it."""
    present = read_sysctl(path)
    if present and present != value:
        try:
            (SYSCTL / path).write_text(value)
        except OSError as error:
            raise KernelRefused(
                f"{SYSCTL / path} cannot be set to {value}: {error.strerror}"
            ) from None
    return bool(present)


def start_forwarding(settings: Settings) -> None:
    """Let the kernel forward; only after the gate was verified.

    Forwarding makes Linux ignore router advertisements where accept_ra is 1. A device that is not
    ours (the management interface) keeps accepting them, as it did before.
    """
    kept = {"all", "default", "lo", *(each.device for each in settings.interfaces)}
    for directory in sorted((SYSCTL / "ipv6/conf").glob("*")):
        path = f"ipv6/conf/{directory.name}/accept_ra"
        if directory.name not in kept and read_sysctl(path) == "1":
            write_sysctl(path, "2")
            say(f"{directory.name} goes on accepting router advertisements (accept_ra 2)")
    if not write_sysctl("ipv6/conf/all/forwarding", "1"):
        say("this kernel has no IPv6")
    write_sysctl("ipv4/ip_forward", "1")
    if not write_sysctl("netfilter/nf_conntrack_events", "1"):
        say("connection tracking is not loaded: expected nf_conntrack, which every ruleset needs")


def main(arguments: list[str]) -> int:
    """Prepare the node; the exit code is 0, errors are raised."""
    parser = argparse.ArgumentParser(prog="amaranten-ha stage")
    parser.add_argument("--config", type=Path, default=CONFIG_PATH)
    parser.add_argument("--keys", type=Path, default=KEYS_PATH)
    parser.add_argument("--gate-wait-s", type=float, default=GATE_WAIT_S)
    options = parser.parse_args(arguments)
    settings = load(options.config, options.keys)
    reader = GateReader(settings)
    await_gate(reader, options.gate_wait_s)
    present = device_indexes(each.device for each in settings.interfaces)
    for interface in settings.interfaces:
        if interface.device not in present:
            say(f"interface {interface.name}: there is no device {interface.device} yet")
    await_closed(reader)
    remove_leftovers(settings)
    start_forwarding(settings)
    return 0
