# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files as people have them, and the pair that is proposed; what is lost is said with its line."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._keepalived import parse
from ansible_collections.amaranten.ha.plugins.plugin_utils._migration import propose

from .pairs import KEY, read

KEEPALIVED = """\
! made by hand
global_defs {
    router_id fw
    smtp_server 192.0.2.9
}
vrrp_script chk { script "/bin/true # no comment" }
vrrp_sync_group G1 {
    group { VI_LAN VI_WAN }
    notify_master "/etc/conntrackd/primary-backup.sh primary"
}
vrrp_instance VI_LAN {
    interface %(lan)s
    state MASTER
    virtual_router_id 51
    priority %(priority)d
    advert_int 1   # seconds
    nopreempt
    authentication {
        auth_type PASS
        auth_pass (left out)
    }
    virtual_ipaddress { 10.20.1.1/24 dev %(lan)s label x:1
        fd20:1::1/64
    }
}
vrrp_instance VI_WAN
{
    interface %(wan)s
    virtual_router_id 52
    priority %(priority)d
    virtual_ipaddress {
        198.51.100.1
    }
    virtual_routes {
        default via 198.51.100.254
        10.9.0.0/16 via 10.20.1.254 dev %(lan)s
    }
    frobnicate
}
virtual_server 198.51.100.1 80 { delay_loop 6 }
"""
CONNTRACKD = """\
Sync {
    Mode FTFW { DisableExternalCache On }
    UDP {
        IPv4_address 10.20.4.2
        Interface %s
    }
}
General {
    HashSize 32768
    Filter From Userspace {
        Address Ignore { IPv4_address 127.0.0.1 }
    }
}
"""


def nodes():
    """Two nodes as `migration_info` returns them."""
    one = {
        "keepalived": KEEPALIVED % {"lan": "enp1s0", "wan": "enp2s0", "priority": 100},
        "conntrackd": CONNTRACKD % "enp4s0",
        "addresses": {
            "enp1s0": ["10.20.1.2/24", "fd20:1::2/64"],
            "enp2s0": ["198.51.100.2/24"],
            "enp4s0": ["10.20.4.2/24"],
        },
    }
    other = {
        "keepalived": KEEPALIVED % {"lan": "ens5", "wan": "ens4", "priority": 150},
        "conntrackd": CONNTRACKD % "ens6",
        "addresses": {
            "ens5": ["10.20.1.3/24", "10.20.1.1/24", "fd20:1::3/64", "fd20:1::1/64"],
            "ens4": ["198.51.100.3/24", "198.51.100.1/32"],
            "ens6": ["10.20.4.3/24"],
        },
    }
    return {"fw-a": one, "fw-b": other}


def test_the_proposal_is_a_pair_that_the_inventory_takes():
    proposal = propose(nodes())
    cluster = proposal.cluster
    assert (cluster["primary"], cluster["backup"], cluster["id"]) == ("fw-b", "fw-a", 51)
    lan, wan = cluster["interfaces"]["lan"], cluster["interfaces"]["wan"]
    assert lan["shared"] == ["10.20.1.1/24", "fd20:1::1/64"]
    assert lan["nodes"]["fw-b"] == {
        "device": "ens5",
        "addresses": ["10.20.1.3/24", "fd20:1::3/64"],
    }
    assert wan["shared"] == ["198.51.100.1/24"]
    assert cluster["routes"] == [
        {"via": "198.51.100.254"},
        {"via": "10.20.1.254", "to": "10.9.0.0/16"},
    ]
    found, sentences = read(dict(cluster, keys={1: KEY}))
    assert sentences == []
    assert found.primary == "fw-b"


@pytest.mark.parametrize(
    "words",
    [
        "fw-a keepalived.conf line 4: `smtp_server` is not carried over",
        "fw-a keepalived.conf line 6: `vrrp_script` is not carried over",
        "fw-a keepalived.conf line 9: `notify_master` is not carried over: hang a unit on",
        "fw-a keepalived.conf line 16: `advert_int` is not carried over: set `profile`",
        "fw-a keepalived.conf line 17: `nopreempt` is not carried over: nothing to do",
        "fw-a keepalived.conf line 22: `label` of 10.20.1.1/24 is not carried over",
        "fw-a keepalived.conf line 38: `frobnicate` is not known here",
        "fw-a keepalived.conf line 40: `virtual_server` is load balancing",
        "fw-a conntrackd.conf line 11: `Address Ignore` is not carried over",
    ],
)
def test_what_is_not_carried_over_is_said_with_its_line(words):
    assert [note for note in propose(nodes()).notes if note.startswith(words)], words


def test_no_password_is_in_a_proposal():
    assert "left out" not in str(propose(nodes()))


@pytest.mark.parametrize("text", ["", "}", "{", "{ {", 'a "b', "x { y { z", "vrrp_instance {}"])
def test_a_broken_file_is_read_as_far_as_it_goes(text):
    parse(text)
    found = {"keepalived": text, "conntrackd": text, "addresses": {}}
    assert propose({"fw-a": found, "fw-b": found}).notes


def test_two_active_nodes_are_named():
    both = nodes()
    both["fw-a"]["keepalived"] = both["fw-a"]["keepalived"].replace(
        "priority 100", "priority 200", 1
    )
    assert any("as for load sharing" in note for note in propose(both).notes)
