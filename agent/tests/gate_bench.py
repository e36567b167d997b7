# SPDX-License-Identifier: GPL-3.0-or-later
"""A node and the machines around it in network namespaces, for the tests of the gate.

The node has three devices: lan0 and wan0, which the gate covers, and mgmt0, which it does not.
Behind each is a namespace with one machine that sends and hears raw frames. All namespaces carry
this process's number in their names and are removed in the end. Nothing is waited for with a bare
sleep: what must not arrive is followed by a frame that must, on the same path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amaranten_ha.settings import Settings, load

SOURCE = Path(__file__).resolve().parents[1] / "src"
DEADLINE_S = 5.0
MARK = 0x416D4841
BEAT, LINGER, RESTARTING, UNSURE, CLOSE, FAREWELL = range(1, 7)
STARTING, PASSIVE, ACTIVE, HANDING_OVER, FAULT = range(1, 6)
ARP, IP, IP6, BEATS, OTHER = 0x0806, 0x0800, 0x86DD, 0x88B5, 0x9000
_CLONE_NEWNET = 0x40000000
_SO_MARK = 36
_LIBC = ctypes.CDLL(None, use_errno=True)

LAN, WAN, MGMT = "lan", "wan", "mgmt"
OWN = {LAN: "10.20.1.2", WAN: "198.51.100.2", MGMT: "10.20.9.2"}
SHARED = {LAN: "10.20.1.1", WAN: "198.51.100.1"}
HOST = {LAN: "10.20.1.100", WAN: "198.51.100.100", MGMT: "10.20.9.100"}
OWN6 = {LAN: "fd20:1::2", WAN: "2001:db8:51::2"}
SHARED6 = {LAN: "fd20:1::1", WAN: "2001:db8:51::1"}
HOST6 = {LAN: "fd20:1::100", WAN: "2001:db8:51::100"}

CONFIG = """
config_digest = "0123456789abcdef"
ruleset_digest = "0123456789abcdef"
[cluster]
id = 7
name = "edge"
profile = "{profile}"
[node]
name = "fw-a"
number = 1
[peer]
name = "fw-b"
number = 2
[[interface]]
name = "lan"
link = 1
role = "service"
device = "lan0"
own = ["10.20.1.2/24", "fd20:1::2/64"]
peer_own = ["10.20.1.3/24", "fd20:1::3/64"]
shared = ["10.20.1.1/24", "fd20:1::1/64", "fe80::1/64"]
[[interface]]
name = "wan"
link = 2
role = "service"
device = "wan0"
own = ["198.51.100.2/24", "2001:db8:51::2/64"]
peer_own = ["198.51.100.3/24", "2001:db8:51::3/64"]
shared = ["198.51.100.1/24", "2001:db8:51::1/64"]
[replication]
port = 6780
[network]
gateways = []
"""
KEYS = 'send_key = 1\n[keys]\n1 = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="\n'


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command; its output is text."""
    return subprocess.run(command, check=check, capture_output=True, text=True)


def until(done: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> float:
    """Poll until it is done and return how long that took; a failure after the deadline."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.002)
    return time.monotonic() - start


def mac(text: str) -> bytes:
    """The bytes of a hardware address."""
    return bytes.fromhex(text.replace(":", ""))


def packed(address: str) -> bytes:
    """The bytes of an address."""
    return ipaddress.ip_address(address).packed


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace; sockets made here stay there."""
    with open("/proc/thread-self/ns/net", "rb") as home:
        with open(f"/run/netns/{namespace}", "rb") as there:
            _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Wire:
    """Sends and hears whole frames on one device."""

    def __init__(self, namespace: str, device: str, mark: int = 0) -> None:
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind((device, 0))
            self.mac = self._socket.getsockname()[4]
        if mark:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)

    def send(self, target: bytes, kind: int, payload: bytes) -> None:
        """Put a frame on the wire; what the gate drops is told to its sender as ENOBUFS."""
        frame = target + self.mac + struct.pack(">H", kind) + payload
        try:
            self._socket.send(frame.ljust(60, b"\0"))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise

    def collect(self, last: Callable[[bytes], bool], seconds: float = DEADLINE_S) -> list[bytes]:
        """Every frame up to the one that must come; a failure if it does not."""
        deadline = time.monotonic() + seconds
        frames: list[bytes] = []
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                frames.append(self._socket.recv(2048))
                if last(frames[-1]):
                    return frames
        raise AssertionError(f"the last frame did not come within {seconds} s, {len(frames)} did")

    def drain(self) -> list[bytes]:
        """Every frame that is here already."""
        frames = []
        while select.select([self._socket], [], [], 0)[0]:
            frames.append(self._socket.recv(2048))
        return frames

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def arp(operation: int, sender_mac: bytes, sender: str, target: str) -> bytes:
    """The payload of an ARP frame."""
    head = struct.pack(">HHBBH", 1, IP, 6, 4, operation)
    return head + sender_mac + packed(sender) + bytes(6) + packed(target)


