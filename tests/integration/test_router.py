# SPDX-License-Identifier: GPL-3.0-or-later
"""fe80::1 as a shared address: an IPv6 host that got its router from an advertisement keeps it.

radvd is installed on both nodes and hangs on the target of the active one, as the documentation
says; the client forgets its static way out and takes what it is told.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import steps
from tests.integration.conftest import converged
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT, ROUTES

PACKAGES = ROOT / "build/packages-test"
SERVER = "2001:db8:51::100"
STATIC = ROUTES["client"][1]
TARGET = "amaranten-ha-active.target"
DROP_IN = f"[Unit]\nPartOf={TARGET}\nAfter={TARGET}\n\n[Install]\nWantedBy=\nWantedBy={TARGET}\n"
ADVERTISE = """interface {device} {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvRASrcAddress {{ fe80::1; }};
    prefix fd20:1::/64 {{ AdvAutonomous off; }};
}};
"""
SETUP = f"""set -e
cat >/etc/radvd.conf
mkdir -p /etc/systemd/system/radvd.service.d
printf '{DROP_IN}' >/etc/systemd/system/radvd.service.d/pair.conf
env DEBIAN_FRONTEND=noninteractive dpkg --install /root/test-packages/*.deb
systemctl disable --now radvd.service
systemctl enable radvd.service
"""
UNDO = """systemctl disable --now radvd.service
env DEBIAN_FRONTEND=noninteractive dpkg --purge radvd
rm -rf /etc/systemd/system/radvd.service.d /etc/radvd.conf /root/test-packages
systemctl daemon-reload
"""


def default_routers(lab: Lab) -> list[str]:
    """The routers that the client was told of."""
    words = ["ip", "-6", "route", "show", "default", "proto", "ra"]
    found = lab.host("client").run(words).stdout.split()
    return [found[place + 1] for place, word in enumerate(found) if word == "via"]


def reaches(lab: Lab) -> bool:
    """Whether the client's packets get through the pair and back, by one echo."""
    return lab.host("client").run(["ping", "-c1", "-W1", SERVER]).returncode == 0


def running(lab: Lab, node: str) -> bool:
    """Whether a node advertises."""
    return lab.node(node).run(["systemctl", "is-active", "radvd.service"]).returncode == 0


@pytest.fixture
def advertised(pair: Lab) -> Iterator[Lab]:
    """The pair with radvd on both nodes, and a client without a way out of its own."""
    active = converged(pair)
    client = pair.host("client")
    client.run(["ip", "-6", "route", "delete", *STATIC.split()])
    try:
        assert not reaches(pair), "the control: without a router there is no way out"
        for node in NODES:
            pair.node(node).deliver(PACKAGES, "/root/test-packages")
            given = ADVERTISE.format(device=pair.device(node, "lan"))
            done = pair.node(node).run(["sh", "-c", SETUP], given=given)
            assert done.returncode == 0, done.stderr
        pair.node(active).run(["systemctl", "start", "radvd.service"])
        yield pair
    finally:
        for node in NODES:
            pair.node(node).run(["sh", "-c", UNDO])
        client.run(["ip", "-6", "route", "flush", "default"])
        client.run(["ip", "-6", "route", "add", *STATIC.split()])
        steps.until("the client has its own way again", lambda: reaches(pair))


def test_a_host_keeps_the_router_that_was_advertised_to_it(advertised: Lab) -> None:
    active = converged(advertised)
    passive = steps.other(active)
    steps.until("the client has a router", lambda: default_routers(advertised) == ["fe80::1"])
    assert reaches(advertised)
    assert not running(advertised, passive)
    said = advertised.node(active).run([steps.TOOL, "switchover"])
    assert said.returncode == 0, said.stderr
    # At once, before the new one can have advertised: the address has moved with its voice.
    assert default_routers(advertised) == ["fe80::1"]
    assert reaches(advertised)
    steps.until("the new active node advertises", lambda: running(advertised, passive))
    steps.until("the other one no more", lambda: not running(advertised, active))
    mac = advertised.mac(passive, "lan")
    assert advertised.host("client").neighbour("fe80::1") == mac
    assert default_routers(advertised) == ["fe80::1"]
    # And with the power of the node that advertises.
    converged(advertised)
    advertised.power_off(passive)
    try:
        steps.until("the other one forwards", lambda: reaches(advertised), 5)
        assert default_routers(advertised) == ["fe80::1"]
        steps.until("the one that is left advertises", lambda: running(advertised, active))
    finally:
        advertised.boot(passive)
    converged(advertised)
