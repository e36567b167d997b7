# SPDX-License-Identifier: GPL-3.0-or-later
"""What hands do to a deployed pair behind the inventory's back: each edit, its undoing, its mark.

The drift test enters with a lab and makes these on one node or on both. Nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass

SYNC_FILE = "/etc/systemd/network/05-amaranten-ha-sync.network"
RELOAD = "systemctl daemon-reload"
OFFLOAD = """python3 - $SYNC {} <<END
import array, fcntl, socket, struct, sys
value = array.array("B", struct.pack("=II", 0x2c, int(sys.argv[2])))
request = struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0]).ljust(40, bytes(1))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
END
"""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a hand does on a node, how it is undone, and what must be said of it."""

    kind: str
    path: str
    do: str
    undo: str
    words: str = ""


def edited(path: str, script: str) -> tuple[str, str]:
    """Commands that edit a file with sed and put it back as it was."""
    kept = f"/root/kept-{path.rpartition('/')[2]}"
    return f'cp -p {path} {kept} && sed -i "{script}" {path}', f"mv {kept} {path}"


# On one node. Values that only the two nodes can be compared in come with the other node's name.
ONE_SIDED = (
    Edit(
        "runtime",
        "ruleset/inet edge",
        "nft insert rule inet edge forward accept",
        "systemctl reload amaranten-ha-ruleset.service",
        "-\t\taccept",
    ),
    Edit(
        "one-sided",
        "table/ip handmade",
        "nft add table ip handmade",
        "nft delete table ip handmade",
        "-table ip handmade {",
    ),
    Edit(
        "runtime",
        "sysctl/net/netfilter/nf_conntrack_tcp_loose",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1",
        "sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0",
        "has 1 (running), expected 0",
    ),
    Edit(
        "one-sided",
        "sysctl/net/ipv4/conf/lan/arp_announce",
        *edited("/etc/sysctl.d/99-zz-amaranten-ha.conf", "/$LAN.arp_announce/s/2/1/"),
        "has 1 (on disk only), expected 2",
    ),
    Edit(
        "one-sided",
        "sysctl/net/ipv4/conf/lan/log_martians",
        "sysctl -qw net.ipv4.conf.$LAN.log_martians=1",
        "sysctl -qw net.ipv4.conf.$LAN.log_martians=0",
    ),
    Edit(
        "runtime",
        "address/sync/10.20.4.77/24",
        "ip address add 10.20.4.77/24 dev $SYNC",
        "ip address delete 10.20.4.77/24 dev $SYNC",
    ),
    Edit(
        "runtime",
        "route/lan/10.99.0.0/16 via 10.20.1.100",
        "ip route add 10.99.0.0/16 via 10.20.1.100",
        "ip route delete 10.99.0.0/16",
    ),
    Edit(
        "one-sided",
        "route table 77/sync/10.98.0.0/16 via 10.20.4.9",
        "ip route add 10.98.0.0/16 via 10.20.4.9 dev $SYNC table 77",
        "ip route flush table 77",
    ),
    Edit(
        "one-sided",
        "rule/-4 100: from 10.98.0.1 lookup 77",
        "ip rule add from 10.98.0.1 lookup 77 priority 100",
        "ip rule delete priority 100",
    ),
    Edit(
        "one-sided",
        "mtu/dmz",
        "ip link set $DMZ mtu 1400",
        "ip link set $DMZ mtu 1500",
        "1400",
    ),
    Edit(
        "one-sided",
        "offload/sync/virtual/generic-receive-offload",
        OFFLOAD.format(1),
        OFFLOAD.format(0),
    ),
    Edit(
        "runtime",
        "mac/dmz",
        "cat /sys/class/net/$DMZ/address > /root/mac; ip link set $DMZ address 02:00:00:00:00:77",
        "ip link set $DMZ address $(cat /root/mac); rm /root/mac",
        "02:00:00:00:00:77",
    ),
    Edit(
        "one-sided",
        "neighbour/lan/10.20.1.88",
        "ip neighbour add 10.20.1.88 lladdr 02:00:00:00:00:88 dev $LAN nud permanent",
        "ip neighbour delete 10.20.1.88 dev $LAN",
    ),
    Edit(
        "one-sided",
        "device/handmade0",
        "ip link add handmade0 type bridge",
        "ip link delete handmade0",
    ),
    Edit(
        "one-sided",
        "file/etc/modules-load.d/amaranten-ha.conf",
        *edited("/etc/modules-load.d/amaranten-ha.conf", "s/nf_conntrack/nf_nat/"),
        "-nf_nat\n",
    ),
    Edit(
        "one-sided",
        "key/mode",
        "chmod 644 /etc/amaranten-ha/keys.toml",
        "chmod 600 /etc/amaranten-ha/keys.toml",
        "has 0644, expected 0600",
    ),
    Edit(
        "one-sided",
        "unit/amaranten-ha-sync.service/enabled",
        "systemctl disable -q amaranten-ha-sync.service",
        "systemctl enable -q amaranten-ha-sync.service",
    ),
    Edit(
        "one-sided",
        "unit/amaranten-ha-heart.service/drop-ins",
        "mkdir -p /etc/systemd/system/amaranten-ha-heart.service.d; echo '[Service]' > "
        f"/etc/systemd/system/amaranten-ha-heart.service.d/hand.conf; {RELOAD}",
        f"rm -r /etc/systemd/system/amaranten-ha-heart.service.d; {RELOAD}",
    ),
    Edit(
        "one-sided",
        "unit/handmade.service/enabled",
        "printf '[Install]\\nWantedBy=multi-user.target\\n[Service]\\nExecStart=true\\n' > "
        f"/etc/systemd/system/handmade.service; {RELOAD}; systemctl enable -q handmade.service",
        f"systemctl disable -q handmade.service; rm /etc/systemd/system/handmade.service; {RELOAD}",
    ),
)

