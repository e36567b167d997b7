# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who answers on a network: equipment that only one node reaches, and addresses that are taken.

Only interfaces enter here of which nothing is wrong with the cable.  A neighbour that neither node
reaches is off, not out of reach; it is a finding only if somebody declared it.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    WARNING,
    Finding,
    listed,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_view import Port, View


def reach(view: View, name: str) -> t.Iterator[Finding]:
    """Neighbours that one node can resolve and the other cannot."""
    ports = view.ports(name)
    resolved = {port: {a for a, macs in view.foreign(port).items() if macs} for port in ports}
    for port in ports:
        twin = view.twin(port)
        missing = sorted(resolved[twin] - resolved[port], key=by_number)
        if missing:
            yield out_of_reach(view, name, port, twin, missing)
    declared = set(view.state(ports[0]).get("declared", []))
    silent = sorted(declared - resolved[ports[0]] - resolved[ports[1]], key=by_number)
    if silent:
        yield Finding(
            "reach", WARNING, "no answer", (name,), view.nodes,
            f"{listed(silent)} on {name} answers neither node",
            "see whether it is on, and in this network; a host may also refuse to answer a node "
            "that has no own address there yet",
        )  # fmt: skip


def out_of_reach(
    view: View, name: str, port: Port, twin: Port, missing: t.Sequence[str]
) -> Finding:
    """Equipment that one node reaches and the other does not."""
    asked, theirs = view.state(port).get("asked", {}), view.state(twin).get("asked", {})
    # An address-less question may be left unanswered by a host that would answer a proper one.
    unequal = all(theirs.get(a) and not asked.get(a) for a in missing)
    how = f", which had no own address to ask from, as {twin.node} had" if unequal else ""
    return Finding(
        "reach", WARNING if unequal else FAILED, "only one node reaches", (name,), (port.node,),
        f"{listed(missing)} on {name} answers {twin.node} and does not answer {port.node}{how}",
        f"look for what is between {view.called(port)} and it: a filter, another VLAN, a cable of "
        f"its own to {twin.node}",
    )  # fmt: skip


def by_number(address: str) -> tuple[int, int]:
    """Order of addresses as people expect it."""
    found = ipaddress.ip_address(address)
    return found.version, int(found)


def duplicates(view: View, name: str) -> t.Iterator[Finding]:
    """Addresses of the pair that somebody else has, and hardware addresses that are there twice."""
    ports = view.ports(name)
    taken: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for port in ports:
        state = view.state(port)
        for address in state.get("pair", []):
            macs = set(state.get("answers", {}).get(address, []))
            # A node's own address is asked for by itself, so nobody at all may answer.
            macs -= frozenset() if address in state["own"] else view.every_mac()
            if macs:
                taken.setdefault((address, tuple(sorted(macs))), []).append(port.node)
    for (address, macs), nodes in taken.items():
        owners = [node for node in view.nodes if set(macs) & view.macs(node)]
        by = f"{listed(owners)}, which should not have it" if owners else listed(macs)
        yield Finding(
            "addresses", FAILED, "address taken", (name,), tuple(owners or nodes),
            f"{address} of the pair on {name} is answered for by {by}",
            "take the address off that machine, or choose another one in ha_cluster",
        )  # fmt: skip
    yield from both_answer(view, name)
    yield from hardware(view, name)


def both_answer(view: View, name: str) -> t.Iterator[Finding]:
    """Shared addresses that each node hears the other one answer for."""
    ports = view.ports(name)
    states = [view.state(port) for port in ports]
    for address in sorted(set(states[0].get("pair", [])) & set(states[1].get("pair", []))):
        if all(
            view.macs(view.twin(port).node) & set(state.get("answers", {}).get(address, []))
            for port, state in zip(ports, states, strict=True)
        ):
            yield Finding(
                "addresses", FAILED, "both answer", (name,), view.nodes,
                f"both nodes answer for the shared address {address} on {name}",
                "take it off one of them: `ip address show` on both",
            )  # fmt: skip


def hardware(view: View, name: str) -> t.Iterator[Finding]:
    """Hardware addresses that are on this network twice."""
    ports = view.ports(name)
    macs = [view.state(port)["mac"] for port in ports]
    if macs[0] == macs[1]:
        yield Finding(
            "addresses", FAILED, "MAC twice", (name,), view.nodes,
            f"both nodes have the hardware address {macs[0]} on {name}",
            "give one of the devices another one: cloned machines keep the original's",
        )  # fmt: skip
        return
    for port in ports:
        if view.state(port).get("echoes"):
            yield Finding(
                "addresses", FAILED, "MAC twice", (name,), (port.node,),
                f"another machine on {name} has the hardware address of {view.called(port)}, "
                f"{view.state(port)['mac']}",
                "give one of the two devices another hardware address",
            )  # fmt: skip
