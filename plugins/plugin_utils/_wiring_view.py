# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What two wire probes have seen, as one picture: ports, and who heard whom.

`_wiring` enters with what the two nodes returned.  A port is a logical interface of one node; an
edge says that frames of a port arrived at another.  Nothing is judged here.
"""

from __future__ import annotations

import dataclasses
import typing as t

Wiring = t.Mapping[str, t.Any]
STRANGE = "device "
"""A port that is no interface of the pair is named by its device, behind this word."""
OVERLAP_S_MIN = 1.0


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Port:
    """An interface of a node, or another device of it that was listened on."""

    node: str
    name: str

    @property
    def ours(self) -> bool:
        """Whether it is an interface of the pair."""
        return not self.name.startswith(STRANGE)


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """Frames of one kind that got from one port to another."""

    sender: Port
    receiver: Port
    kind: str
    vlan: int
    mac: str
    size: int


class View:
    """Both nodes' observations, by host name; the primary first."""

    def __init__(self, observations: t.Mapping[str, Wiring]) -> None:
        self.observations = dict(
            sorted(observations.items(), key=lambda item: int(item[1].get("number", 0)))
        )
        self.nodes = tuple(self.observations)
        self.hosts = {int(seen.get("number", 0)): host for host, seen in observations.items()}
        first: Wiring = next(iter(self.observations.values()), {})
        self.links: dict[str, int] = dict(first.get("links", {}))
        self.names = {int(link): name for name, link in self.links.items()}
        self.edges = tuple(self._edges())

    def _edges(self) -> t.Iterator[Edge]:
        for host, seen in self.observations.items():
            for item in seen.get("heard", []):
                sender = self.hosts.get(item["node"])
                name = self.names.get(item["link"])
                if sender is None or name is None:
                    continue
                at = item["at"] or STRANGE + item["device"]
                yield Edge(
                    Port(sender, name), Port(host, at), item["kind"], item["vlan"], item["mac"],
                    item["size"],
                )  # fmt: skip

    def state(self, port: Port) -> Wiring:
        """What a node knows of its own interface."""
        found: Wiring = self.observations[port.node]["interfaces"][port.name]
        return found

    def device(self, port: Port) -> str:
        """Device name of a port."""
        return str(self.state(port)["device"]) if port.ours else port.name[len(STRANGE) :]

    def called(self, port: Port) -> str:
        """A port as a sentence has it: node's name (device)."""
        if not port.ours:
            return f"{port.node}'s {self.device(port)}"
        return f"{port.node}'s {port.name} ({self.device(port)})"

    def twin(self, port: Port) -> Port:
        """The same interface of the other node."""
        return Port(next(node for node in self.nodes if node != port.node), port.name)

    def ports(self, name: str) -> tuple[Port, ...]:
        """An interface on both nodes."""
        return tuple(Port(node, name) for node in self.nodes)

    def usable(self, port: Port) -> bool:
        """Whether the probe could speak and listen there."""
        return bool(self.state(port).get("carrier"))

    def between(self, sender: Port, receiver: Port) -> tuple[Edge, ...]:
        """Everything that got from one port to another."""
        return tuple(e for e in self.edges if e.sender == sender and e.receiver == receiver)

    def macs(self, node: str) -> frozenset[str]:
        """Hardware addresses of a node's interfaces."""
        states = self.observations[node]["interfaces"].values()
        return frozenset(state["mac"] for state in states if state.get("mac"))

    def foreign(self, port: Port) -> dict[str, list[str]]:
        """Who answered for which address at a port, the addresses of the two nodes left out.

        Their link-local ones stand in each other's tables like those of any neighbour.
        """
        ours = {
            address
            for each in self.ports(port.name)
            for key in ("pair", "addresses")
            for address in self.state(each).get(key, [])
        }
        answers: dict[str, list[str]] = self.state(port).get("answers", {})
        macs = self.every_mac()
        return {a: [m for m in by if m not in macs] for a, by in answers.items() if a not in ours}

    def every_mac(self) -> frozenset[str]:
        """Hardware addresses of both nodes."""
        return frozenset().union(*(self.macs(node) for node in self.nodes))

    def alone(self) -> str:
        """Why nothing can be concluded from these observations, or an empty text."""
        for seen in self.observations.values():
            if seen.get("alone"):
                return str(seen["alone"])
        if len(self.observations) != 2:
            return f"only {' '.join(self.nodes) or 'no node'} was observed"
        if len({seen["run"] for seen in self.observations.values()}) != 1:
            return "the two nodes took part in different runs"
        if any(edge.sender.node != edge.receiver.node for edge in self.edges):
            return ""
        overlap_s = min(seen["began"] + seen["ran_s"] for seen in self.observations.values()) - max(
            seen["ended"] - seen["ran_s"] for seen in self.observations.values()
        )
        if overlap_s < OVERLAP_S_MIN:
            return "the two nodes did not surely speak and listen at the same time"
        return ""
