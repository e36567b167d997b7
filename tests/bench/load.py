# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections in numbers: thousands a second through the active node, or many that stay.

``run`` sends them with the helper in loadmaker.c, compiled when it is first needed: the highest
rate that a box can make is beyond an interpreter (docs/decisions says how far). The hosts drop
what arrives, before their own stack sees it. Bounded in number, and in the lab's addresses only.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.lab import Lab
from tests.lab.plan import NODES, ROOT, address, shared_addresses, wire_of
from tests.lab.shell import run

from .contenders import BenchError, must, on_both, owners

SOURCE = Path(__file__).with_name("loadmaker.c")
PROGRAM = ROOT / "build/bench/loadmaker"
SERVICES = "20000-20099"
TABLE = "netdev bench_load"

# Seconds that entries live, by the sysctl of the node; None is what the kernel had.
TIMEOUTS = (
    "nf_conntrack_udp_timeout",
    "nf_conntrack_udp_timeout_stream",
    "nf_conntrack_tcp_timeout_time_wait",
)
LONG_S = 900


def program() -> Path:
    """The helper, compiled anew whenever its source is newer."""
    if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
        PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", f"{PROGRAM}.new", str(SOURCE)]
        run(command, timeout_s=120)
        Path(f"{PROGRAM}.new").rename(PROGRAM)
    return PROGRAM


def ignore(lab: Lab) -> None:
    """Have the hosts drop what belongs to the load."""
    for host, way in (("client", "sport"), ("server", "dport")):
        text = (
            f"add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n"
            f"add chain {TABLE} in {{ type filter hook ingress device eth0 priority -400; }}\n"
            f"add rule {TABLE} in meta l4proto {{ tcp, udp }} th {way} {SERVICES} drop\n"
        )
        done = lab.host(host).run(["nft", "-f", "-"], given=text)
        if done.returncode != 0:
            raise BenchError(f"{host} does not drop the load: {done.stderr.strip()}")


def start(
    lab: Lab, kind: str, count: int, *, first: int = 0, rate: int = 0
) -> subprocess.Popen[str]:
    """Begin to send connections through whoever is active."""
    (active,) = owners(lab) or {""}
    if not active:
        raise BenchError("nobody is active: there is no way for the load")
    ignore(lab)
    words = [
        *(str(program()), kind, str(count), str(first), str(rate)),
        str(lab.plan.namespace_path("server")),
        address("client", "lan").partition("/")[0],
        address("server", "wan").partition("/")[0],
        shared_addresses("wan")[0].partition("/")[0],
        wire_of(active, "lan").mac,
        wire_of(active, "wan").mac,
    ]
    return lab.host("client").popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(sender: subprocess.Popen[str], timeout_s: float = 600) -> dict[str, float]:
    """Wait for the end of a load; what it says it has sent."""
    try:
        said, errors = sender.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        sender.kill()
        sender.communicate()
        raise BenchError(f"the load did not end within {timeout_s:g} s") from None
    if sender.returncode != 0:
        raise BenchError(f"the load failed: {errors.strip()}")
    found: dict[str, float] = json.loads(said)
    return found


def fill(lab: Lab, entries: int, first: int = 0) -> None:
    """Entries that stay, as many as asked for, in the table of the active node."""
    most = int(must(lab.node(NODES[0]), "sysctl", "-n", "net.netfilter.nf_conntrack_max"))
    if entries > most * 0.98:
        raise BenchError(f"{entries} entries: this machine's nf_conntrack_max is {most}")
    finish(start(lab, "udp", entries, first=first, rate=50_000))


@contextmanager
def lifetimes(lab: Lab, seconds: int) -> Iterator[None]:
    """Have idle UDP entries and closed TCP ones live that long, on both nodes, for a while."""
    names = [f"net.netfilter.{name}" for name in TIMEOUTS]
    kept = must(lab.node(NODES[0]), "sysctl", *names).replace(" ", "").split()
    wanted = [f"{name}={seconds}" for name in names]
    on_both(lab, lambda node: must(node, "sysctl", "-qw", *wanted))
    try:
        yield
    finally:
        for node in lab.nodes.values():
            if node.leader():
                node.run(["sysctl", "-qw", *kept])


def long_lived(lab: Lab) -> AbstractContextManager[None]:
    """Have what ``fill`` makes outlive the cell."""
    return lifetimes(lab, LONG_S)