# On both nodes.
BOTH_SIDED = (
    Edit(
        "both-sided",
        "ruleset/inet edge",
        *edited("/etc/amaranten-ha/ruleset.nft", "s/5000/5/"),
        "+\t\tmeta l4proto",
    ),
    Edit(
        "both-sided",
        "address/sync/10.20.4.66/24",
        f"cp -p {SYNC_FILE} /root/sync; sed -i '/^Address=10/aAddress=10.20.4.66/24' {SYNC_FILE}",
        f"mv /root/sync {SYNC_FILE}",
    ),
    Edit(
        "both-sided",
        "table/ip handmade",
        "nft add table ip handmade",
        "nft delete table ip handmade",
    ),
    Edit(
        "both-sided",
        "unit/amaranten-ha-ruleset.service/file",
        "cp -p /etc/systemd/system/amaranten-ha-ruleset.service /root/unit; echo '# hand' >> "
        f"/etc/systemd/system/amaranten-ha-ruleset.service; {RELOAD}",
        f"mv /root/unit /etc/systemd/system/amaranten-ha-ruleset.service; {RELOAD}",
    ),
    Edit(
        "runtime",
        "sysctl/net/ipv4/conf/wan/rp_filter",
        "sysctl -qw net.ipv4.conf.$WAN.rp_filter=1",
        "sysctl -qw net.ipv4.conf.$WAN.rp_filter=2",
    ),
    Edit(
        "both-sided",
        "file/etc/amaranten-ha/agent.toml",
        "cp -p /etc/amaranten-ha/agent.toml "
        "/root/agent; sed -i s/virtual/fast/ /etc/amaranten-ha/agent.toml",
        "mv /root/agent /etc/amaranten-ha/agent.toml",
        '-profile = "fast"',
    ),
    Edit(
        "both-sided",
        "key/send",
        "cp -p /etc/amaranten-ha/keys.toml /root/keys; "
        "sed -i 's/send_key = 1/send_key = 2/' /etc/amaranten-ha/keys.toml",
        "mv /root/keys /etc/amaranten-ha/keys.toml",
        "has 2, expected 1",
    ),
)
