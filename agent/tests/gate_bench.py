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
from pathlib import Path

from gate_frames import RESTARTING, Beat, mac

from amaranten_ha.settings import Settings, load

SOURCE = Path(__file__).resolve().parents[1] / "src"
DEADLINE_S = 15.0
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


def batch(*lines: str, namespace: str = "") -> None:
    """Run commands of `ip` in one process."""
    where = ("-n", namespace) if namespace else ()
    subprocess.run(
        ("ip", *where, "-batch", "-"),
        input="\n".join(lines),
        check=True,
        capture_output=True,
        text=True,
    )


def until(done: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> float:
    """Poll until it is done and return how long that took; a failure after the deadline."""
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.002)
    return time.monotonic() - start


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

    def __init__(self, namespace: str, device: str, mark: int = 0, kind: int = 3) -> None:
        """With an EtherType as `kind` it hears only what came through the ingress hook."""
        with inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((device, kind))
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
        batch(*(f"netns add {name}" for name in (self.node, *self.hosts.values())))
        self.sysctl("ipv4/ip_forward", "1")
        self.sysctl("ipv6/conf/all/forwarding", "1")
        batch("link set lo up", namespace=self.node)
        for name in HOST:
            self.plug(name)

    def sysctl(self, path: str, value: str = "", host: str = "") -> str:
        """Read a value under net, and set it if one is given; on the node, or on a host."""
        with inside(self.hosts[host] if host else self.node):
            file = Path("/proc/sys/net") / path
            if value:
                file.write_text(value)
            return file.read_text().strip()

    def plug(self, name: str) -> None:
        """Make the device of one network, its far end, addresses and fixed neighbours."""
        near, far, host = f"{name}0", f"{name}1", self.hosts[name]
        batch(f"link add {near} type veth peer name {far} netns {host}", namespace=self.node)
        self.sysctl(f"ipv6/conf/{near}/accept_dad", "0")
        self.sysctl(f"ipv6/conf/{far}/accept_dad", "0", name)
        batch(f"link set {far} up", f"addr add {HOST[name]}/24 dev {far}", namespace=host)
        # What is sent before the kernel has noticed the carrier is dropped without a word.
        show = ("ip", "-n", host, "-o", "link", "show", "dev", far)
        until(lambda: "qdisc noop " not in run(*show).stdout, f"{far} sends")
        wire = Wire(host, far)
        peer = wire.mac.hex(":")
        wire.close()
        lines = [f"link set {near} up", f"addr add {OWN[name]}/24 dev {near}"]
        known = [HOST[name]]
        if name in OWN6:
            lines.append(f"addr add {OWN6[name]}/64 dev {near} nodad")
            known.append(HOST6[name])
        for each in known:
            lines.append(f"neigh replace {each} lladdr {peer} dev {near} nud permanent")
        batch(*lines, namespace=self.node)

    def unplug(self, name: str) -> None:
        """Delete the device of one network."""
        run("ip", "-n", self.node, "link", "del", f"{name}0")

    def address(self, name: str, text: str, *more: str, verb: str = "replace") -> None:
        """Put an address on a device of the node, or take it off."""
        run("ip", "-n", self.node, "addr", verb, text, "dev", f"{name}0", *more)

    def share(self) -> None:
        """Put the shared addresses on, as heart does."""
        batch(*(f"addr replace {each} nodad" for each in self._shared()), namespace=self.node)

    def unshare(self) -> None:
        """Take the shared addresses off."""
        batch(*(f"addr del {each}" for each in self._shared()), namespace=self.node)

    def _shared(self) -> list[str]:
        return [
            *(f"{address}/32 dev {name}0" for name, address in SHARED.items()),
            *(f"{address}/128 dev {name}0" for name, address in SHARED6.items()),
            f"fe80::1/128 dev {LAN}0",
        ]

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

    def device(self, name: str) -> Wire:
        """A wire at the node's own device."""
        return self._keep(Wire(self.node, f"{name}0"))

    def _keep(self, wire: Wire) -> Wire:
        self._wires.append(wire)
        return wire

    def beat(self, beat: Beat | None = None, name: str = LAN) -> None:
        """Send a frame as heart does."""
        made = beat or Beat()
        wire = Wire(self.node, f"{name}0", made.mark)
        wire.send(mac("03416d484101"), made.ethertype, made.payload())
        wire.close()

    def announce(self) -> None:
        """Open the gate for three seconds, as before an announced restart."""
        self.beat()
        self.beat(Beat(kind=RESTARTING))

    def down(self) -> None:
        """Remove everything, in any state."""
        for service in self._services:
            service.stop(kill=True)
            service.forget()
        for wire in self._wires:
            wire.close()
        there = {path.name for path in Path("/run/netns").iterdir()}
        batch(*(f"netns del {name}" for name in (self.node, *self.hosts.values()) if name in there))
        self._temporary.cleanup()
