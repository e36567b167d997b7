# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pair as values: what every part of the controller passes on instead of dicts.

Made by the reader in `_cluster`, judged by `_cluster_checks`, written out by `_cluster_files`.
Nothing here is checked, changed or printed, and there is no place for a key's value.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

Address = t.Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
NextHop = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What one node has of an interface."""

    device: str
    addresses: tuple[Address, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """An interface of the pair; `link` is its number on the wire."""

    name: str
    link: int
    role: str
    shared: tuple[Address, ...]
    sides: t.Mapping[str, Side]
    manage_addresses: bool
    mtu: int | None
    neighbours: tuple[NextHop, ...] = ()
    """Equipment on this network that both nodes must reach."""
    monitor: bool = False

    @property
    def path(self) -> str:
        """Where the operator wrote it."""
        return f"ha_cluster.interfaces.{self.name}"

    def networks(self) -> tuple[Network, ...]:
        """The networks on this interface, own ones first, link-local ones left out."""
        every = [*(a for side in self.sides.values() for a in side.addresses), *self.shared]
        return tuple(dict.fromkeys(a.network for a in every if not a.ip.is_link_local))


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A route that both nodes have."""

    path: str
    to: Network
    via: NextHop
    interface: str | None

    @property
    def is_default(self) -> bool:
        """Whether it leads to everywhere."""
        return self.to.prefixlen == 0


@dataclasses.dataclass(frozen=True, slots=True)
class Dns:
    """Resolvers of the nodes themselves."""

    servers: tuple[str, ...]
    search: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """The pair; keys by their ids only."""

    id: int
    name: str
    profile: str
    timers: dict[str, int]
    key_ids: tuple[int, ...]
    send_key: int
    primary: str
    backup: str
    interfaces: tuple[Interface, ...]
    ruleset: str
    routes: tuple[Route, ...]
    dns: Dns
    replication_port: int
    wait_for_peer: bool = False
    damping: bool = True
    replicate_sets: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, str]:
        """Both, the primary first."""
        return (self.primary, self.backup)

    def peer_of(self, node: str) -> str:
        """The other one."""
        return self.backup if node == self.primary else self.primary
