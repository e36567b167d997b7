# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""systemd-networkd's files: own addresses, what they keep, and never a shared one."""

from __future__ import annotations

from ansible_collections.amaranten.ha.plugins.module_utils import _network_files as network_files


def interface(**more):
    """An interface with one own address."""
    found = {
        "name": "lan",
        "device": "enp1s0",
        "addresses": ["10.20.1.2/24"],
        "on_link": [],
        "routes": [],
        "mtu": None,
    }
    found.update(more)
    return found


def test_addresses_of_others_are_kept():
    text = network_files.text_of(interface(), {})
    for line in ("Name=enp1s0", "Address=10.20.1.2/24", "KeepConfiguration=yes"):
        assert line in text.splitlines()
    for line in ("ConfigureWithoutCarrier=yes", "IgnoreCarrierLoss=yes", "IPv6AcceptRA=no"):
        assert line in text.splitlines()


def test_a_wan_without_own_addresses_has_its_network_and_its_next_hop():
    wan = interface(
        addresses=[],
        on_link=["198.51.100.0/24", "2001:db8::/64"],
        routes=[{"to": "0.0.0.0/0", "via": "198.51.100.254", "on_link": True}],
    )
    text = network_files.text_of(wan, {})
    assert "Address=" not in text
    kept = network_files.text_of(dict(wan, placeholder=True), {})
    assert "[Address]\nAddress=192.0.0.8/32\nScope=host\n" in kept
    assert "[Route]\nDestination=198.51.100.0/24\nScope=link\n" in text
    assert "[Route]\nDestination=2001:db8::/64\n\n" in text
    assert "Destination=0.0.0.0/0\nGateway=198.51.100.254\nGatewayOnLink=yes\n" in text


def test_resolvers_are_on_the_interface_of_the_default_route():
    wan = interface(name="wan", device="enp2s0", routes=[{"to": "::/0", "via": "2001:db8::9"}])
    found = network_files.files([interface(), wan], {"servers": ["9.9.9.9"], "search": ["a", "b"]})
    assert "DNS" not in found[network_files.path_of(interface())]
    text = found[network_files.path_of(wan)]
    assert "DNS=9.9.9.9\nDomains=a b\n" in text


def test_no_interface_no_file():
    assert network_files.files([], {}) == {}
