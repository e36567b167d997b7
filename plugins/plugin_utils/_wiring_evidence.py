# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of two nodes is plugged wrong, by the word of third parties.

Two nodes alone cannot tell: if lan and dmz are exchanged between them, either may be right.  But
the hosts of a network can: whoever is heard or answers on an interface with an address of that
interface's network speaks for it, and against it with one of another interface's.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_view import Port, View


def misplaced(view: View, names: t.Sequence[str]) -> str:
    """The node whose interfaces are exchanged, or an empty text if nobody says so."""
    score = {node: sum(evidence(view, Port(node, name)) for name in names) for node in view.nodes}
    first, second = view.nodes
    if score[first] == score[second]:
        return ""
    return first if score[first] < score[second] else second


def evidence(view: View, port: Port) -> int:
    """How many hosts say that a port is where it belongs, less those that say it is not."""
    ours = view.every_mac()
    total = sum(bool(macs) for macs in view.foreign(port).values())
    for address, mac in view.state(port).get("speakers", []):
        if mac in ours:
            continue
        for name in view.links:
            if any(inside(address, n) for n in view.state(Port(port.node, name))["networks"]):
                total += 1 if name == port.name else -1
    return total


def inside(address: str, network: str) -> bool:
    """Whether an address belongs to a network."""
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(network)
