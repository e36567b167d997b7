# SPDX-License-Identifier: GPL-3.0-or-later
"""A firewall node between a host on lan and a host on wan, run by the agent's own code.

Enter with ``Bench()``: three machines with addresses, the node's settings as the agent knows them,
and its ports, gate and seal made by the agent's modules. The lan may be a plain device, a VLAN on
a trunk or a bond. Nothing here decides what is right; the checks do.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import time
from enum import Enum

from amaranten_ha.core.beat import Beat, Kind, Role, encode
from amaranten_ha.core.ether import answer
from amaranten_ha.core.prober import Probe
from amaranten_ha.core.seal import KeyRing, Sealer
from amaranten_ha.core.timing import PROFILES
from amaranten_ha.io.frames import Received
from amaranten_ha.io.gate import GateKeeper, GateReader, GateState, plan_of
from amaranten_ha.io.links import Addresses, Links
from amaranten_ha.io.nft_channel import Channel
from amaranten_ha.io.ports import Port
from amaranten_ha.settings import Cluster, Interface, Node, Replication, Settings

from .net import Net, until
from .talk import LATE_S, PORT, Ear, Mouth

OWN, SHARED, HOST = "10.20.1.2", "10.20.1.1", "10.20.1.100"
OWN6, SHARED6, HOST6 = "fd20:1::2", "fd20:1::1", "fd20:1::100"
WAN_OWN, WAN_SHARED, WAN_HOST = "198.51.100.2", "198.51.100.1", "198.51.100.100"
WAN_OWN6, WAN_SHARED6, WAN_HOST6 = "2001:db8:51::2", "2001:db8:51::1", "2001:db8:51::100"
MGMT, MGMT_HOST = "10.20.9.2", "10.20.9.100"
NODE_MAC, HOST_MAC = "02:00:00:01:00:02", "02:00:00:01:00:64"
CLUSTER, NODE, PEER = 7, 1, 2


class Shape(Enum):
    """What the node's lan device is."""

    PLAIN = "lan0"
    VLAN = "trunk0.100"
    BOND = "bond0"


def settings(lan_device: str) -> Settings:
    """The node as its configuration would describe it; the durations that forgive most."""

    def addresses(*texts: str) -> tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]:
        return tuple(ipaddress.ip_interface(text) for text in texts)

    return Settings(
        cluster=Cluster(CLUSTER, "bench", "relaxed", PROFILES["relaxed"]),
        node=Node("fw-a", NODE),
        peer=Node("fw-b", PEER),
        interfaces=(
            Interface(
                name="lan",
                link=1,
                role="service",
                device=lan_device,
                own=addresses(f"{OWN}/24", f"{OWN6}/64"),
                peer_own=addresses("10.20.1.3/24", "fd20:1::3/64"),
                shared=addresses(f"{SHARED}/24", f"{SHARED6}/64", "fe80::1/64"),
            ),
            Interface(
                name="wan",
                link=2,
                role="service",
                device="wan0",
                own=addresses(f"{WAN_OWN}/24", f"{WAN_OWN6}/64"),
                peer_own=addresses("198.51.100.3/24", "2001:db8:51::3/64"),
                shared=addresses(f"{WAN_SHARED}/24", f"{WAN_SHARED6}/64"),
            ),
        ),
        replication=Replication(port=6780),
        gateways=(),
        keys=KeyRing({1: bytes(range(32))}, 1),
    )


def _pin(address: str, mac: str, device: str) -> str:
    return f"neigh replace {address} lladdr {mac} dev {device} nud permanent"


