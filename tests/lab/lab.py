# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as a whole: made, repaired, broken on purpose, and removed without a trace.

``Lab`` is what tests, the demo and the command line enter. Everything is found again by its name,
never by memory alone: what a crash left is taken into use if it is whole, else removed and made
anew. Nothing outside the lab's own names is ever changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import image, inventory
from .host import Host
from .machine import Machine
from .patch import Patch
from .plan import (
    CACHE,
    HOSTS,
    NODES,
    BadRequest,
    LabError,
    Plan,
    Wire,
    address,
    host_wires,
    node_wires,
    wire_of,
)
from .shell import run, say, step
from .watch import IPV4, IPV6, Watch
from .wires import Direction, Wires

SSH_READY_S = 60


class Lab:
    """Two nodes, three hosts and the switch between them."""

    def __init__(self, prefix: str = "") -> None:
        self.plan = Plan(prefix)
        self.wires = Wires(self.plan)
        self.patch = Patch(self.wires)
        self.nodes = {name: Machine(self.plan, name) for name in NODES}
        self.hosts = {name: Host(self.plan, name) for name in (*HOSTS, "control")}
        self.switch = Host(self.plan, "switch")
        self._locked = False

    # Who is who ----------------------------------------------------------------------------

    @property
    def inventory(self) -> Path:
        """The inventory that this lab writes."""
        return self.plan.build / "inventory.yml"

    def node(self, name: str) -> Machine:
        """A node by its inventory name."""
        if name not in self.nodes:
            raise BadRequest(f"node {name!r}: expected one of {', '.join(NODES)}")
        return self.nodes[name]

    def host(self, name: str) -> Host:
        """One of client, server, dmzhost, control."""
        if name not in self.hosts:
            raise BadRequest(f"host {name!r}: expected one of {', '.join(self.hosts)}")
        return self.hosts[name]

    def port(self, node: str, interface: str) -> str:
        """The switch's end of a node's cable."""
        return wire_of(node, interface).port

    def device(self, node: str, interface: str) -> str:
        """The node's end of its cable."""
        return wire_of(node, interface).device

    def mac(self, node: str, interface: str) -> str:
        """The hardware address of a node's device."""
        return wire_of(node, interface).mac

    # Up and down ---------------------------------------------------------------------------

    def make_image(self) -> Path:
        """Have the node image in the cache, which takes a while only the first time."""
        need_root()
        image.need_tools()
        return image.image_root()

    def up(self) -> None:
        """Bring the whole lab up; what is there and sound is kept."""
        need_root()
        image.need_tools()
        image.need_modules()
        with self._alone():
            if not self._sound():
                root = image.image_root()
                self._remove()
                with step(f"making the networks and disks of {self.plan.name}"):
                    self._make()
                self._remember(root)
            root = self._image()
            off = [node for node in self.nodes.values() if not node.leader()]
            if off:
                with step(f"booting {', '.join(node.name for node in off)}"):
                    self._boot(off, root)
            for node in self.nodes:
                self.wires.restore(*node_wires(node))
            self.patch.mend()
        for node in self.nodes:
            self.wait_ssh(node)

    def down(self) -> None:
        """Remove everything that this lab made, and nothing else."""
        need_root()
        with self._alone():
            self._remove()

    def _sound(self) -> bool:
        """Whether what is there can be taken into use as it is, with the image it was made from."""
        made_from = self.state().get("image")
        return (
            made_from is not None
            and Path(str(made_from)).is_dir()
            and all((self.plan.build / name).exists() for name in inventory.FILES)
            and all((node.disk / "upper").is_dir() for node in self.nodes.values())
            and self.wires.whole()
            and all(self._node_whole(node) for node in self.nodes.values())
        )

    def _node_whole(self, node: Machine) -> bool:
        """A running node has all its cables; one that is off gets new ones anyway."""
        ports = self.wires.ports()
        return not node.leader() or all(wire.port in ports for wire in node_wires(node.name))

    def _refuse_foreign(self) -> None:
        """Leave alone a lab of the same name that another working copy made and still has."""
        try:
            owner = Path(self.plan.owner.read_text().strip())
        except FileNotFoundError:
            return
        if owner != self.plan.build and (owner / self.state_file.name).exists():
            raise LabError(
                f"the lab {self.plan.name} was made from another working copy, {owner}; "
                "take it down there or use another --prefix"
            )

    def _make(self) -> None:
        self.plan.disks.mkdir(parents=True)
        self.plan.owner.write_text(f"{self.plan.build}\n")
        login, host_keys = inventory.make_keys(self.plan)
        for node in self.nodes.values():
            node.make_disk(host_keys[node.name], login)
        self.wires.make()
        inventory.write_inventory(self.plan)

    def _remove(self) -> None:
        for node in self.nodes.values():
            node.kill_everything()
        self._end_processes()
        self.wires.remove()
        for node in self.nodes.values():
            node.remove_disk()
        if self.plan.disks.exists():
            shutil.rmtree(self.plan.disks)
        for name in (*inventory.FILES, self.state_file.name):
            (self.plan.build / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files stay, and so does the directory
            self.plan.build.rmdir()

    def _end_processes(self) -> None:
        """End what still runs in the lab's namespaces: probes, SSH's ways in, keepers."""
        for place in self.plan.namespaces():
            if not self.plan.namespace_path(place).exists():
                continue
            listed = run(["ip", "netns", "pids", self.plan.namespace(place)]).stdout.split()
            for process in listed:
                if int(process) != os.getpid():
                    with suppress(ProcessLookupError):
                        os.kill(int(process), 9)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time makes, changes or removes this lab."""
        if self._locked:
            yield
            return
        self.plan.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.plan.lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"lab: waiting for another command on {self.plan.name} ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._locked = True
            try:
                self._refuse_foreign()
                yield
            finally:
                self._locked = False

    # State ---------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        """What the lab remembers of itself."""
        return self.plan.build / "state.json"

    def state(self) -> dict[str, Any]:
        """What was remembered, or nothing."""
        try:
            found = json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, root: Path) -> None:
        state = {"name": self.plan.name, "image": str(root), "made_unix": int(time.time())}
        self.state_file.write_text(json.dumps(state, indent=2) + "\n")

    def _image(self) -> Path:
        found = self.state().get("image")
        if not found or not self.plan.namespace_path("switch").exists():
            raise LabError(f"the lab {self.plan.name} is not up; 'python -m tests.lab up' makes it")
        return Path(str(found))

    def status(self) -> dict[str, Any]:
        """What is there now, looked up and not remembered."""
        up = self.plan.namespace_path("switch").exists()
        ports = self.wires.ports() if up else {}
        silenced = self.wires.silenced() if up else set()
        nodes = {}
        for name, node in self.nodes.items():
            broken = {}
            for wire in node_wires(name):
                hooks = [way for way in Direction.BOTH.hooks if f"{wire.port}-{way}" in silenced]
                if wire.port not in ports:
                    broken[wire.network] = "unplugged"
                elif not ports[wire.port]:
                    broken[wire.network] = "cut"
                elif hooks:
                    broken[wire.network] = "silent" if len(hooks) == 2 else f"silent {hooks[0]}"
            running = bool(node.leader())
            nodes[name] = {"running": running, "broken": broken}
        return {
            "name": self.plan.name,
            "up": up,
            "inventory": str(self.inventory) if self.inventory.exists() else None,
            "image_cache": str(CACHE),
            "nodes": nodes,
        }

    # Power ---------------------------------------------------------------------------------

    def power_off(self, name: str) -> int:
        """Pull the plug; the monotonic nanosecond by which the node had fallen silent."""
        node = self.node(name)
        self._image()
        self.wires.silence(*node_wires(name))
        silent_ns = time.monotonic_ns()
        node.kill_everything()
        return silent_ns

    def boot(self, name: str, wait: bool = True) -> None:
        """Power on: the same disk, a new kernel's networks; waits for SSH unless told not to."""
        node = self.node(name)
        root = self._image()
        if node.leader():
            raise LabError(f"{name} is running already")
        with self._alone():
            self._boot([node], root)
        if wait:
            self.wait_ssh(name)

    def _boot(self, nodes: list[Machine], root: Path) -> None:
        for node in nodes:
            node.kill_everything()
            self.wires.make_node(node.name)
        for node in nodes:
            try:
                node.start(root)
            except LabError as problem:
                raise LabError(f"{problem}\n{node.log()}") from None

    def wait_ssh(self, name: str, timeout_s: float = SSH_READY_S) -> None:
        """Wait until a node's SSH server answers on the management network."""
        pipe = str(Path(__file__).with_name("pipe.py"))
        ipv4 = address(name, "mgmt").partition("/")[0]
        words = ["/usr/bin/python3", "-I", pipe, ipv4, "22", str(timeout_s)]
        if self.host("control").run(words, timeout_s=timeout_s + 10).returncode != 0:
            log = self.node(name).log()
            raise LabError(f"{name}: SSH did not answer within {timeout_s:g} s\n{log}")

    # Breaking ------------------------------------------------------------------------------

    def cut(self, node: str, interface: str) -> None:
        """Take the carrier of a node's interface away."""
        self.wires.cut(self._live_wire(node, interface))

    def silence(self, node: str, interface: str, direction: Direction = Direction.BOTH) -> None:
        """Drop every frame of a node's interface, the carrier unchanged."""
        self.wires.silence(self._live_wire(node, interface), direction=direction)

    def restore(self, node: str, interface: str) -> None:
        """Undo a cut or a silence."""
        self.wires.restore(self._live_wire(node, interface))

    def unplug(self, node: str, interface: str) -> None:
        """Delete a node's device, as when a network card is pulled out."""
        self.wires.remove_cable(self._live_wire(node, interface))

    def plug(self, node: str, interface: str) -> None:
        """Give a node the device again that ``unplug`` took: same name, same address."""
        wire = wire_of(node, interface)
        if wire.port in self.wires.ports():
            raise LabError(f"{node} has its {interface} device already")
        self.wires.add_cable(wire)

    def _live_wire(self, node: str, interface: str) -> Wire:
        wire = wire_of(node, interface)
        self._image()
        if not self.node(node).leader():
            raise LabError(f"{node} is powered off; its ports stay silent until it boots")
        if wire.port not in self.wires.ports():
            raise LabError(f"{node} has no {interface} device at the moment; plug it in first")
        return wire

    # Counting ------------------------------------------------------------------------------

    def watch(self, *ports: str, ethertypes: tuple[int, ...] = (IPV4, IPV6)) -> Watch:
        """Record frames at ports of the switch, by default at those of the three hosts."""
        self._image()
        names = ports or tuple(wire.port for wire in host_wires() if wire.owner in HOSTS)
        return Watch(self.switch, names, ethertypes)

    # SSH -----------------------------------------------------------------------------------

    def ssh(self, node: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command on a node as its operator would, over SSH."""
        build = self.plan.build
        pipe = Path(__file__).with_name("pipe.py")
        ipv4 = address(node, "mgmt").partition("/")[0]
        namespace = self.plan.namespace("control")
        options = [
            f"UserKnownHostsFile={build / 'known_hosts'}",
            "GlobalKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            f"ProxyCommand=ip netns exec {namespace} /usr/bin/python3 -I {pipe} {ipv4} 22",
        ]
        flags = [flag for option in options for flag in ("-o", option)]
        command = ["ssh", "-F", "none", "-i", str(build / "ssh_key"), *flags]
        return run([*command, f"root@{self.plan.address_name(node)}", *words], check=False)


def need_root() -> None:
    """Refuse to begin what only root can finish."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and containers; run this as root")
    if sys.platform != "linux":
        raise LabError("the lab needs Linux")
