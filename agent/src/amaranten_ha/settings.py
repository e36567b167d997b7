# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's files as frozen values; each error names file, key, value and expectation.

The role `amaranten.ha.agent` writes them; every service reads them once, at its start. Only the
fingerprints have a file of their own, and can change without a restart.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.core.named_set import SetName, set_name
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.timing import OWN_TIMERS, PROFILES, Timing

CONFIG_PATH = Path("/etc/amaranten-ha/agent.toml")
KEYS_PATH = Path("/etc/amaranten-ha/keys.toml")
DIGESTS_PATH = Path("/etc/amaranten-ha/digests.toml")
STATE_PATH = Path("/var/lib/amaranten-ha")
RUN_PATH = Path("/run/amaranten-ha")
SOCKET_PATH = RUN_PATH / "heart.sock"
SYNC_SOCKET_PATH = RUN_PATH / "sync.sock"
EPOCH_PATH = STATE_PATH / "epoch.json"
HELD_PATH = STATE_PATH / "held.json"
"""Until when this node is held, in seconds since 1970; written by the operator's tool."""
DRILL_PATH = STATE_PATH / "drill.json"
"""What the last drill found; the drill writes it on both nodes."""
TRIAL_PATH = Path("/run/amaranten-ha-ruleset/trial.json")
"""How far the trial of a ruleset came; the module `ruleset` and its timers write it."""
LINKS_MAX = 32
SETS_MAX = 32

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Cluster:
    """The pair: its id on the wire, its name, its row of durations, and how it starts alone."""

    id: int
    name: str
    profile: str
    timing: Timing
    wait_for_peer: bool = False
    damping: bool = True


@dataclass(frozen=True, slots=True)
class Node:
    """One of the two machines; number 1 is the primary, 2 the backup."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Interface:
    """A logical interface with this node's device and the addresses on its network."""

    name: str
    link: int
    role: str
    device: str
    own: tuple[Address, ...]
    peer_own: tuple[Address, ...]
    shared: tuple[Address, ...]
    monitor: bool = False


