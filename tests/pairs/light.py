# SPDX-License-Identifier: GPL-3.0-or-later
"""Light nodes: an SSH server in namespaces, on the disk of a deployed node, without systemd.

The bench enters with the two disks of a real pair. What is on a disk is what the pair's deployment
left there, its ruleset is loaded and its addresses are put on; no unit runs. A light pair's devices
are joined directly, and SSH comes in through the node's own namespace.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.plan import DEVICES, NETWORKS, NODES, Plan, address, node_wires
from tests.lab.shell import CLEAN_ENVIRONMENT, poll, run

PIPE = Path(__file__).resolve().parents[1] / "lab/pipe.py"

# Everything a light node mounts is in its own mount namespace, and ends with its first process.
LAUNCH = """
lower=$1 disk=$2
mount -t tmpfs -o mode=755 tmpfs "$disk"
mkdir "$disk/upper" "$disk/work" "$disk/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
cd "$disk/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs run
mount --rbind /dev dev
mkdir run/sshd run/lock
exec chroot . sh -c '
    for file in /etc/sysctl.d/*amaranten*; do sysctl -q -e -p "$file"; done
    nft -f /etc/amaranten-ha/ruleset.nft
    exec /usr/sbin/sshd -D -o ListenAddress=127.0.0.1
'
"""


@dataclass(frozen=True, slots=True)
class LightNode:
    """One light node: number of its pair from 1, and the node of the lab whose disk it has."""

    plan: Plan
    pair: int
    model: str

    @property
    def name(self) -> str:
        """What the inventory calls it."""
        return f"p{self.pair:02d}-{self.model[-1]}"

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return self.plan.namespace(self.name)

    @property
    def disk(self) -> Path:
        """Where its mounts are, in its own mount namespace."""
        return self.plan.disks / self.name

    @property
    def way_in(self) -> str:
        """SSH's ProxyCommand."""
        return f"ip netns exec {self.namespace} /usr/bin/python3 -I {PIPE} 127.0.0.1 22"

    def start(self, lower: str) -> subprocess.Popen[bytes]:
        """Begin to run it on its devices, which must exist."""
        self.disk.mkdir()
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--mount", "--uts", "--pid"]
        command = [*enter, "--fork", "--kill-child", "sh", "-euc", LAUNCH, "sh"]
        log = self.plan.disks / f"{self.name}.log"
        with log.open("wb") as output:
            return subprocess.Popen(
                [*command, lower, str(self.disk)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=CLEAN_ENVIRONMENT,
            )

    def speaks(self) -> bool:
        """Whether its SSH server answers."""
        words = [*self.way_in.split(), "2"]
        return run(words, check=False, timeout_s=10).returncode == 0


class LightPairs:
    """All light nodes, made from the disks of a lab that is off, and removed without a trace."""

    def __init__(self, plan: Plan, image: Path, pairs: int) -> None:
        self.plan = plan
        self.image = image
        self.nodes = [
            LightNode(plan, pair, model) for pair in range(1, pairs + 1) for model in NODES
        ]
        self.running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> LightPairs:
        try:
            for first, second in zip(self.nodes[::2], self.nodes[1::2], strict=True):
                self.join(first, second)
            for node in self.nodes:
                lower = f"{self.plan.disk(node.model) / 'upper'}:{self.image}"
                self.running.append(node.start(lower))
            for node in self.nodes:
                poll(f"{node.name}: its SSH server", node.speaks, 60)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def join(self, first: LightNode, second: LightNode) -> None:
        """Two namespaces and a cable for each network between them."""
        for node in (first, second):
            run(["ip", "netns", "add", node.namespace])
        for network in NETWORKS:
            here, there = (DEVICES[node.model][network] for node in (first, second))
            run(["ip", "-n", first.namespace, "link", "add", here, "type", "veth", "peer", "name",
                 there, "netns", second.namespace])  # fmt: skip
        for node in (first, second):
            lines = ["link set lo up"]
            for wire in node_wires(node.model):
                lines += [
                    f"link set {wire.device} address {wire.mac} up",
                    f"address add {address(node.model, wire.network)} dev {wire.device}",
                    f"address add {address(node.model, wire.network, 6)} dev {wire.device} nodad",
                ]
            run(["ip", "-n", node.namespace, "-batch", "-"], given="\n".join(lines) + "\n")

    def end(self) -> None:
        """End their processes, and remove their namespaces and mount points."""
        for process in self.running:
            process.kill()
            process.wait()
        for node in self.nodes:
            run(["ip", "netns", "delete", node.namespace], check=False)
            if node.disk.is_dir():
                node.disk.rmdir()
