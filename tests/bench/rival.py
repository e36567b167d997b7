# SPDX-License-Identifier: GPL-3.0-or-later
"""keepalived and conntrackd as Debian 12 ships them, configured to do their best here.

The shape is that of their own example (doc/sync of conntrack-tools): one VRRP instance per
service network, all in one sync group, whose notify scripts tell conntrackd of the role. What is
known to hurt them is avoided: netbase is there, `Address Ignore` names no shared address, the
hash limits are far above what is asked of them, the buffers are as large as ours, and keepalived
runs with real-time priority.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.lab import Lab
from tests.lab.machine import Machine
from tests.lab.plan import FIREWALLED, NODES, address, shared_addresses, wire_of

from .contenders import THEIR_UNITS, BenchError, Contender, must, owners

SYNC_PORT = 3780
ROUTERS = {"lan": 51, "wan": 52, "dmz": 53}

# doc/sync/primary-backup.sh of conntrack-tools, less its logging.
NOTIFY = """#!/bin/sh
case "$1" in
primary) for step in c f R B; do conntrackd -$step; done ;;
backup) for step in t n; do conntrackd -$step; done ;;
fault) conntrackd -t ;;
esac
exit 0
"""

INSTANCE = """vrrp_instance {network} {{
    state {state}
    {preempt}
    interface {device}
    virtual_router_id {router}
    priority {priority}
    advert_int {advert_s}
    virtual_ipaddress {{ {ipv4} }}
    virtual_ipaddress_excluded {{ {ipv6} }}
}}
"""
KEEPALIVED = """global_defs {{
    router_id {node}
    vrrp_version {version}
    script_user root
    vrrp_rt_priority 50
    vrrp_no_swap
}}
vrrp_sync_group pair {{
    group {{ {networks} }}
    notify_master "/etc/conntrackd/primary-backup.sh primary"
    notify_backup "/etc/conntrackd/primary-backup.sh backup"
    notify_fault "/etc/conntrackd/primary-backup.sh fault"
}}
"""

MODES = {
    "cached": "Mode FTFW {\n        DisableExternalCache off\n    }",
    "direct": "Mode FTFW {\n        DisableExternalCache on\n    }",
    "notrack": (
        "Mode NOTRACK {\n        DisableInternalCache on\n        DisableExternalCache on\n    }"
    ),
}
CONNTRACKD = """Sync {{
    {mode}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {peer}
        Port {port}
        Interface {device}
        SndSocketBuffer 8388608
        RcvSocketBuffer 8388608
        Checksum on
    }}
}}
General {{
    Systemd on
    HashSize 262144
    HashLimit 1048576
    LogFile on
    Syslog off
    LockFile /run/conntrackd.lock
    UNIX {{
        Path /run/conntrackd.ctl
    }}
    NetlinkBufferSize 8388608
    NetlinkBufferSizeMaxGrowth 67108864
    NetlinkOverrunResync on
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
            ICMP
            IPv6-ICMP
        }}
        {states}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {own}
            IPv4_address {peer}
        }}
    }}
}}
"""

# As in their example of a configuration: fewer events to read, and not every state is copied.
STATES = "State Accept {\n            ESTABLISHED CLOSED TIME_WAIT CLOSE_WAIT for TCP\n        }"

# keepalived does not switch forwarding on; ours does.
DROP_IN = """[Service]
ExecStartPre=/sbin/sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
"""


@dataclass(frozen=True)
class Rival(Contender):
    """keepalived with conntrackd."""

    version: int = 3
    advert_s: str = "0.01"
    mode: str = "cached"
    states: bool = False
    """Its kernel filter names the states of TCP, too."""
    preempts: bool = False

    def configure(self, node: Machine) -> None:
        """Write both configurations, the script and the drop-in."""
        root = Path(f"/proc/{node.leader()}/root")
        files = {
            "etc/keepalived/keepalived.conf": self.keepalived(node.name),
            "etc/conntrackd/conntrackd.conf": self.conntrackd(node.name),
            "etc/conntrackd/primary-backup.sh": NOTIFY,
            "etc/systemd/system/keepalived.service.d/bench.conf": DROP_IN,
        }
        changed = False
        for name, text in files.items():
            path = root / name
            if path.exists() and path.read_text() == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if name.endswith(".sh") else 0o644)
            changed = changed or name.endswith("bench.conf")
        if changed:
            must(node, "systemctl", "daemon-reload")

    def keepalived(self, node: str) -> str:
        """keepalived.conf of one node."""
        first = node == NODES[0]
        text = KEEPALIVED.format(node=node, version=self.version, networks=" ".join(FIREWALLED))
        for network in FIREWALLED:
            shared = shared_addresses(network)
            text += INSTANCE.format(
                network=network,
                state="MASTER" if self.preempts and first else "BACKUP",
                preempt="" if self.preempts else "nopreempt",
                device=wire_of(node, network).device,
                router=ROUTERS[network],
                priority=150 if first else 100,
                advert_s=self.advert_s,
                ipv4=shared[0],
                ipv6=shared[1],
            )
        return text

    def conntrackd(self, node: str) -> str:
        """conntrackd.conf of one node."""
        other = next(name for name in NODES if name != node)
        return CONNTRACKD.format(
            mode=MODES[self.mode],
            states=STATES if self.states else "",
            own=address(node, "sync").partition("/")[0],
            peer=address(other, "sync").partition("/")[0],
            port=SYNC_PORT,
            device=wire_of(node, "sync").device,
        )

    def settled(self, lab: Lab) -> bool:
        """One node owns all shared addresses, the other none; both conntrackd answer."""
        if len(owners(lab)) != 1:
            return False
        (active,) = owners(lab)
        shown = must(lab.node(active), "ip", "-o", "address", "show")
        texts = [each for network in FIREWALLED for each in shared_addresses(network)[:2]]
        if not all(f" {text} " in shown for text in texts):
            return False
        return all(
            lab.node(name).run(["conntrackd", "-s"]).returncode == 0
            and len(self.agents(lab, name)) > 1
            for name in NODES
        )

    def switchover(self, lab: Lab, active: str) -> None:
        """Stop keepalived on the active node: it says so in a last advertisement."""
        must(lab.node(active), "systemctl", "stop", "keepalived.service")

    def copied(self, lab: Lab, node: str) -> int:
        """In the kernel, or in the external cache."""
        if self.mode != "cached":
            return super().copied(lab, node)
        return cached_entries(must(lab.node(node), "conntrackd", "-s"))


def cached_entries(shown: str) -> int:
    """The number of entries in the external cache, from what `conntrackd -s` prints."""
    words = shown.partition("cache external:")[2].split()
    if words[:3] != ["current", "active", "connections:"]:
        raise BenchError(f"conntrackd -s says nothing of an external cache: {shown[:200]!r}")
    return int(words[3])


def keepalived(name: str, label: str, **values: object) -> Rival:
    """One of them."""
    return Rival(
        name,
        label,
        THEIR_UNITS,
        "keepalived.service",
        ("conntrackd.service",),
        **values,  # type: ignore[arg-type]
    )
