# SPDX-License-Identifier: GPL-3.0-or-later
"""`switchover --wait` at two real hearts: what is waited for, and what is not.

Sync is played by the test, so that a copy is being made for as long as the test wants.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from gate_bench import until
from heart_pair import Pair, running_pair

from amaranten_ha import cli, steering

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


class Syncs(threading.Thread):
    """The sync services of both nodes: they report `state`, and every barrier as reached."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.state = "bulk"
        self._ended = threading.Event()
        self._barrier = 0
        self._channels = []
        for node in pair.nodes:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            channel.connect(str(node.socket))
            channel.settimeout(0.02)
            channel.send(b'{"op": "follow"}')
            self._channels.append(channel)
        self.start()

    def run(self) -> None:
        """Report until it is ended; as soon as heart asks, however busy the processors are."""
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        while not self._ended.is_set():
            report = {
                "op": "replica", "state": self.state, "entries": 5, "lag_ms": 0,
                "share_permille": 1000, "barrier": self._barrier, "reason": "",
            }  # fmt: skip
            for channel in self._channels:
                channel.send(json.dumps(report).encode())
                try:
                    said = json.loads(channel.recv(65536))
                except TimeoutError:
                    continue
                if said["push"] == "barrier":
                    self._barrier = said["id"]

    def end(self) -> None:
        """Report nothing more."""
        self._ended.set()
        self.join()
        for channel in self._channels:
            channel.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair that is settled."""
    with running_pair(tmp_path_factory.mktemp("wait")) as pair:
        yield pair


@pytest.fixture
def syncs(pair: Pair) -> Iterator[Syncs]:
    """Both copies are being made."""
    playing = Syncs(pair)
    try:
        for node in pair.nodes:
            until(lambda node=node: node.status()["replica"]["state"] == "bulk", "bulk", 5)
        taker = pair.passive.name
        expected = [f"the replica on {taker} is bulk"]
        until(lambda: pair.active.status()["switchover"]["reasons"] == expected, "the peer's", 5)
        yield playing
    finally:
        playing.end()


@pytest.fixture(autouse=True)
def at_the_active(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "SOCKET_PATH", pair.active.socket)


def test_without_wait_a_copy_that_is_being_made_refuses(
    pair: Pair, syncs: Syncs, capfd: pytest.CaptureFixture[str]
) -> None:
    giver, taker = pair.active, pair.passive
    assert cli.main(["switchover"]) == 1
    assert capfd.readouterr().err == f"refused: the replica on {taker.name} is bulk\n"
    began = time.monotonic()
    assert cli.main(["switchover", "--wait", "1s"]) == 1
    assert time.monotonic() - began >= 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("waiting for at most ")
    assert pair.active is giver


def test_a_copy_that_is_being_made_is_waited_for(
    pair: Pair, syncs: Syncs, capfd: pytest.CaptureFixture[str]
) -> None:
    giver, taker = pair.active, pair.passive
    made = threading.Timer(1, setattr, (syncs, "state", "synced"))
    made.start()
    assert cli.main(["switchover", "--wait", "30s", "--json"]) == 0
    made.join()
    said = capfd.readouterr()
    assert f"the replica on {taker.name} is bulk" in said.err
    assert json.loads(said.out)["done"] and json.loads(said.out)["ms"] >= 1000
    until(pair.settled, "the role has moved", 5)
    assert pair.active is taker
    assert giver.status()["reason"] == "handed over"


@pytest.mark.parametrize("state", ["stale", "disconnected"])
def test_what_does_not_pass_by_itself_refuses_at_once(
    pair: Pair, syncs: Syncs, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    syncs.state = state
    reasons = [f"the replica on {pair.passive.name} is {state}"]
    until(lambda: pair.active.status()["switchover"]["reasons"] == reasons, state, 5)
    assert cli.main(["switchover", "--wait", "600s"]) == 1
    assert capfd.readouterr().err == f"refused: {reasons[0]}\n"


def test_a_duration_is_expected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["switchover", "--wait", "soon"])
    assert ended.value.code == 2
    assert "'soon': expected a duration" in capsys.readouterr().err
