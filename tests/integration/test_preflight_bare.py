# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight on two bare nodes: each wrong cable by its name, on its interface, and nothing else.

Runs before anything is deployed. Faults on different interfaces are tried in one run where they
have nothing to do with each other: the whole list of findings is compared.
"""

from __future__ import annotations

import subprocess
from typing import Any
from xml.etree import ElementTree

from tests.integration.deployment import snapshot, varied
from tests.integration.preflight import command, miscabled, preflight
from tests.integration.steps import until
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT, Wire

A, B = NODES
SERVICE = {"lan", "wan", "dmz", "sync"}
LOCK = "/run/amaranten-ha-wire-probe.lock"


def links(lab: Lab) -> dict[str, str]:
    """Flags, MTU and silence of the devices of both nodes.

    Without the queue: the kernel attaches one when a device comes up for the first time.
    """
    words = [
        "sh",
        "-c",
        "ip -o -br link show; cat /sys/class/net/*/mtu /proc/sys/net/ipv6/conf/*/disable_ipv6",
    ]
    return {node: lab.node(node).run(words).stdout for node in NODES}


def test_two_bare_nodes_are_fit_in_check_mode_and_nothing_is_left_behind(bare: Lab) -> None:
    before, cables = snapshot(bare), links(bare)
    run = preflight(bare, "--check")
    assert run.code == 0, run.output
    assert run.findings == []
    assert set(run.checks.values()) == {"ok"}
    assert run.verdicts() == dict.fromkeys(SERVICE, "same network")
    assert "edge: preflight 15 ok" in run.output
    assert "changed=1" not in run.output
    assert snapshot(bare) == before
    assert links(bare) == cables
    junit = ElementTree.parse(bare.plan.build / "preflight/preflight.xml").getroot()
    assert (junit.get("tests"), junit.get("failures")) == ("15", "0")


def test_exchanged_cables_a_narrow_port_and_a_one_way_filter(bare: Lab) -> None:
    with miscabled(bare) as patch:
        patch.swap(Wire(B, "lan"), Wire(B, "dmz"))
        patch.narrow(Wire(A, "wan"), 1400)
        patch.block(Wire(A, "sync"), Wire(B, "sync"))
        run = preflight(bare)
    assert run.code == 2, run.output
    assert run.findings == [
        ("failed", "MTU", ("wan",), NODES),
        ("failed", "one-way", ("sync",), NODES),
        ("failed", "swapped", ("dmz", "lan"), NODES),
    ]
    assert "those of 1400 do" in run.output
    assert run.report["interfaces"]["lan"]["with"] == ["dmz"]


def test_the_wrong_bridge_no_carrier_and_a_filter_that_passes_ip_and_arp_alone(bare: Lab) -> None:
    with miscabled(bare) as patch:
        patch.move(Wire(B, "lan"), "dmz")
        bare.cut(A, "wan")
        for kind in ("0x88b5", "0x88b6"):
            patch.block(Wire(A, "sync"), Wire(B, "sync"), f"ether type {kind}")
        run = preflight(bare)
    assert run.code == 2, run.output
    assert run.findings == [
        ("failed", "no carrier", ("wan",), (A,)),
        ("failed", "wrong network", ("lan",), (B,)),
        ("warning", "no heartbeats", ("sync",), NODES),
    ]
    assert "fw-b's lan (ens5) is plugged into the network of dmz" in run.output


def test_joined_networks_a_loop_and_an_interface_that_hears_nothing(bare: Lab) -> None:
    with miscabled(bare) as patch:
        patch.join("lan", "dmz")
        patch.reflect(Wire(A, "wan"))
        patch.separate(Wire(A, "sync"), Wire(B, "sync"))
        run = preflight(bare)
    assert run.code == 2, run.output
    assert run.findings == [
        ("failed", "isolated", ("sync",), NODES),
        ("failed", "leak", ("dmz", "lan"), NODES),
        ("failed", "looped", ("wan",), (A,)),
    ]


def test_ipv6_only_no_own_addresses_on_wan_and_sync_in_lan(bare: Lab) -> None:
    def change(hosts: dict[str, Any], pair: dict[str, Any]) -> None:
        for name, interface in pair["interfaces"].items():
            interface["shared"] = [a for a in interface.get("shared", []) if ":" in a]
            for side in interface["nodes"].values():
                side["addresses"] = [a for a in side["addresses"] if ":" in a and name != "wan"]
        del pair["interfaces"]["sync"]["shared"]
        pair["interfaces"]["wan"]["neighbours"] = ["2001:db8:51::100"]

    with miscabled(bare) as patch:
        patch.join("lan", "sync")
        # What nobody needs on a network without IPv4 is no finding.
        patch.block(Wire(A, "dmz"), Wire(B, "dmz"), "ether type ip")
        # A neighbour that only one node reaches, asked for without an address of one's own.
        patch.separate(Wire(B, "wan"), Wire("server", "wan"))
        run = preflight(bare, inventory=varied(bare, "ipv6", change))
    assert run.code == 2, run.output
    assert run.findings == [
        ("failed", "leak", ("lan", "sync"), NODES),
        ("failed", "only one node reaches", ("wan",), (B,)),
    ]


def test_one_after_the_other_is_inconclusive_and_no_bad_cable(bare: Lab) -> None:
    run = preflight(bare, "-f", "1")
    assert run.code == 0, run.output
    assert [finding[:2] for finding in run.findings] == [("inconclusive", "inconclusive")]
    assert "forks is 1, at least 2 are needed" in run.output


def test_a_check_is_left_out_by_its_name_and_said_so(bare: Lab) -> None:
    run = preflight(bare, "-e", '{"preflight_skip": ["wiring"]}')
    assert run.code == 0, run.output
    assert run.checks["wiring"] == run.checks["reach"] == "skipped"
    assert "left out with wiring by preflight_skip" in " ".join(run.output.split())


def test_a_probe_that_is_killed_leaves_the_interfaces_as_they_were(bare: Lab) -> None:
    cables = links(bare)
    node = bare.node(B)

    def up() -> bool:
        return "UP" in node.run(["ip", "-o", "link", "show", bare.device(B, "lan")]).stdout

    with miscabled(bare):
        # Without a carrier on one interface it listens for as long as it was told to.
        bare.cut(A, "wan")
        words = command(bare, "-e", "preflight_listen_s=12")
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            until("the interfaces of fw-b are up", up)
            held = node.run(["sh", "-c", f"stat -c %i {LOCK}; cat /proc/locks"]).stdout
            inode = held.split()[0]
            line = next(each for each in held.splitlines() if each.count(f":{inode} "))
            node.run(["kill", "-9", line.split()[4]])
            until("the interfaces of fw-b are down again", lambda: not up(), 10)
            process.terminate()
            process.wait()
    until("the other node is done, too", lambda: links(bare) == cables, 60)
