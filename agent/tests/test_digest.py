# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests: sums follow every change, lists name what differs, and what differs is mended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_samples import entries, tcp_entry, udp_entry

from amaranten_ha.core import digest, flow, stream, tlv
from amaranten_ha.core.audit import TRIES_MAX, Audit, Deep
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Verb
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import LISTED_AT_ONCE, Source, Survey

S_NS = 1_000_000_000


def mirror(*attributes: bytes) -> Mirror:
    made = Mirror(Scope(frozenset()))
    for each in attributes:
        made.note(flow.parse(each), 0)
    return made


steps = st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(3, 8)), max_size=40)


@given(steps, steps)
def test_sums_are_equal_exactly_when_the_tables_are(
    one: list[tuple[bool, int, int]], two: list[tuple[bool, int, int]]
) -> None:
    """Whatever the way to a table, its sums say what is in it, and its lists say the same."""
    made = []
    for script in (one, two):
        held, naive = mirror(), dict[bytes, int]()
        for comes, sport, state in script:
            entry = flow.parse(tcp_entry(sport, state))
            if comes:
                held.note(entry, 0)
                naive[entry.key] = flow.stable(entry) & 0xFFFFFFFF
            else:
                held.forget(entry.key)
                naive.pop(entry.key, None)
        assert len(held) == len(naive)
        made.append((held, naive))
    (first, here), (second, there) = made
    keys = {key for key in here.keys() | there.keys() if here.get(key) != there.get(key)}
    differing = first.sums.differing(digest.decode(second.sums.encode()))
    assert set(differing) == {digest.bucket(key) for key in keys}
    found: set[bytes] = set()
    for bucket in differing:
        for kind in digest.difference(second.listed(bucket), first.listed(bucket)):
            found.update(kind)
    assert found == keys


def test_a_digest_of_another_size_is_refused() -> None:
    with pytest.raises(PeerError, match="a digest of 5 bytes"):
        digest.decode(b"12345")


@given(entries())
def test_helper_and_master_do_not_count_and_marks_and_labels_do(attributes: bytes) -> None:
    plain = flow.stable(flow.parse(attributes))
    helper = tlv.nest(flow.HELP, tlv.attribute(1, b"ftp\0"))
    assert flow.stable(flow.parse(attributes + helper)) == plain
    labels = tlv.attribute(flow.LABELS, b"\1" + bytes(15))
    assert flow.stable(flow.parse(attributes + labels)) != plain


class Two:
    """An active's source and a passive's copy with everything in common; the test is the kernel."""

    def __init__(self, *attributes: bytes) -> None:
        self.source = Source(mirror())
        self.copy = Copy(mirror())
        self.copy.start()
        self.tell(self.source.begin_survey(Survey.BULK, self.copy.want))
        self.source.surveyed(list(attributes), 0)
        self.source.end_survey(0)
        self.now_ns = S_NS
        self.flush()
        self.copy.swept()
        self.tell(stream.State(Role.ACTIVE, told=self.source.told))
        assert self.copy.complete
        self.verbs: list[Verb] = []

    def tell(self, message: stream.Message | None) -> None:
        assert message is not None
        wired = stream.decode(stream.encode(message))
        assert wired is not None
        self.verbs = [each.verb for each in self.copy.receive(wired, 0)]

    def flush(self) -> None:
        while (message := self.source.take(self.now_ns, urgent=True)) is not None:
            self.tell(message)

    def round(self) -> list[Verb]:
        """One digest and everything that follows from it; returns what the kernel was asked."""
        self.now_ns += S_NS
        verbs: list[Verb] = []
        self.flush()
        while audit := self.source.audit(self.now_ns):
            for message in audit:
                self.tell(message)
                verbs += self.verbs
            while self.copy.replies:
                reply = self.copy.replies.pop(0)
                if isinstance(reply, stream.List):
                    self.source.asked(reply)
                assert isinstance(reply, stream.List | stream.Ask)
                for key in reply.keys if isinstance(reply, stream.Ask) else ():
                    known = self.table.get(key)
                    self.source.looked_up(key, known, self.now_ns)
            while (said := self.source.take(self.now_ns, urgent=True)) is not None:
                self.tell(said)
                verbs += self.verbs
        return verbs

    table: dict[bytes, bytes]


@pytest.fixture
def two() -> Two:
    attributes = [tcp_entry(sport) for sport in range(1, 200)]
    made = Two(*attributes)
    made.table = {flow.parse(each).key: each for each in attributes}
    return made


def key(sport: int, state: int = 3) -> bytes:
    return flow.parse(tcp_entry(sport, state)).key


def test_equal_tables_ask_for_nothing(two: Two) -> None:
    assert two.round() == []
    assert two.copy.audit.compared_ns is not None
    assert two.copy.share_permille == 1000


