# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a single value of the pair's description may look like: patterns, words, and readings.

`_cluster` enters with one value at a time.  Nothing here knows where a value stands or what is
said when it is refused.
"""

from __future__ import annotations

import base64
import binascii
import re
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Address

KEY_BYTES = 32
TIMERS = ("beat_ms", "dead_ms", "lease_ms")
OWN_TIMERS = "timers"
PROFILES = ("metal", "fast", "virtual", "relaxed")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
LOGICAL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
DEVICE = re.compile(r"[^\s/\"':]{1,15}")
DYNAMIC = re.compile(r"(?i)(dhcp[46]?|auto|bootp|slaac|pppoe?|dynamic)")
DYNAMIC_KEYS = ("dhcp", "dhcp4", "dhcp6", "pppoe", "method", "bootproto")
FIXED_ONLY = (
    "fixed addresses: DHCP and PPPoE give an address to one machine, "
    "and the pair needs one that moves"
)

# What may stand in each part of `ha_cluster`.
CLUSTER_KEYS = (
    "id", "name", "profile", "timers", "keys", "send_key", "primary", "backup", "interfaces",
    "ruleset", "routes", "dns", "replication_port", "manage_addresses", "wait_for_peer", "damping",
    "replicate_sets",
)  # fmt: skip
INTERFACE_KEYS = (
    "role", "shared", "nodes", "mtu", "manage_addresses", "neighbours", "monitor",
)  # fmt: skip
SIDE_KEYS = ("device", "addresses")
ROUTE_KEYS = ("to", "via", "interface")
DNS_KEYS = ("servers", "search")

# Words of the nft language that cannot be the name of a `define`.
NFT_WORDS = frozenset(
    """accept add ah all and arp at bridge bytes chain comment constant continue counter counters
    create ct day dccp define delete describe destroy device devices drop dst dup element elements
    elseif esp ether exists export fib flags flow flowtable flush frag fwd goto group handle hash
    hook hour icmp icmpv6 igmp iif iifname iifgroup in include index inet ingress egress insert
    interface interval ip ip6 ipsec jump last length level limit list log map mark masquerade meta
    meter missing mode monitor mptcp name netdev nftrace notrack numgen oif oifname or osf over
    packets persistent policy prefix priority protocol queue quota random redefine redirect reject
    rename replace reset return rt rtclassid ruleset rule saddr daddr sctp secmark set sets sport
    dport size skgid skuid snat dnat socket state synproxy table tables tcp th time timeout to
    tproxy ttl type typeof udp udplite undefine until update vlan vxlan while with xt""".split()
)


def whole_number(value: object) -> int | None:
    """The number, also when it arrived as text, as it does from -e and from JSON keys."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    return None


def parsed(kind: t.Callable[[str], t.Any], value: object) -> t.Any:
    """The value as an address or network, or None."""
    if not isinstance(value, str):
        return None
    try:
        return kind(value)
    except ValueError:
        return None


def unusable(address: Address) -> str:
    """Why no host can have this address, or nothing."""
    ip, network = address.ip, address.network
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_loopback or ip.is_unspecified:
        return "a loopback or unspecified address"
    if address.version == 4 and network.prefixlen < 31:
        if ip == network.network_address:
            return f"the network's own address of {network}"
        if ip == network.broadcast_address:
            return f"the broadcast address of {network}"
    if address.version == 6 and network.prefixlen < 127 and ip == network.network_address:
        return f"the routers' anycast address of {network}"
    return ""


def key_length(value: object) -> int | None:
    """The bytes in a key, or None if it is no base64."""
    if not isinstance(value, str):
        return None
    try:
        return len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return None
