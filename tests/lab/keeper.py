# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper of one node: a small process that runs the container and outlives its reboots.

Started by ``Machine.start`` and by nobody else. The container's mounts live in a mount namespace
of its own, so that nothing of them is left when it ends, however it ends. A node that reboots
gets new devices, as from a kernel that has just started; one that powers off falls silent, for
its namespace would go on answering for it.
"""

from __future__ import annotations

import subprocess
import sys

from .plan import LabError, Plan, node_wires
from .shell import CLEAN_ENVIRONMENT
from .wires import Wires

# systemd-nspawn's exit code for "the container asked to be started again".
REBOOTED = 133

# The container sees one control group tree, of version 2, whatever the machine mounts, and its
# processes stay in the root of the version 1 "cpu" tree, where real-time scheduling is allowed.
LAUNCH = """
image=$1 disk=$2 cgroup=$3 machine=$4 node=$5 namespace=$6
for place in cpu,cpuacct cpu; do
    procs=/sys/fs/cgroup/$place/cgroup.procs
    if [ -w $procs ]; then echo $$ > $procs; break; fi
done
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/$cgroup
echo $$ > /sys/fs/cgroup/$cgroup/cgroup.procs
mount -t overlay overlay -o "lowerdir=$image,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec systemd-nspawn --quiet --boot --directory="$disk/root" --machine="$machine" \\
    --hostname="$node" --network-namespace-path="$namespace" --register=no --keep-unit \\
    --capability=CAP_IPC_LOCK,CAP_NET_ADMIN,CAP_NET_RAW --link-journal=no --resolv-conf=off \\
    --timezone=off --console=pipe --kill-signal=SIGRTMIN+3
"""


def run_once(plan: Plan, node: str, image: str) -> int:
    """Run the container until it ends; its exit code."""
    disk = plan.disk(node)
    # A slave, not private: a private copy would keep every namespace that is deleted later alive.
    private = ["unshare", "--mount", "--propagation", "slave"]
    names = [str(image), str(disk), plan.cgroup(node), plan.cgroup(node), node]
    command = [*private, "sh", "-euc", LAUNCH, "sh", *names, str(plan.namespace_path(node))]
    with (disk / "console.log").open("ab") as console:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=CLEAN_ENVIRONMENT,
            check=False,
        ).returncode


def main(prefix: str, node: str, image: str) -> int:
    """Keep a node running until it powers off or is killed."""
    plan = Plan(prefix)
    wires = Wires(plan)
    while True:
        code = run_once(plan, node, image)
        if code != REBOOTED:
            break
        wires.make_node(node)
    if plan.namespace_path("switch").exists():
        try:
            wires.silence(*node_wires(node))
        except LabError as problem:  # the lab is being taken down around us
            print(f"{node} ended with {code}; {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