def test_what_is_missing_stale_or_surplus_is_counted_and_mended(two: Two) -> None:
    two.copy.mirror.forget(key(1))
    two.copy.mirror.note(flow.parse(tcp_entry(2, 7)), 0)
    two.copy.mirror.note(flow.parse(udp_entry(3)), 0)
    assert sorted(two.round(), key=str) == [Verb.CREATE, Verb.DELETE, Verb.UPDATE]
    audit = two.copy.audit
    assert (audit.missing, audit.stale, audit.surplus) == (1, 1, 1)
    assert two.copy.share_permille == 1000 * 197 // 199
    assert two.round() == []
    assert (audit.missing, audit.stale, audit.surplus) == (0, 0, 0)
    assert two.copy.share_permille == 1000


def test_what_stays_stale_is_made_anew_once_and_then_left_and_counted(two: Two) -> None:
    asked: list[list[Verb]] = []
    for _round in range(TRIES_MAX + 2):
        two.copy.mirror.note(flow.parse(tcp_entry(2, 7)), 0)
        asked.append(two.round())
    assert asked[0] == [Verb.UPDATE]
    assert asked[1] == [Verb.DELETE, Verb.CREATE]
    assert asked[TRIES_MAX:] == [[], []]
    assert two.copy.audit.stale == 1


def test_what_is_stale_once_more_is_made_anew_although_the_sums_were_equal_in_between(
    two: Two,
) -> None:
    """The kernel may keep what no update can change; only the next survey sees that."""
    for wanted in ([Verb.UPDATE], [Verb.DELETE, Verb.CREATE]):
        two.copy.mirror.note(flow.parse(tcp_entry(2, 7)), 0)
        assert two.round() == wanted
        assert two.round() == []
        assert two.copy.audit.stale == 0


def test_a_change_under_way_is_no_difference(two: Two) -> None:
    two.source.hear(False, tcp_entry(500), two.now_ns)
    assert two.source.audit(two.now_ns + 5 * S_NS) == []
    assert two.round() == []
    assert two.copy.audit.missing == 0


def test_a_table_that_differs_much_is_asked_for_anew_but_not_again_and_again(two: Two) -> None:
    for sport in range(1, 2000):
        two.copy.mirror.note(flow.parse(udp_entry(sport)), 0)
    digest_of_all = stream.Digest(two.source.mirror.sums.encode())
    two.tell(digest_of_all)
    assert two.copy.want == 2 and not two.copy.complete
    two.tell(stream.BulkBegin(2))
    two.tell(stream.BulkEnd(2))
    two.copy.swept()
    two.tell(digest_of_all)
    assert two.copy.complete, "asked for anew although that was of no use a moment ago"
    assert [type(reply) for reply in two.copy.replies] == [stream.List]
    two.copy.receive(digest_of_all, 31 * S_NS)
    assert two.copy.want == 3


def test_a_long_bucket_comes_in_pieces_and_nothing_in_between() -> None:
    source = Source(mirror())
    source.begin_survey(Survey.BULK, 1)
    source.end_survey(0)
    source.take(S_NS, urgent=True)
    ports = [port for port in range(1, 4096) if digest.bucket(_udp(port)) == 5]
    wanted = [flow.parse(udp_entry(port)) for port in ports]
    for each in wanted:
        source.mirror.note(each, 0)
    source.audit(S_NS)
    source.asked(stream.List((5,)))
    [listing] = source.audit(S_NS)
    assert isinstance(listing, stream.Listing) and listing.last
    assert dict(listing.entries) == {each.key: flow.stable(each) for each in wanted}
    many = dict.fromkeys((b"%060d" % number for number in range(LISTED_AT_ONCE * 2 + 1)), 1)
    source.mirror.listed = lambda bucket: many  # type: ignore[method-assign]
    source.asked(stream.List((5,)))
    pieces = source.audit(S_NS)
    assert [piece.last for piece in pieces if isinstance(piece, stream.Listing)] == [
        False, False, True,
    ]  # fmt: skip


def _udp(port: int) -> bytes:
    return flow.parse(udp_entry(port)).key


def test_a_deep_comparison_is_done_when_every_bucket_was_listed() -> None:
    mine = mirror(*(udp_entry(port) for port in range(1, 500)))
    theirs = mirror(*(udp_entry(port) for port in range(2, 501)))
    audit = Audit(mine)
    audit.deep = Deep()
    for bucket in range(digest.BUCKETS):
        assert not audit.deep.done
        audit.listed(bucket, tuple(theirs.listed(bucket).items()), last=True)
    assert audit.deep.done
    assert (audit.deep.compared, audit.deep.missing, audit.deep.surplus) == (499, 1, 1)
    said = {(how, flow.describe(each)) for how, each in audit.deep.found}
    assert said == {
        ("missing", "udp 10.1.0.9:500 -> 198.51.100.7:53"),
        ("surplus", "udp 10.1.0.9:1 -> 198.51.100.7:53"),
    }