class Bench:
    """The three machines; ``lan`` and ``wan`` have one device each, ``eth0``."""

    def __init__(self, shape: Shape = Shape.PLAIN) -> None:
        self.shape = shape
        self.device = shape.value
        self.node, self.lan, self.wan = Net.new(), Net.new(), Net.new()
        for each in (self.node, self.lan, self.wan):
            each.set("net/ipv6/conf/default/accept_dad", 0)
            each.set("net/ipv6/conf/default/router_solicitations", 0)
        self.connect(
            f"link add wan0 type veth peer name eth0 netns {self.wan.path}",
            "link set wan0 up",
            f"addr add {WAN_OWN}/24 dev wan0",
            f"addr add {WAN_OWN6}/64 dev wan0 nodad",
        )
        self.wan.ip(
            "link set eth0 up",
            f"addr add {WAN_HOST}/24 dev eth0",
            f"addr add {WAN_HOST6}/64 dev eth0 nodad",
            f"route add 10.20.1.0/24 via {WAN_OWN}",
            f"route add fd20:1::/64 via {WAN_OWN6}",
        )
        self.node.set("net/ipv4/ip_forward", 1)
        self.node.set("net/ipv6/conf/all/forwarding", 1)
        self.settings = settings(self.device)
        with self.node:
            self.links = Links(each.device for each in self.settings.interfaces)
            self.ports = {each.name: Port(each) for each in self.settings.interfaces}
        self.bind()
        self.sealer = Sealer(self.settings.keys)
        self._sequence = 0

    def connect(self, *more: str) -> None:
        """Make the lan device and its cable; the hosts' neighbour entries are the worst case.

        Whatever the gate says, the host on lan has this node's MAC for every address.
        """
        node, lan = {
            Shape.PLAIN: self._cable,
            Shape.VLAN: self._trunk,
            Shape.BOND: self._bond,
        }[self.shape]()
        self.node.ip(
            *node,
            f"addr add {OWN}/24 dev {self.device}",
            f"addr add {OWN6}/64 dev {self.device} nodad",
            *(_pin(each, HOST_MAC, self.device) for each in (HOST, HOST6)),
            *more,
        )
        self.lan.ip(
            *lan,
            f"addr add {HOST}/24 dev eth0",
            f"addr add {HOST6}/64 dev eth0 nodad",
            *(_pin(each, NODE_MAC, "eth0") for each in (SHARED, SHARED6, OWN, OWN6)),
            f"route add default via {SHARED}",
            f"route add default via {SHARED6}",
        )
        self._until_it_works()

    def _until_it_works(self) -> None:
        """A bond chooses its cable, a bridge opens its ports: both a moment after they are up."""
        for host, own in ((HOST, OWN), (HOST6, OWN6)):
            ear = Ear(self.node, socket.AF_INET6 if ":" in own else socket.AF_INET, PORT + 1)
            mouth = Mouth(self.lan, host)

            def heard(ear: Ear = ear, mouth: Mouth = mouth, own: str = own) -> bool:
                mouth.says(b"?", own, PORT + 1)
                return ear.heard(b"?")

            until(f"the lan carries traffic to {own}", heard)

    def disconnect(self) -> None:
        """Delete what ``connect`` made on lan, addresses and routes included."""
        if self.shape is Shape.BOND:
            self.node.ip("link del bond0", "link del slave0", "link del slave1")
            self.lan.ip("link del eth0")
        else:
            self.node.ip(f"link del {self.device.split('.')[0]}")

    def _cable(self) -> tuple[list[str], list[str]]:
        return [
            f"link add lan0 address {NODE_MAC} type veth"
            f" peer name eth0 address {HOST_MAC} netns {self.lan.path}",
            "link set lan0 up",
        ], ["link set eth0 up"]

    def _trunk(self) -> tuple[list[str], list[str]]:
        """Two VLANs on one port: 100 is the lan, 9 is management, which no gate knows."""
        node = [
            f"link add trunk0 address {NODE_MAC} type veth"
            f" peer name trunk1 address {HOST_MAC} netns {self.lan.path}",
            "link add trunk0.100 link trunk0 type vlan id 100",
            "link add trunk0.9 link trunk0 type vlan id 9",
            *(f"link set {each} up" for each in ("trunk0", "trunk0.100", "trunk0.9")),
            f"addr add {MGMT}/24 dev trunk0.9",
        ]
        lan = [
            "link add eth0 link trunk1 type vlan id 100",
            "link add mgmt link trunk1 type vlan id 9",
            *(f"link set {each} up" for each in ("trunk1", "eth0", "mgmt")),
            f"addr add {MGMT_HOST}/24 dev mgmt",
        ]
        return node, lan

    def _bond(self) -> tuple[list[str], list[str]]:
        """Two cables, the node's ends bonded, the host's ends on a bridge.

        The cables have no IPv6 of their own: on 6.12 the idle one says MLD with the bond's MAC,
        and the bridge believes it until the node speaks again.
        """
        self.node.set("net/ipv6/conf/default/disable_ipv6", 1)
        node = [f"link add bond0 address {NODE_MAC} type bond mode active-backup miimon 50"]
        lan = [f"link add eth0 address {HOST_MAC} type bridge stp_state 0 forward_delay 0"]
        for number in (0, 1):
            peer = f"peer name port{number} netns {self.lan.path}"
            node.append(f"link add slave{number} type veth {peer}")
            node.append(f"link set slave{number} master bond0")
            lan += [f"link set port{number} master eth0", f"link set port{number} up"]
        self.node.ip(*node)
        self.node.set("net/ipv6/conf/default/disable_ipv6", 0)
        self.node.set("net/ipv6/conf/bond0/disable_ipv6", 0)
        return ["link set bond0 up"], [*lan, "link set eth0 up"]

    def bind(self) -> None:
        """Have the ports follow their devices, as heart does."""
        with self.node:
            self.links.reload()
            for port in self.ports.values():
                port.bind(self.links.devices.get(port.interface.device))
                if port.socket is None and port.problem != "device is missing":
                    raise AssertionError(port.problem)

    # What the agent does on the node.

    def keeper(self) -> GateKeeper:
        """A gate service's hold on the table, with a socket of its own."""
        with self.node:
            return GateKeeper(Channel())

    def ensure(self, keeper: GateKeeper) -> list[str]:
        with self.node:
            return keeper.ensure(plan_of(self.settings))

    def gate(self) -> GateReader:
        """Make the gate, keep its owner for as long as the bench stands, and read it."""
        self._owner = self.keeper()
        self.ensure(self._owner)
        return self.reader()

    def gate_on(self, device: str) -> None:
        """A gate whose lan is another device than the bench's own, such as the trunk below it."""
        self.settings = settings(device)
        self.gate()

    def reader(self) -> GateReader:
        """Heart's view of the gate; it opens its socket where it first looks."""
        reader = GateReader(self.settings)
        self.look(reader)
        return reader

    def look(self, reader: GateReader) -> GateState:
        """Devices are looked up by name, so heart looks from inside the node."""
        with self.node:
            return reader.check()

    def frame(
        self,
        kind: Kind = Kind.BEAT,
        role: Role = Role.ACTIVE,
        node: int = NODE,
        cluster: int = CLUSTER,
    ) -> bytes:
        """A sealed heartbeat, as heart would say it."""
        self._sequence += 1
        said = Beat(
            cluster=cluster,
            node=node,
            role=role,
            link=1,
            session=1,
            sequence=self._sequence,
            kind=kind,
        )
        return self.sealer.seal(encode(said))

    def beat(self, kind: Kind = Kind.BEAT, role: Role = Role.ACTIVE) -> None:
        """Say one heartbeat on lan, through heart's own port."""
        self.ports["lan"].beat(self.frame(kind, role), None)

    def take_over(self) -> None:
        """The shared addresses on all ports, as heart puts them on."""
        with self.node:
            shared = [each for port in self.ports.values() for each in port.shared]
            problems = Addresses().put_on(shared)
        if problems:
            raise AssertionError("; ".join(problems))


