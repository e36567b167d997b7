# SPDX-License-Identifier: GPL-3.0-or-later
"""Two real hearts with gate and stage in network namespaces: margins, and what the soak counts."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gate_bench import DEADLINE_S, batch, until
from heart_pair import LINKS, Node, Pair, running_pair

from tests.soak.counter import Counter
from tests.soak.results import add_up, in_words

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with running_pair(tmp_path / "one" / "pair0") as made:
        yield made


def heard(node: Node, link: str) -> int:
    """The beats that a node says it has heard on a link."""
    return int(node.status()["links"][link]["in"]["beats"])


@pytest.mark.parametrize("link", LINKS)
def test_the_beats_that_are_told_are_those_on_the_wire(pair: Pair, link: str) -> None:
    counter = Counter(pair.b.namespace, f"{link}0")
    before = heard(pair.b, link)
    counter.taken()
    begun = heard(pair.b, link)
    until(lambda: heard(pair.b, link) > begun + 60, "60 beats")
    ending = heard(pair.b, link)
    counted = counter.taken()
    after = heard(pair.b, link)
    # One may be on its way from the wire to heart at each end.
    assert ending - begun - 1 <= counted <= after - before + 1
    counter.close()


def test_margins_of_both_directions_are_told(pair: Pair) -> None:
    until(lambda: pair.a.status()["links"]["lan"]["out"]["beats"] > 60, "the peer's view is back")
    margin, passive = pair.a.status()["margin"], pair.passive
    until(lambda: passive.status()["margin"]["nodes"][passive.name]["answer_ms"], "answers")
    assert set(margin["nodes"]) == {"fw-a", "fw-b"}
    assert near_miss_free(pair.a)
    assert "out" in pair.a.status()["links"]["sync"]


def near_miss_free(node: Node) -> bool:
    """Whether there are 60 beats without a near miss: a busy machine has one now and then."""
    for _window in range(5):
        begun, known = heard(node, "lan"), node.status()["margin"]["near_misses"]
        until(lambda begun=begun: heard(node, "lan") > begun + 60, "60 beats")
        if node.status()["margin"]["near_misses"] == known:
            return True
    return False


def test_crossed_cables_are_said_by_both_hearts(pair: Pair) -> None:
    names = {"lan0": "spare0", "sync0": "lan0", "spare0": "sync0"}
    for old, new in names.items():
        batch(
            f"link set {old} down", f"link set {old} name {new}", f"link set {new} up",
            namespace=pair.b.namespace,
        )  # fmt: skip
    for node, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        alarms = crossed(node, peer, "lan", "sync")
        time.sleep(1.2)
        assert all(node.log.read_text().count(each) == 1 for each in alarms)
        kinds = [each["kind"] for each in node.ask({"op": "events"})["events"]]
        assert kinds.count("wiring") == 2
        assert node.status()["rejected"]["link"] > 2


def test_cables_that_are_exchanged_in_service_are_said_by_both_hearts(tmp_path: Path) -> None:
    with running_pair(tmp_path, links=("dmz", "lan", "sync"), switched=True) as pair:
        passive = pair.passive
        pair.plug(passive, "lan", "dmz")
        pair.plug(passive, "dmz", "lan")
        for node, peer in ((pair.a, pair.b), (pair.b, pair.a)):
            crossed(node, peer, "dmz", "lan", 15)
        pair.plug(passive, "lan", "lan")
        pair.plug(passive, "dmz", "dmz")
        for node in pair.nodes:
            until(lambda node=node: quiet(node), f"{node.name} hears every link again")


def crossed(node: Node, peer: Node, one: str, other: str, seconds: float = DEADLINE_S) -> list[str]:
    """Wait until a node says that two cables are crossed; returns how both alarms begin."""
    alarms = [
        f"alarm: a heartbeat of {peer.name} for {said} arrives here on {here}: "
        for said, here in ((one, other), (other, one))
    ]
    until(
        lambda: all(each in node.log.read_text() for each in alarms),
        f"{node.name} says so",
        seconds,
    )
    return alarms


def quiet(node: Node) -> bool:
    """Say whether a node hears its peer on every link."""
    links = node.status()["links"].values()
    return all(each["last_heard_ms"] is not None and each["last_heard_ms"] < 250 for each in links)


def test_a_change_of_role_is_counted_by_the_soak_and_quiet_times_are_not(
    pair: Pair, tmp_path: Path
) -> None:
    settled = {"0": {"ab"[node.number - 1]: len(node.changes()) for node in pair.nodes}}
    run = {"tree": "t", "commit": "c", "profile": "virtual", "settled": settled}
    (tmp_path / "one" / "run.json").write_text(json.dumps(run))
    margins = {"near_misses": 1, "outages": 0, "late_ms": 2.5, "silence_ms": 40.0}
    look = {
        "seconds": 36, "load": 1.0, "beats": {"0": {"lan to fw-a": 900, "lan to fw-b": 901}},
        "margins": {"0": {"a": margins, "b": margins}},
    }  # fmt: skip
    (tmp_path / "one" / "beats.jsonl").write_text(json.dumps(look) + "\n" + json.dumps(look) + "\n")
    row = add_up(tmp_path, "t")["virtual"]
    assert (row["switches"], row["beats_per_link"], row["near_misses"]) == (0, 1800, 2)
    assert row["pair_hours"] == pytest.approx(0.02)
    active, passive = pair.active, pair.passive
    active.signal(signal.SIGKILL)
    until(lambda: passive.role == "active", "the other one takes over")
    row = add_up(tmp_path, "t")["virtual"]
    assert row["switches"] == 1 and "peer lost: agent" in in_words({"virtual": row})
    assert add_up(tmp_path, "another") == {}
