# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared addresses as heart puts them on and takes them off, and the devices that it follows."""

from __future__ import annotations

import ipaddress

from amaranten_ha.io.links import Addresses, Links, SharedAddress

from ..guest.bench import HOST, HOST6, OWN, OWN6, SHARED, SHARED6, Bench
from ..guest.net import Net, until
from ..guest.talk import Ear, Mouth


def _shared(bench: Bench) -> list[SharedAddress]:
    return [each for port in bench.ports.values() for each in port.shared]


def check_put_on_twice_and_taken_off_twice() -> None:
    bench = Bench()
    wanted = _shared(bench)
    assert len(wanted) == 5, wanted
    with bench.node:
        addresses = Addresses()
    assert addresses.put_on(wanted) == []
    assert addresses.put_on(wanted) == [], "putting on what is there"
    assert set(wanted) <= addresses.present()
    assert addresses.take_off(wanted) == []
    assert not set(wanted) & addresses.present()
    assert addresses.take_off(wanted) == [], "taking off what is not there"


def check_shared_addresses_are_usable_at_once() -> None:
    """No duplicate address detection: a tentative address would be deaf for a second."""
    bench = Bench()
    bench.node.set("net/ipv6/conf/lan0/accept_dad", 1)
    ear = Ear(bench.node, 10)
    bench.take_over()
    shown = bench.node.run("ip", "-6", "addr", "show", "dev", "lan0")
    assert "tentative" not in shown, shown
    Mouth(bench.lan, HOST6).says(b"at once", SHARED6)
    ear.hears(b"at once")


def check_shared_addresses_are_no_sources() -> None:
    """A node's own traffic keeps its own address, or it would die at the next switch."""
    bench = Bench()
    bench.take_over()
    for host, own, anything in ((HOST, OWN, "0.0.0.0"), (HOST6, OWN6, "::")):
        ear = Ear(bench.lan, 10 if ":" in host else 2)
        Mouth(bench.node, anything).says(b"from the node", host)
        ear.hears(b"from the node")
        assert ear.sources[b"from the node"] == own, ear.sources


def check_own_addresses_stay_when_shared_ones_go() -> None:
    bench = Bench()
    bench.node.set("net/ipv4/conf/all/promote_secondaries", 0)
    wanted = _shared(bench)
    with bench.node:
        addresses = Addresses()
    addresses.put_on(wanted)
    addresses.take_off(wanted)
    shown = bench.node.run("ip", "-brief", "addr", "show", "dev", "lan0")
    assert f"{OWN}/24" in shown and f"{OWN6}/64" in shown, shown
    assert f"{SHARED}/" not in shown and f"{SHARED6}/" not in shown, shown


def check_foreign_addresses_are_not_touched() -> None:
    """An address that the user gave with a prefix of its own network is no shared address."""
    bench = Bench()
    bench.node.ip("addr add 10.20.1.77/24 dev lan0")
    with bench.node:
        addresses = Addresses()
    found = {packed for _family, packed in addresses.present()}
    assert ipaddress.ip_address("10.20.1.77").packed not in found


def check_links_tell_carrier_and_devices() -> None:
    node, other = Net.here(), Net.new()
    with node:
        links = Links(["lan0"])
    assert links.devices == {}
    node.ip(f"link add lan0 type veth peer name eth0 netns {other.path}", "link set lan0 up")
    until("the device is there", lambda: links.drain() and "lan0" in links.devices)
    assert not links.devices["lan0"].carrier
    for state, carrier in (("up", True), ("down", False)):
        other.ip(f"link set eth0 {state}")

        def seen(wanted: bool = carrier) -> bool:
            links.drain()
            return links.devices["lan0"].carrier == wanted

        until(f"carrier follows the other end going {state}", seen)
    node.ip("link set lan0 down", "link set lan0 name elsewhere")
    until("the device is gone", lambda: links.drain() and not links.devices)
    node.ip("link set elsewhere name lan0", "link set lan0 up")
    until("the device is back", lambda: links.drain() and "lan0" in links.devices)
    before = links.devices["lan0"].index
    node.ip("link del lan0", f"link add lan0 type veth peer name eth0 netns {other.path}")

    def renewed() -> bool:
        links.drain()
        return links.devices.get("lan0") is not None and links.devices["lan0"].index != before

    until("the new device of that name is seen", renewed)
