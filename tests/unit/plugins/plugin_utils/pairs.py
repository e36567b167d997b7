# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A pair that is right, for tests that make one thing of it wrong."""

from __future__ import annotations

import base64
import copy

from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster import Reader
from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster_checks import check

HOSTS = ("fw-a", "fw-b")
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()


def side(device, *addresses):
    """One node's part of an interface."""
    return {"device": device, "addresses": list(addresses)}


RIGHT = {
    "id": 7,
    "name": "edge",
    "profile": "virtual",
    "keys": {1: KEY},
    "send_key": 1,
    "primary": "fw-a",
    "backup": "fw-b",
    "interfaces": {
        "lan": {
            "shared": ["10.20.1.1/24", "fd20:1::1/64", "fe80::1/64"],
            "nodes": {
                "fw-a": side("enp1s0", "10.20.1.2/24", "fd20:1::2/64"),
                "fw-b": side("ens5", "10.20.1.3/24", "fd20:1::3/64"),
            },
        },
        "wan": {
            "shared": ["198.51.100.1/24"],
            "nodes": {"fw-a": {"device": "enp2s0"}, "fw-b": {"device": "ens4"}},
        },
        "sync": {
            "role": "sync",
            "nodes": {"fw-a": side("enp4s0", "10.20.4.2/24"), "fw-b": side("ens6", "10.20.4.3/24")},
        },
    },
    "ruleset": "edge.nft.j2",
}


def pair(**changes):
    """The right pair with some keys replaced; None removes one."""
    found = copy.deepcopy(RIGHT)
    for key, value in changes.items():
        if value is None:
            del found[key]
        else:
            found[key] = value
    return found


def at(path, value, raw=None):
    """The right pair with the value at a dotted path replaced; ... removes it."""
    found = copy.deepcopy(RIGHT) if raw is None else raw
    place = found
    *way, last = path.split(".")
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return found


def read(raw, hosts=HOSTS):
    """(the pair or None, all sentences)."""
    reader = Reader(raw, hosts)
    cluster = reader.read()
    if cluster is not None:
        check(cluster, reader.problems)
    return cluster, reader.problems.sentences


def cluster_of(raw):
    """The pair, which must be right."""
    cluster, sentences = read(raw)
    assert sentences == []
    return cluster