def is_arp(operation: int, sender: str) -> Callable[[bytes], bool]:
    """A test for ARP frames with this sender address."""
    return lambda frame: (
        frame[12:14] == b"\x08\x06"
        and frame[20:22] == operation.to_bytes(2)
        and frame[28:32] == packed(sender)
    )


def checksum(data: bytes) -> bytes:
    """The Internet checksum."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


def ip4(source: str, target: str, protocol: int, payload: bytes, ttl: int = 64) -> bytes:
    """An IPv4 packet."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, protocol, 0)
    head += packed(source) + packed(target)
    return head[:10] + checksum(head) + head[12:] + payload


def ip6(source: str, target: str, protocol: int, payload: bytes, hops: int = 255) -> bytes:
    """An IPv6 packet; ICMPv6 gets its checksum."""
    ends = packed(source) + packed(target)
    if protocol == 58:
        pseudo = ends + struct.pack(">II", len(payload), 58)
        payload = payload[:2] + checksum(pseudo + payload) + payload[4:]
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops) + ends + payload


def udp(source_port: int, target_port: int, payload: bytes) -> bytes:
    """A UDP datagram without checksum."""
    return struct.pack(">HHHH", source_port, target_port, 8 + len(payload), 0) + payload


def echo(source: str, target: str, token: bytes) -> bytes:
    """A ping."""
    body = b"\x08\0\0\0" + b"\0\1\0\1" + token
    return ip4(source, target, 1, body[:2] + checksum(body) + body[4:])


def neighbour(kind: int, target: str, option: int, own_mac: bytes) -> bytes:
    """A neighbour solicitation (135) or advertisement (136)."""
    flags = 0x60000000 if kind == 136 else 0
    body = struct.pack(">BBHI", kind, 0, 0, flags) + packed(target)
    return body + bytes((option, 1)) + own_mac


@dataclass(frozen=True, slots=True)
class Beat:
    """The bytes of a heartbeat that the gate reads, and the socket's mark."""

    kind: int = BEAT
    role: int = ACTIVE
    cluster: int = 7
    node: int = 1
    magic: bytes = b"AmHA"
    major: int = 1
    mark: int = MARK
    ethertype: int = BEATS

    def payload(self) -> bytes:
        """What follows the Ethernet header."""
        head = struct.pack(">4sBBHBBH", self.magic, self.major, self.kind, self.cluster,
                           self.node, self.role, 1)  # fmt: skip
        return head + bytes(36)


