# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ways are asked for, and what of a status would stop a packet. A lab asks the kernel."""

from __future__ import annotations

from pathlib import Path

from amaranten_ha import path_tool
from amaranten_ha.settings import load

HEAD = """
[cluster]
id = 7
name = "edge"
profile = "virtual"
[node]
name = "fw-b"
number = 2
[peer]
name = "fw-a"
number = 1
[replication]
port = 6780
[network]
gateways = ["198.51.100.4"]
"""
LINK = """
[[interface]]
name = "{}"
link = {}
role = "{}"
device = "{}0"
own = [{}]
peer_own = []
shared = [{}]
"""
KEYS = 'send_key = 1\n[keys]\n1 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="\n'
STATUS = {
    "node": "fw-b",
    "role": "passive",
    "reason": "peer is active",
    "gate": {"intact": True, "problem": ""},
    "links": {"lan": {"carrier": True}, "wan": {"carrier": True}},
    "health": {"next_hops": {"198.51.100.4": True}},
}


def test_each_way_between_service_networks_has_hosts_that_are_nobody_of_the_pair(
    tmp_path: Path,
) -> None:
    links = [
        LINK.format("lan", 1, "service", "lan", '"10.20.1.3/24", "fd20:1::3/64"', '"10.20.1.1/24"'),
        LINK.format("sync", 2, "sync", "sync", '"10.20.4.3/24"', ""),
        LINK.format("wan", 3, "service", "wan", "", '"198.51.100.1/29", "fe80::1/64"'),
    ]
    config, keys = tmp_path / "agent.toml", tmp_path / "keys.toml"
    config.write_text(HEAD + "".join(links))
    keys.write_text(KEYS)
    found = [
        (start.name, end.name, str(source), str(destination))
        for start, end, source, destination in path_tool.ways(load(config, keys))
    ]
    assert found == [
        ("lan", "wan", "10.20.1.2", "198.51.100.2"),
        ("wan", "lan", "198.51.100.2", "10.20.1.2"),
    ]


def test_what_would_stop_a_packet_is_said() -> None:
    assert not list(path_tool.of_status(STATUS))
    broken = STATUS | {
        "role": "fault",
        "reason": "fault: forwarding is off",
        "gate": {"intact": False, "problem": "there is no table"},
        "links": {"lan": {"carrier": False}},
        "health": {"next_hops": {"198.51.100.4": False}},
    }
    assert list(path_tool.of_status(broken)) == [
        "gate: there is no table",
        "fault: forwarding is off",
        "lan has no carrier",
        "next hop 198.51.100.4 does not answer",
    ]
    assert list(path_tool.of_tables(["inet edge"], ["inet edge", "ip f2b"])) == []
    assert list(path_tool.of_tables(["inet edge"], [])) == ["table inet edge is not loaded"]


def test_without_a_record_of_a_deployment_no_table_is_expected(tmp_path: Path) -> None:
    assert path_tool.wanted_tables(tmp_path / "none.json") == []
    (tmp_path / "half.json").write_text('{"tables": ["inet ed')
    assert path_tool.wanted_tables(tmp_path / "half.json") == []