@dataclass(frozen=True, slots=True)
class Replication:
    """Where the stream of the replica listens."""

    port: int
    sets: tuple[SetName, ...] = ()
    """The user's sets whose elements the passive has as well."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Fingerprints of what both nodes should have in common; the only thing that is read again."""

    config: bytes
    ruleset: bytes


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that an agent knows at its start."""

    cluster: Cluster
    node: Node
    peer: Node
    interfaces: tuple[Interface, ...]
    replication: Replication
    gateways: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]
    keys: KeyRing

    @property
    def timing(self) -> Timing:
        """The durations of the chosen profile, or those that the operator gave."""
        return self.cluster.timing


class _Table:
    """One TOML table that is read key by key, so that every error can say where it is."""

    def __init__(self, path: Path, where: str, values: Mapping[str, Any]) -> None:
        self._path, self._where, self._values = path, where, values

    def fail(self, key: str, expected: str) -> ConfigurationError:
        found = repr(self._values[key]) if key in self._values else "missing"
        place = f"{self._path}: {self._where}{key}"
        return ConfigurationError(f"{place} is {found}: expected {expected}")

    def number(self, key: str, low: int, high: int) -> int:
        value = self._values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(key, f"a number from {low} to {high}")
        return value

    def text(self, key: str, choices: tuple[str, ...] = ()) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            raise self.fail(key, f"one of {', '.join(choices)}" if choices else "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "true or false")
        return value

    def digest(self, key: str) -> bytes:
        value = self._values.get(key)
        if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{16}", value):
            raise self.fail(key, "16 hexadecimal digits")
        return bytes.fromhex(value)

    def table(self, key: str) -> _Table:
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.fail(key, "a table")
        return _Table(self._path, f"{self._where}{key}.", value)

    def tables(self, key: str) -> list[_Table]:
        value = self._values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(key, "a list of tables")
        return [
            _Table(self._path, f"{self._where}{key}[{index}].", item)
            for index, item in enumerate(value)
        ]

    def addresses(self, key: str) -> tuple[Address, ...]:
        value = self._values.get(key)
        try:
            if not isinstance(value, list):
                raise ValueError
            return tuple(ipaddress.ip_interface(item) for item in value)
        except ValueError:
            raise self.fail(key, "a list of addresses with prefix length") from None

    def sets(self, key: str) -> tuple[SetName, ...]:
        value = self._values.get(key, [])
        if not isinstance(value, list) or len(value) > SETS_MAX:
            raise self.fail(key, f"a list of at most {SETS_MAX} names of sets")
        try:
            return tuple(set_name(str(each)) for each in value)
        except ConfigurationError as error:
            raise self.fail(key, f"names of sets: {error}") from None

    def items(self) -> Mapping[str, Any]:
        return self._values


def load(config_path: Path = CONFIG_PATH, keys_path: Path = KEYS_PATH) -> Settings:
    """Read and check both files; raises ConfigurationError with one sentence."""
    root = _read(config_path)
    cluster, network = root.table("cluster"), root.table("network")
    node, peer = _node(root.table("node")), _node(root.table("peer"))
    if node.number == peer.number or node.name == peer.name:
        raise ConfigurationError(
            f"{config_path}: peer is {peer.name} (number {peer.number}): expected another node"
            f" than {node.name} (number {node.number})"
        )
    interfaces = tuple(_interface(table) for table in root.tables("interface"))
    if len(interfaces) > LINKS_MAX or not any(each.role == "service" for each in interfaces):
        raise root.fail("interface", f"1 to {LINKS_MAX} interfaces, one of them of role service")
    if len({each.link for each in interfaces}) != len(interfaces):
        raise root.fail("interface", "a link number of its own for each interface")
    return Settings(
        cluster=Cluster(
            cluster.number("id", 1, 65535),
            cluster.text("name"),
            profile := cluster.text("profile", (*PROFILES, OWN_TIMERS)),
            PROFILES[profile] if profile in PROFILES else _timers(config_path, root),
            cluster.flag("wait_for_peer", False),
            cluster.flag("damping", True),
        ),
        node=node,
        peer=peer,
        interfaces=interfaces,
        replication=_replication(root.table("replication")),
        gateways=_gateways(network),
        keys=load_keys(keys_path),
    )


def load_digests(path: Path = DIGESTS_PATH) -> Digests:
    """Read the fingerprints; raises ConfigurationError with one sentence."""
    root = _read(path)
    return Digests(root.digest("config"), root.digest("ruleset"))


def _read(path: Path) -> _Table:
    try:
        with path.open("rb") as file:
            return _Table(path, "", tomllib.load(file))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}") from None


def _timers(path: Path, root: _Table) -> Timing:
    table = root.table(OWN_TIMERS)
    try:
        return Timing(
            table.number("beat_ms", 1, 1000),
            table.number("dead_ms", 6, 3000),
            table.number("lease_ms", 6, 3000),
        )
    except ConfigurationError as error:
        where = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ConfigurationError(f"{where}{error}") from None


def _replication(table: _Table) -> Replication:
    return Replication(table.number("port", 1, 65535), table.sets("sets"))


def _node(table: _Table) -> Node:
    return Node(table.text("name"), table.number("number", 1, 2))


def _interface(table: _Table) -> Interface:
    return Interface(
        name=table.text("name"),
        link=table.number("link", 1, 65535),
        role=table.text("role", ("service", "sync")),
        device=table.text("device"),
        own=table.addresses("own"),
        peer_own=table.addresses("peer_own"),
        shared=table.addresses("shared"),
        monitor=table.flag("monitor", False),
    )


def _gateways(table: _Table) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    return tuple(address.ip for address in table.addresses("gateways"))


def load_keys(path: Path = KEYS_PATH) -> KeyRing:
    """Read the keys; raises ConfigurationError with one sentence."""
    root = _read(path)
    values, send_id = root.table("keys").items(), root.number("send_key", 1, 255)
    try:
        return key_ring(values, send_id)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def key_ring(values: Mapping[str, Any], send_id: int) -> KeyRing:
    """Read keys in base64 by id; raises ConfigurationError, which never holds a key."""
    ring: dict[int, bytes] = {}
    for key_id, value in values.items():
        try:
            ring[int(key_id)] = base64.b64decode(value, validate=True)
        except (ValueError, TypeError, binascii.Error):
            raise ConfigurationError(
                f"keys.{key_id}: expected a number as id and 32 bytes in base64"
            ) from None
    return KeyRing(ring, send_id)