class Service:
    """A running gate service; the test is its supervisor and its descriptor store."""

    def __init__(self, bench: Bench, stored: int | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory()
        path = f"{self._directory.name}/notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(path)
        self._notify.settimeout(DEADLINE_S * 4)
        self.descriptor: int | None = None
        self.log = bench.directory / "gate.log"
        module = [sys.executable, "-m", "amaranten_ha", "gate", *bench.options]
        script = 'export LISTEN_PID=$$; exec "$@"'
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "NOTIFY_SOCKET": path}
        if stored is not None:
            script = f"exec 3<&{stored}; {script}"
            environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "gate"}
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                script,
                "gate",
                "setpriv",
                "--pdeathsig",
                "KILL",
                "nsenter",
                f"--net=/run/netns/{bench.node}",
                *module,
            ],
            env=environment,
            pass_fds=() if stored is None else (stored,),
            stderr=self.log.open("w"),
        )

    def ready(self) -> Service:
        """Wait for READY=1; take the descriptor that it gives away."""
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(self._notify, 4096, 1)
            if b"FDSTORE=1" in data:
                assert b"FDPOLL=0" in data
                self.descriptor = descriptors[0]
            if b"READY=1" in data:
                return self

    def forget(self) -> None:
        """Lose the stored descriptor."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def stop(self, kill: bool = False) -> int:
        """End the process and return its exit code."""
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        code = self.process.wait(DEADLINE_S)
        self._notify.close()
        self._directory.cleanup()
        return code


class Bench:
    """The node, its neighbours and the wires between them."""

    def __init__(self, profile: str = "relaxed") -> None:
        self._temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self._temporary.name)
        (self.directory / "agent.toml").write_text(CONFIG.format(profile=profile))
        (self.directory / "keys.toml").write_text(KEYS)
        files = str(self.directory / "agent.toml"), str(self.directory / "keys.toml")
        self.options = ["--config", files[0], "--keys", files[1]]
        self.settings: Settings = load(Path(files[0]), Path(files[1]))
        self.node = f"gt{os.getpid()}"
        self.hosts = {name: f"{self.node}{name}" for name in HOST}
        self._wires: list[Wire] = []
        self._services: list[Service] = []

    def up(self) -> None:
        """Make everything, after removing what a killed test left."""
        for line in run("ip", "netns", "list").stdout.splitlines():
            left = re.match(r"gt(\d+)", line)
            if left and not Path(f"/proc/{left[1]}").exists():
                run("ip", "netns", "del", line.split()[0])
        for name in (self.node, *self.hosts.values()):
            run("ip", "netns", "add", name)
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.shell(f"echo 1 > /proc/sys/net/{path}")
        self.shell("ip link set lo up")
        for name in HOST:
            self.plug(name)

    def plug(self, name: str) -> None:
        """Make the device of one network, its far end, addresses and fixed neighbours."""
        near, far, host = f"{name}0", f"{name}1", self.hosts[name]
        run("ip", "-n", self.node, "link", "add", near, "type", "veth",
            "peer", "name", far, "netns", host)  # fmt: skip
        for space, device in ((self.node, near), (host, far)):
            where = ("ip", "netns", "exec", space, "sh", "-c")
            run(*where, f"echo 0 > /proc/sys/net/ipv6/conf/{device}/accept_dad")
            run(*where, f"ip link set {device} up")
        run("ip", "-n", host, "addr", "add", f"{HOST[name]}/24", "dev", far)
        self.address(name, f"{OWN[name]}/24")
        peer = run("ip", "netns", "exec", host, "cat", f"/sys/class/net/{far}/address").stdout
        known = [HOST[name]]
        if name in OWN6:
            self.address(name, f"{OWN6[name]}/64", "nodad")
            known.append(HOST6[name])
        for each in known:
            run("ip", "-n", self.node, "neigh", "replace", each, "lladdr", peer.strip(),
                "dev", near, "nud", "permanent")  # fmt: skip

    def unplug(self, name: str) -> None:
        """Delete the device of one network."""
        run("ip", "-n", self.node, "link", "del", f"{name}0")

    def address(self, name: str, text: str, *more: str, verb: str = "replace") -> None:
        """Put an address on a device of the node, or take it off."""
        run("ip", "-n", self.node, "addr", verb, text, "dev", f"{name}0", *more)

    def share(self) -> None:
        """Put the shared addresses on, as heart does."""
        for name, text in SHARED.items():
            self.address(name, f"{text}/32")
        for name, text in SHARED6.items():
            self.address(name, f"{text}/128", "nodad")
        self.address(LAN, "fe80::1/128", "nodad")

    def unshare(self) -> None:
        """Take the shared addresses off."""
        for name, text in (*SHARED.items(), *SHARED6.items()):
            self.address(name, f"{text}/{128 if ':' in text else 32}", verb="del")
        self.address(LAN, "fe80::1/128", verb="del")

    def shell(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the node."""
        return run("ip", "netns", "exec", self.node, "sh", "-c", command, check=check)

    def service(self, stored: int | None = None) -> Service:
        """Start the gate service; the caller waits for `ready()`."""
        started = Service(self, stored)
        self._services.append(started)
        return started

    def host(self, name: str) -> Wire:
        """A wire at the host of one network."""
        return self._keep(Wire(self.hosts[name], f"{name}1"))

    def device(self, name: str, mark: int = 0) -> Wire:
        """A wire at the node's own device."""
        return self._keep(Wire(self.node, f"{name}0", mark))

    def _keep(self, wire: Wire) -> Wire:
        self._wires.append(wire)
        return wire

    def beat(self, beat: Beat | None = None, name: str = LAN) -> None:
        """Send a frame as heart does."""
        made = beat or Beat()
        wire = Wire(self.node, f"{name}0", made.mark)
        wire.send(mac("03416d484101"), made.ethertype, made.payload())
        wire.close()

    def down(self) -> None:
        """Remove everything, in any state."""
        for service in self._services:
            service.stop(kill=True)
            service.forget()
        for wire in self._wires:
            wire.close()
        for name in (self.node, *self.hosts.values()):
            run("ip", "netns", "del", name, check=False)
        self._temporary.cleanup()
