# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two nodes hold, and what the kernel dropped: read from outside, the same for everybody.

Measurements of replication enter here. The `conntrack` program of Debian reads the kernel; the
external cache of conntrackd is read by its own command, for nobody else can.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab import Lab
from tests.lab.machine import Machine
from tests.lab.plan import wire_of
from tests.lab.shell import run

from .contenders import Contender, must
from .rival import Rival

NETFILTER = "12"
_PORTS = re.compile(r"\bsport=(\d+) dport=(200\d\d)\b")
Ports = frozenset[tuple[str, str]]


def ports_in(text: str) -> Ports:
    """The entries of the load in a listing, by the ports of their original direction."""
    found = (_PORTS.search(line) for line in text.splitlines())
    return frozenset((match[1], match[2]) for match in found if match)


def in_kernel(node: Machine) -> Ports:
    """The entries of the load in a node's kernel."""
    return ports_in(must(node, "conntrack", "-L", timeout_s=120))


def copies(contender: Contender, node: Machine) -> Ports:
    """What a passive node would go on with: its kernel's entries, or the external cache."""
    if isinstance(contender, Rival) and contender.mode == "cached":
        return ports_in(must(node, "conntrackd", "-e", timeout_s=120))
    return in_kernel(node)


def compared(lab: Lab, contender: Contender, active: str, passive: str) -> dict[str, int]:
    """Both tables at the same time: how much the copy lacks, and has too much."""
    with ThreadPoolExecutor(2) as hands:
        ours = hands.submit(in_kernel, lab.node(active))
        theirs = hands.submit(copies, contender, lab.node(passive))
        original, copy = ours.result(), theirs.result()
    return {
        "entries": len(original),
        "missing": len(original - copy),
        "stale": len(copy - original),
    }


def sync_bytes(lab: Lab, node: str) -> int:
    """Bytes that a node has sent and received on the sync network so far."""
    where, device = lab.plan.namespace(node), wire_of(node, "sync").device
    shown = json.loads(run(["ip", "-n", where, "-s", "-j", "link", "show", device]).stdout)
    counted = shown[0]["stats64"]
    return int(counted["rx"]["bytes"]) + int(counted["tx"]["bytes"])


def dropped_events(processes: Iterable[int]) -> int:
    """Messages that the kernel could not give to netfilter's listeners in a node (ENOBUFS)."""
    for process in processes:
        lines = Path(f"/proc/{process}/net/netlink").read_text().splitlines()
        heads = lines[0].split()
        kind, drops = heads.index("Eth"), heads.index("Drops")
        words = [line.split() for line in lines[1:]]
        return sum(int(each[drops]) for each in words if each[kind] == NETFILTER)
    return 0
