# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes that run the agent's services as systemd would, on one lan and one wan.

The check is the supervisor: it starts services, hears READY, keeps the descriptors that they give
away, and kills. Each node has its own network, its own files under the agent's usual paths, and
device names that differ from the other node's.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranten_ha import __main__ as program
from amaranten_ha import cli, gate, heart, stage, sync

from .net import Net, until

PATHS = ("/etc/amaranten-ha", "/run/amaranten-ha", "/var/lib/amaranten-ha")
LATE_S = 120.0
LAN_HOST, WAN_HOST = "10.20.1.100", "198.51.100.100"
SHARED, WAN_SHARED = "10.20.1.1", "198.51.100.1"
_IMPORTED = (cli, gate, heart, stage, sync)  # once, for all the processes that are forked
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)

_DIGESTS = """
config = "0123456789abcdef"
ruleset = "0123456789abcdef"
"""
_CONFIG = """
[cluster]
id = 7
name = "edge"
profile = "relaxed"
[node]
name = "fw-{me}"
number = {number}
[peer]
name = "fw-{peer}"
number = {peer_number}
[[interface]]
name = "lan"
link = 1
role = "service"
device = "{lan}"
own = ["10.20.1.{own}/24", "fd20:1::{own}/64"]
peer_own = ["10.20.1.{peer_own}/24", "fd20:1::{peer_own}/64"]
shared = ["10.20.1.1/24", "fd20:1::1/64"]
[[interface]]
name = "sync"
link = 2
role = "sync"
device = "{sync}"
own = ["10.20.4.{own}/24"]
peer_own = ["10.20.4.{peer_own}/24"]
shared = []
[[interface]]
name = "wan"
link = 3
role = "service"
device = "{wan}"
own = ["198.51.100.{own}/24"]
peer_own = ["198.51.100.{peer_own}/24"]
shared = ["198.51.100.1/24"]
[replication]
port = 6780
[network]
gateways = []
"""
_KEYS = 'send_key = 1\n[keys]\n1 = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="\n'
_RULES = f"""
table inet nat {{ chain after {{
    type nat hook postrouting priority srcnat;
    ip saddr {LAN_HOST} oifname {{ wan0, ens4 }} snat ip to {WAN_SHARED}
}}
}}
"""
DEVICES = {
    "a": {"lan": "lan0", "wan": "wan0", "sync": "sync0"},
    "b": {"lan": "ens5", "wan": "ens4", "sync": "ens6"},
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a program that ran to its end."""

    code: int
    text: str


class Node:
    """One machine of the pair."""

    def __init__(self, name: str) -> None:
        self.name, self.net = name, Net.new()
        self.net.set("net/ipv6/conf/default/accept_dad", 0)
        self.place = Path(tempfile.mkdtemp(prefix=f"fw-{name}-"))
        for path in PATHS:
            self.behind(path).mkdir()
        peer = "b" if name == "a" else "a"
        number = {"a": 1, "b": 2}
        etc = self.behind(PATHS[0])
        (etc / "agent.toml").write_text(
            _CONFIG.format(
                me=name,
                peer=peer,
                number=number[name],
                peer_number=number[peer],
                own=number[name] + 1,
                peer_own=number[peer] + 1,
                **DEVICES[name],
            )
        )
        (etc / "keys.toml").write_text(_KEYS)
        (etc / "digests.toml").write_text(_DIGESTS)

    def behind(self, path: str) -> Path:
        """Where this node keeps what its services see at ``path``."""
        return self.place / path.split("/")[1]

    def enter(self) -> None:
        """Make the calling process part of this node: its network and its files."""
        self.net.__enter__()
        if _libc.unshare(_CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
        _libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
        for path in PATHS:
            os.makedirs(path, exist_ok=True)
            if _libc.mount(str(self.behind(path)).encode(), path.encode(), None, _MS_BIND, None):
                raise OSError(ctypes.get_errno(), f"cannot mount {path}")

    def call(self, *words: str) -> Ended:
        """Run the agent's program on this node to its end."""
        log = self.place / f"{words[0]}.txt"
        log.unlink(missing_ok=True)
        process = self.spawn(log, {}, *words)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return Ended(code, log.read_text())

    def spawn(self, log: Path, environment: dict[str, str], *words: str) -> int:
        """Start the agent's program on this node as a process of its own; its process id.

        Not from its file but from this process, which has imported it: starting a Python and
        compiling takes an emulated machine longer than everything that is tested.
        """
        process = os.fork()
        if process:
            return process
        code = 127
        try:
            said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            self.enter()
            os.environ.update(environment)
            if "LISTEN_FDS" in environment:
                os.environ["LISTEN_PID"] = str(os.getpid())
            code = program.main(list(words))
        except BaseException:  # noqa: BLE001  a service that dies must not go on as the check
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def status(self) -> dict[str, Any]:
        """What heart says at its control socket; empty while it does not answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as desk:
            desk.settimeout(LATE_S)
            try:
                desk.connect(str(self.behind("/run/amaranten-ha") / "heart.sock"))
                desk.send(b'{"op": "status"}')
                answer = desk.recv(1 << 20)
            except OSError:
                return {}
        return json.loads(answer) if answer else {}

    def role(self) -> str:
        return str(self.status().get("role", ""))

    def is_ready(self) -> bool:
        """Whether the peer would take over now."""
        return bool(self.status().get("ready"))


class Service:
    """One running service of a node; ``kept`` is what it gave its supervisor to keep."""

    def __init__(self, node: Node, name: str, stored: int | None = None) -> None:
        self._path = node.place / f"{name}.notify"
        self._path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._path))
        self._is_ready = False
        self.kept: int | None = None
        self.log = node.place / f"{name}.log"
        environment = {"NOTIFY_SOCKET": str(self._path)}
        if stored is not None:
            os.dup2(stored, 3)
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "gate"}
        self.process = node.spawn(self.log, environment, name)

    def ready(self) -> Service:
        """Wait for READY=1, and keep the descriptor that comes with FDSTORE=1."""
        ended = os.pidfd_open(self.process)
        try:
            until(f"{self.log.name}", lambda: self._heard_ready() or _is_over(ended), LATE_S)
        except AssertionError as error:
            raise AssertionError(f"not ready: {error}: {self.log.read_text()}") from None
        finally:
            os.close(ended)
        if not self._is_ready:
            raise AssertionError(f"ended at its start: {self.log.read_text()}")
        return self

    def _heard_ready(self) -> bool:
        while select.select([self._notify], [], [], 0)[0]:
            data, descriptors, *_rest = socket.recv_fds(self._notify, 4096, 1)
            if descriptors:
                self.kept = descriptors[0]
            self._is_ready = self._is_ready or b"READY=1" in data
        return self._is_ready

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code, or minus the signal."""
        os.kill(self.process, number)
        ended = os.pidfd_open(self.process)
        try:
            until("the service has ended", lambda: _is_over(ended), LATE_S)
        finally:
            os.close(ended)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def _is_over(process: int) -> bool:
    return bool(select.select([process], [], [], 0)[0])


class Pair:
    """Both nodes, a switch and a host on lan and on wan, and a cable for sync."""

    def __init__(self) -> None:
        self.lan, self.wan = Net.new(), Net.new()
        self.nodes = {name: Node(name) for name in DEVICES}
        for host, address in ((self.lan, LAN_HOST), (self.wan, WAN_HOST)):
            host.ip(
                "link add eth0 type bridge stp_state 0 forward_delay 0",
                "link set eth0 up",
                f"addr add {address}/24 dev eth0",
            )
        self.lan.ip(f"route add default via {SHARED}")
        sync_end = self.nodes["b"].net.path
        self.nodes["a"].net.ip(f"link add sync0 type veth peer name ens6 netns {sync_end}")
        for number, (name, node) in enumerate(self.nodes.items(), start=2):
            self._connect(number, name, node)

    def _connect(self, number: int, name: str, node: Node) -> None:
        devices = DEVICES[name]
        cable = devices["sync"]
        lines = [f"link set {cable} up", f"addr add 10.20.4.{number}/24 dev {cable}"]
        for host, network, device in (
            (self.lan, "10.20.1", devices["lan"]),
            (self.wan, "198.51.100", devices["wan"]),
        ):
            port = f"to-{name}"
            lines += [
                f"link add {device} type veth peer name {port} netns {host.path}",
                f"link set {device} up",
                f"addr add {network}.{number}/24 dev {device}",
            ]
        lines.append(f"addr add fd20:1::{number}/64 dev {devices['lan']} nodad")
        node.net.ip(*lines)
        for host in (self.lan, self.wan):
            host.ip(f"link set to-{name} master eth0", f"link set to-{name} up")
        node.net.nft(_RULES)

    def start(self, name: str) -> dict[str, Service]:
        """The services of one node in systemd's order."""
        node = self.nodes[name]
        running = {"gate": Service(node, "gate").ready()}
        running |= self.start_heart(name)
        running["sync"] = Service(node, "sync").ready()
        return running

    def start_heart(self, name: str) -> dict[str, Service]:
        """Heart as its unit starts it: only after stage has said yes."""
        node = self.nodes[name]
        staged = node.call("stage")
        if staged.code != 0:
            raise AssertionError(f"stage: {staged}")
        return {"heart": Service(node, "heart").ready()}
