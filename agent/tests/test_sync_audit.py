# SPDX-License-Identifier: GPL-3.0-or-later
"""Equality that is proved: what differs on the passive is counted, named, and mended by itself.

Two real routers with the real service; the test spoils the passive's table behind its back, and
asks over the service's own control socket as the operator's tool does.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sync_netns import Talk, tcp, udp, wait_for
from sync_pair import CLIENT, SERVER, Node, Pair
from sync_samples import packed

from amaranten_ha import replica_tool
from amaranten_ha.core import flow, tlv
from amaranten_ha.io.desk import ask
from amaranten_ha.io.netlink import CT_NEW, Request, Table

CLIENT4 = packed(CLIENT)

pytestmark = pytest.mark.live


@pytest.fixture
def talks(wired: Pair) -> Iterator[list[Talk]]:
    wired.begin()
    made = [tcp(wired.client, wired.server, SERVER, SERVER, 5100 + each) for each in range(5)]
    made.append(udp(wired.client, wired.server, SERVER, 5200)[0])
    assert all(talk.exchange() for talk in made)
    wired.settle()
    yield made
    for talk in made:
        talk.close()


def answer(pair: Pair, node: Node, operation: str) -> dict[str, Any]:
    pair.a.heart.poll()
    pair.b.heart.poll()
    return ask(node.folder / "sync.sock", {"op": operation}, 20, "sync")


def spoil(node: Node, protocol: int, mark: int) -> int:
    """Mark the copies of one protocol with a strange hand; returns how many they were."""
    with node.inside():
        table = Table()
    found = node.dumped()
    wrong = tlv.attribute(flow.MARK, mark.to_bytes(4, "big"))
    copies = [each for each in found if each.protocol == protocol and CLIENT4 in each.addresses]
    changes = [Request(CT_NEW, 0, each.family, each.key + wrong) for each in copies]
    assert table.change(changes) == {}
    table.close()
    return len(copies)


def marks(node: Node) -> list[str]:
    return [line.split(" mark=")[1].split()[0] for line in node.entries() if " mark=" in line]


def test_a_stale_copy_is_found_and_mended(wired: Pair, talks: list[Talk]) -> None:
    with wired.b.still():
        assert spoil(wired.b, flow.TCP, 7) == len(talks) - 1
        assert "7" in marks(wired.b)
    wait_for(lambda: "7" not in marks(wired.b), 8, "the marks are the active's again")

    def known() -> bool:
        both = [answer(wired, node, "status") for node in (wired.b, wired.a)]
        return all(
            (said["missing"], said["stale"], said["share_permille"]) == (0, 0, 1000)
            for said in both
        )

    wait_for(known, 15, "both know that the copy is right again")


def test_what_is_only_on_the_passive_is_removed(wired: Pair, talks: list[Talk]) -> None:
    with wired.b.still():
        wired.b.run(
            "conntrack", "-I", "-p", "udp", "-t", "600", "-u", "ASSURED",
            "-s", CLIENT, "-d", SERVER, "--sport", "7", "--dport", "7",
        )  # fmt: skip
        assert wired.b.entries_to(7)
    wait_for(lambda: not wired.b.entries_to(7), 8, "what the active does not have is removed")


def test_check_deep_says_that_both_are_the_same_on_either_node(
    wired: Pair, talks: list[Talk]
) -> None:
    for node in (wired.a, wired.b):
        said = answer(wired, node, "deep")
        assert said["ok"], said
        assert (said["same"], said["entries"]) == (True, len(talks))


def test_check_deep_names_what_differs(wired: Pair, talks: list[Talk]) -> None:
    for _try in range(10):
        spoil(wired.b, 17, 9)
        said = answer(wired, wired.a, "deep")
        if not said["same"]:
            break
        time.sleep(0.3)  # the digest was faster, and another one follows a mending soon
    assert (said["same"], said["stale"], said["missing"]) == (False, 1, 0), said
    assert said["examples"][0]["how"] == "stale"
    assert said["examples"][0]["connection"].endswith(f"-> {SERVER}:5200")


@pytest.mark.parametrize("which", ["a", "b"])
def test_resync_copies_everything_anew(wired: Pair, talks: list[Talk], which: str) -> None:
    node = wired.a if which == "a" else wired.b
    said = answer(wired, node, "resync")
    assert said["ok"], said
    assert (said["entries"], said["created"], said["removed"]) == (len(talks), 0, 0)
    wired.settle()
    wired.b.run("conntrack", "-D", "-s", CLIENT, check=False)
    said = answer(wired, node, "resync")
    assert said["ok"], said
    wired.b.wait_report(entries=len(talks))


def test_the_operators_tool_says_the_same_in_words(
    wired: Pair,
    talks: list[Talk],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for node in (wired.a, wired.b):
        monkeypatch.setattr(replica_tool, "SYNC_SOCKET_PATH", node.folder / "sync.sock")
        same = f"{len(talks)} entries, both tables are the same"
        assert replica_tool.deep() == (0, "OK", same)
        assert replica_tool.resync(argparse.Namespace(json=False)) == 0
        assert capsys.readouterr().out.startswith(f"{len(talks)} entries in ")
        assert replica_tool.resync(argparse.Namespace(json=True)) == 0
        assert json.loads(capsys.readouterr().out)["done"] is True
    for _try in range(10):
        spoil(wired.b, 17, 9)
        code, word, text = replica_tool.deep()
        if code:
            break
        time.sleep(0.3)  # the digest was faster
    assert (code, word) == (1, "WARNING"), text
    assert text.startswith(f"1 stale on the passive, of {len(talks)} entries; stale: udp"), text
    wired.b.heart.role("starting", 1)
    wired.b.wait_report(state="stale")
    reason = "this node is starting: nothing is replicated"
    assert replica_tool.deep() == (3, "UNKNOWN", reason)
    assert replica_tool.resync(argparse.Namespace(json=False)) == 1
    assert capsys.readouterr().err == f"refused: {reason}\n"


def test_what_cannot_be_done_is_refused_with_its_reason(wired: Pair, talks: list[Talk]) -> None:
    assert answer(wired, wired.a, "what")["reasons"] == ["unknown request 'what'"]
    wired.b.kill()
    said = answer(wired, wired.a, "resync")
    assert not said["ok"], said
    wired.a.heart.role("starting", 1)
    wired.a.wait_report(state="disconnected")
    assert answer(wired, wired.a, "deep")["reasons"] == [
        "this node is starting: nothing is replicated"
    ]


def test_counters_can_be_read_and_are_json(wired: Pair, talks: list[Talk]) -> None:
    active, passive = (answer(wired, node, "status") for node in (wired.a, wired.b))
    assert active["counters"]["events"] >= len(talks)
    assert active["counters"]["bytes_sent"] > 0 < passive["counters"]["bytes_received"]
    assert passive["counters"]["changes_received"] >= len(talks)
    assert active["counters"]["cpu_us"] > 0 < passive["counters"]["memory_kib"]
    json.dumps([active, passive])


def test_a_client_that_says_nothing_or_rubbish_costs_nothing(
    wired: Pair, talks: list[Talk]
) -> None:
    import socket

    lines = []
    for text in (b"", b"\xff\xfe", b"[1]", b'{"op": 5}'):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.connect(str(wired.b.folder / "sync.sock"))
        if text:
            line.send(text)
        lines.append(line)
    assert answer(wired, wired.b, "status")["ok"]
    for line in lines:
        line.close()
    assert wired.b.process is not None and wired.b.process.poll() is None
    wired.b.signal(signal.SIGCONT)
