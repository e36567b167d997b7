# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong between two real services, and what a take-over in the middle of it carries on.

Two real routers. A service that is altered before it starts stands for what this kernel does not
do when it is asked to: a walk that is refused half-way, another major version.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from sync_netns import Talk, tcp, wait_for
from sync_pair import NOBODY, SERVER, Node, Pair
from sync_traffic import unheard

from amaranten_ha.io.desk import ask

pytestmark = pytest.mark.live

NEW_MAJOR = """
from amaranten_ha.core import greeting
greeting.Greeting.__init__.__defaults__ = (greeting.MAJOR + 1, greeting.MINOR)
"""
WALK_REFUSED = """
from amaranten_ha.core import source
from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.io import netlink
bulks = []
begin = source.Source.begin_survey
def begins(self, survey, bulk=0, **more):
    bulks.extend([bulk] if survey is source.Survey.BULK else [])
    return begin(self, survey, bulk, **more)
def refusing(read):
    def reads(self):
        if len(bulks) == 1:
            raise KernelRefused("the walk is refused")
        return read(self)
    return reads
source.Source.begin_survey = begins
for walk in (netlink.Dump, netlink.Revisit):
    walk.read = refusing(walk.read)
"""
NEVER_SWEPT = """
from amaranten_ha.core.copy import Copy
Copy.swept = lambda self: None
"""
EVERY_WALK_TAKES_TOO_LONG = """
from amaranten_ha import walker
walker.RENEWAL_NS = 0
"""
SMALL_LEDGER = """
from amaranten_ha import walker
from amaranten_ha.core import ledger
ledger.Ledger.__init__.__defaults__ = (400,)
walker.PENDING_MAX = 32
"""


@pytest.fixture
def pair(wired: Pair) -> Iterator[Pair]:
    wired.begin()
    yield wired
    for node in (wired.a, wired.b):
        node.kill()
        node.altered = ""


def restart(node: Node, altered: str) -> None:
    """The service ends, and another one starts in its place."""
    node.kill()
    node.altered = altered
    node.start()


def talking(pair: Pair, port: int) -> Talk:
    """A connection that both nodes know."""
    talk = tcp(pair.client, pair.server, SERVER, SERVER, port)
    assert talk.exchange()
    pair.settle()
    return talk


def take_over(pair: Pair) -> None:
    pair.roles("starting", "active", 2)
    pair.activate(pair.b)


def test_another_major_version_is_said_by_both_and_stops_nothing_else(pair: Pair) -> None:
    talk = talking(pair, 5601)
    restart(pair.b, NEW_MAJOR)
    for node, theirs, own in ((pair.a, 2, 1), (pair.b, 1, 2)):
        node.wait_report(state="disconnected")
        reason = str(node.report["reason"])
        assert f"the peer speaks version {theirs}." in reason and f" {own}." in reason, reason
    late = tcp(pair.client, pair.server, SERVER, SERVER, 5602)
    take_over(pair)
    assert talk.exchange()  # what was copied before is in the kernel
    assert not late.exchange(timeout_s=0.6)
    talk.close()
    late.close()


def test_a_walk_that_is_refused_in_a_bulk_is_said_and_the_bulk_begins_anew(pair: Pair) -> None:
    talk = talking(pair, 5603)
    pair.b.kill()
    pair.b.run("conntrack", "-F", check=False)
    restart(pair.a, WALK_REFUSED)
    pair.a.wait_report(entries=1)
    pair.a.forget_reports()
    pair.b.start()
    wait_for(lambda: pair.a.said(state="stale", reason="the walk is refused"), 10, "it is said")
    pair.settle()
    take_over(pair)
    assert talk.exchange()
    talk.close()


def test_a_ledger_that_overflows_forgets_and_everything_is_told_anew(pair: Pair) -> None:
    talk = talking(pair, 5604)
    restart(pair.a, SMALL_LEDGER)
    pair.settle()
    ports = range(10_000, 12_000)
    with unheard(pair, ports):
        wait_for(lambda: pair.b.said(state="bulk"), 10, "a bulk")
        pair.settle()
        pair.b.wait_report(entries=2001, missing=0, stale=0, share_permille=1000)
        kept = {line.split(" dport=")[1].split()[0] for line in pair.b.entries("-d", NOBODY)}
        assert kept == set(map(str, ports))
        status = ask(pair.a.folder / "sync.sock", {"op": "status"}, 5, "sync")
        assert status["counters"]["events_lost"] == 0
    take_over(pair)
    assert talk.exchange()
    talk.close()


@pytest.mark.parametrize("sync_is", ["dead", "stopped", "in a bulk"])
def test_a_take_over_waits_for_nothing_and_carries_what_the_kernel_has(
    pair: Pair, sync_is: str
) -> None:
    talk = talking(pair, 5605)
    if sync_is == "dead":
        pair.b.kill()
    elif sync_is == "stopped":
        pair.b.signal(signal.SIGSTOP)
    else:
        restart(pair.b, NEVER_SWEPT)
        pair.b.wait_report(state="bulk", entries=1)
    take_over(pair)
    assert talk.exchange()
    assert pair.b.drops() == []
    talk.close()


@pytest.mark.parametrize("altered", ["", EVERY_WALK_TAKES_TOO_LONG])
def test_while_lost_events_are_looked_for_neither_node_calls_it_a_copy(
    pair: Pair, altered: str
) -> None:
    restart(pair.a, altered)
    pair.settle()
    here, there = "events were lost: comparing the whole table", "fw-a has lost events: it compares"
    with unheard(pair, range(10_000, 40_000)):  # more than the event socket's buffer holds
        wait_for(lambda: pair.a.said(state="bulk", reason=here), 20, "A says it")
        said = {"state": "bulk", "reason": f"{there} its whole table"}
        wait_for(lambda: pair.b.said(**said), 20, "B says it")
        pair.settle(30)