class Asker:
    """A host that asks for neighbours with the agent's own probes and hears the answers."""

    def __init__(self, where: Net, own: str, device: str = "eth0") -> None:
        self._own = ipaddress.ip_address(own)
        nobody = Interface("host", 1, "service", device, (), (), ())
        self._port = Port(nobody)
        with where:
            links = Links([device])
            self._port.bind(links.devices[device])
        if self._port.socket is None:
            raise AssertionError(self._port.problem)
        self.socket = self._port.socket

    def who_has(self, *addresses: str) -> dict[str, str]:
        """Ask for all in order, wait for the last one's answer; the MACs that answered."""
        wanted = [ipaddress.ip_address(each) for each in addresses]
        for each in wanted:
            own = self._own if self._own.version == each.version else None
            self._port.ask(Probe(1, each, own, None))
        found: dict[str, str] = {}
        deadline = time.monotonic() + LATE_S
        while str(wanted[-1]) not in found:
            for received in self.frames(deadline):
                said = answer(received.data)
                if said and said.address in wanted:
                    found[str(said.address)] = said.mac.hex(":")
        return found

    def says(self, message: bytes) -> None:
        """Send one heartbeat from this machine."""
        self._port.beat(message, None)

    def frames(self, deadline: float) -> list[Received]:
        """What has arrived, after a wait until there is anything."""
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self.socket], [], [], left)[0]:
            raise AssertionError(f"nothing arrived within {LATE_S:.0f} s")
        return list(self.socket.drain(256))
