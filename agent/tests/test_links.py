# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames, probes, announcements and addresses against a real kernel, in two network namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NAMES = (f"hl{os.getpid()}a", f"hl{os.getpid()}b")
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
]
SOURCE = Path(__file__).parents[1] / "src"
PRELUDE = """
import ipaddress, sys, time, select
sys.path.insert(0, {source!r})
from amaranten_ha.core import ether
from amaranten_ha.core.beat import *
from amaranten_ha.io.frames import LinkSocket
from amaranten_ha.io.links import Addresses, Links
links = Links(["wire"])
device = links.devices["wire"]
def wait(port, seconds=3.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = list(port.drain(256))
        if found:
            return found
        select.select([port], [], [], 0.05)
    return []
"""


def ip(*words: str) -> str:
    """Run ip in this machine, for the namespaces of this test only."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
    return done.stdout


def until(holds: Callable[[], bool]) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.02)


def within(name: str, code: str) -> str:
    """Run Python with the agent's modules inside a namespace; return what it printed."""
    script = PRELUDE.format(source=str(SOURCE)) + code
    done = subprocess.run(
        ["ip", "netns", "exec", name, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def wire() -> Iterator[None]:
    """Two namespaces, one cable, an address on the far end."""
    try:
        for name in NAMES:
            ip("netns", "add", name)
        peer = ["peer", "name", "wire", "netns", NAMES[1]]
        ip("-n", NAMES[0], "link", "add", "wire", "type", "veth", *peer)
        for number, name in enumerate(NAMES, start=1):
            ip("-n", name, "address", "add", f"192.0.2.{number}/24", "dev", "wire")
            ip("-n", name, "address", "add", f"2001:db8::{number}/64", "dev", "wire", "nodad")
            ip("-n", name, "link", "set", "wire", "up")
        for name in NAMES:
            # IPv6 listens to multicast only once the kernel has noticed the carrier.
            until(lambda name=name: "fe80::" in ip("-n", name, "address", "show", "dev", "wire"))
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.parametrize(
    ("address", "own"),
    [("192.0.2.2", "192.0.2.1"), ("192.0.2.2", None), ("2001:db8::2", "2001:db8::1")],
)
@pytest.mark.parametrize("unicast", [False, True])
def test_a_kernel_answers_a_probe_for_its_address(
    wire: None, address: str, own: str | None, unicast: bool
) -> None:
    mac = within(NAMES[1], "print(open('/sys/class/net/wire/address').read())")
    output = within(
        NAMES[0],
        f"""
port = LinkSocket("wire", device.index, 600)
own = {own!r} and ipaddress.ip_address({own!r})
mac = bytes.fromhex({mac!r}.replace(":", "")) if {unicast} else None
for _ in range(20):
    port.send(ether.probe(ipaddress.ip_address({address!r}), port.mac, own, mac))
    answers = [found for each in wait(port, 0.2) if (found := ether.answer(each.data))]
    if answers:
        print(answers[0].address, answers[0].mac.hex(":"))
        break
""",
    )
    assert output == f"{address} {mac}"


def test_nobody_answers_for_an_address_that_nobody_has(wire: None) -> None:
    output = within(
        NAMES[0],
        """
port = LinkSocket("wire", device.index, 600)
port.send(ether.probe(ipaddress.ip_address("192.0.2.9"), port.mac, None, None))
print([ether.answer(each.data) for each in wait(port, 0.5)])
""",
    )
    assert output == "[]"


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_an_announcement_changes_the_neighbour_entry_of_a_host(wire: None, address: str) -> None:
    ip("-n", NAMES[1], "neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", "wire",
       "nud", "stale")  # fmt: skip
    mac = within(
        NAMES[0],
        f"""
port = LinkSocket("wire", device.index, 600)
for data in ether.announcements(ipaddress.ip_address({address!r}), port.mac):
    assert port.send(data)
print(port.mac.hex(":"))
""",
    )
    until(lambda: mac in ip("-n", NAMES[1], "neigh", "show", address))


def test_shared_addresses_go_on_and_off_and_are_read_back(wire: None) -> None:
    output = within(
        NAMES[0],
        """
addresses = Addresses()
wanted = {(device.index, ipaddress.ip_address(each).packed)
          for each in ("192.0.2.10", "192.0.2.11", "2001:db8::10", "fe80::1")}
print(addresses.put_on(wanted), wanted <= addresses.present())
print(addresses.put_on(wanted))
import subprocess
print(subprocess.run(["ip", "-o", "-6", "addr", "show", "dev", "wire"],
                     capture_output=True, text=True).stdout.count("deprecated"))
print(addresses.take_off(wanted), addresses.take_off(wanted), wanted & addresses.present())
print(addresses.put_on([(9999, wanted.pop()[1])]))
""",
    )
    lines = output.splitlines()
    assert lines[:4] == ["[] True", "[]", "2", "[] [] set()"]
    assert "No such device" in lines[4]


def test_only_beats_pass_the_filter_cut_after_the_longest_and_even_through_a_dropping_ingress_chain(
    wire: None,
) -> None:
    hook = 'type filter hook ingress device "wire" priority 0; policy drop;'
    rules = f"table netdev user {{ chain everything {{ {hook} }} ; }}"
    subprocess.run(
        ["ip", "netns", "exec", NAMES[1], "nft", "-f", "-"], input=rules, text=True, check=True
    )
    receiver = subprocess.Popen(
        ["ip", "netns", "exec", NAMES[1], sys.executable, "-c",
         PRELUDE.format(source=str(SOURCE)) + """
port = LinkSocket("wire", device.index, 600)
print("ready", flush=True)
began = time.monotonic_ns()
found = []
while len(found) < 5 and time.monotonic_ns() - began < 10_000_000_000:
    found += wait(port, 0.2)
print([(len(each.data), each.data[14:18] + bytes([each.data[-1]])) for each in found])
print(all(began < each.at_ns <= time.monotonic_ns() for each in found))
"""],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    within(
        NAMES[0],
        """
port = LinkSocket("wire", device.index, 600)
def beat(cluster, mark, magic=b"AmHA", size=100, to=GROUP_MAC):
    body = magic + b"\1\1" + cluster.to_bytes(2) + bytes(size) + bytes([mark])
    port.send(ether.frame(to, port.mac, ETHERTYPE, body))
beat(7, 1); beat(8, 2); beat(7, 3, b"XXXX"); beat(7, 4, size=900); beat(7, 5, to=b"\2" * 6)
beat(7, 6); beat(7, 7)
""",
    )
    output = receiver.communicate(timeout=20)[0].splitlines()
    expected = [(123, b"AmHA" + bytes([mark])) for mark in (1, 2, 6, 7)]
    expected.insert(2, (615, b"AmHA\0"))
    assert output == [str(expected), "True"], "another pair's and a longer one are there to count"


def test_a_device_that_comes_back_has_another_index_and_is_noticed(wire: None) -> None:
    output = within(
        NAMES[0],
        """
import subprocess
run = lambda text: subprocess.run(text.split(), check=True)
run("ip link del wire")
assert links.drain()
print(links.devices)
run("ip link add wire type veth peer name other")
run("ip link set wire up"); run("ip link set other up")
deadline = time.monotonic() + 10  # the kernel tells of a carrier in its own time
while not ((found := links.devices.get("wire")) and found.carrier) and time.monotonic() < deadline:
    select.select([links], [], [], 0.1)
    links.drain()
print(links.devices["wire"].index != device.index, links.devices["wire"].carrier)
""",
    )
    assert output.splitlines() == ["{}", "True True"]
