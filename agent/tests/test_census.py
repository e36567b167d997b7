# SPDX-License-Identifier: GPL-3.0-or-later
"""x of y connections would survive a switch now, and the classes of the rest."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from sync_samples import direction, entry, packed, tcp_entry, udp_entry

from amaranten_ha.core import census, flow, stream, tlv
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Verb
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source, Survey

OWN = "198.51.100.1"


def masqueraded(translated: str) -> bytes:
    orig = direction("10.1.0.9", "198.51.100.7", 17, 5, 53)
    return entry(orig, direction("198.51.100.7", translated, 17, 53, 5))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (masqueraded(OWN), census.MASQUERADE),
        (tcp_entry(state=1, source="10.1.0.9").replace(packed(OWN), packed("198.51.100.2")),
         census.HALF_OPEN),
        (entry(direction(OWN, "198.51.100.7", 17, 5, 53), direction("198.51.100.7", OWN, 17, 53, 5),
               status=0xE), census.OWN),
        (entry(direction("10.1.0.9", OWN, 17, 5, 53), direction(OWN, "10.1.0.9", 17, 53, 5),
               status=0xE), census.OWN),
        (entry(direction("10.1.0.9", "224.0.0.1", 17, 5, 53),
               direction("224.0.0.1", "10.1.0.9", 17, 53, 5), status=0x8), census.OWN),
    ],
)  # fmt: skip
def test_each_class_has_its_name(attributes: bytes, expected: str) -> None:
    scope = Scope(frozenset({packed(OWN)}))
    found = flow.parse(attributes)
    assert not scope.survives(found)
    assert census.why(found, scope) == expected


def test_a_survey_counts_and_the_count_of_the_last_whole_one_stands() -> None:
    source = Source(Mirror(Scope(frozenset({packed(OWN)}))))
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([masqueraded(OWN), udp_entry()], 0)
    assert not source.census.counted
    source.end_survey(0)
    assert source.census.counted == {census.MASQUERADE: 1}
    source.begin_survey(Survey.RENEWAL)
    source.end_survey(0)
    assert source.census.counted == {}


def test_the_sum_says_x_of_y() -> None:
    counted = {census.OWN: 3, census.MASQUERADE: 2, census.HALF_OPEN: 1, census.NO_HELPER: 4}
    said = census.summary(counted, 100, 5, 7, synced=True)
    assert said == {
        "survive": 89,
        "of": 106,
        "not": {"own": 3, "masquerade": 2, "half-open": 1, "newborn": 5, "not copied": 2,
                "no helper": 4},
    }  # fmt: skip
    assert said["survive"] + sum(said["not"].values()) == said["of"]
    assert census.line(said).startswith("89 of 106 connections would survive a switch now; not: 3 ")


def test_without_a_replica_none_survives() -> None:
    said = census.summary({census.OWN: 3}, 100, 5, 0, synced=False)
    assert (said["survive"], said["not"]["not copied"]) == (0, 100)
    assert census.line(census.summary({}, 0, 0, 0, synced=True)) == (
        "0 of 0 connections would survive a switch now"
    )


def test_the_counts_travel_and_an_earlier_version_says_none() -> None:
    earlier = stream.State(Role.ACTIVE, own=1, masquerade=2, half_open=3, helpless=4)
    told = replace(earlier, lag_entries=5, newborn=6, repairing=True)
    data = stream.encode(told)
    assert stream.decode(data) == told
    assert stream.decode(data[:-12]) == earlier
    assert stream.decode(data[:-28]) == stream.State(Role.ACTIVE)
    assert stream.decode(data + b"more") == stream.decode(data)


def test_a_copy_without_its_helper_is_counted_until_it_ends() -> None:
    copy = Copy(Mirror(Scope(frozenset())))
    copy.start()
    copy.receive(stream.BulkBegin(copy.want), 0)
    record = flow.parse(tcp_entry()).record
    (create,) = copy.receive(stream.Changes(1, ((Op.UPSERT, record),)), 0)
    (plain,) = copy.refused_by_kernel(create, errno.EOPNOTSUPP, 0)
    assert plain.verb is Verb.CREATE_PLAIN and len(copy.helpless) == 1
    copy.receive(stream.Changes(2, ((Op.DELETE, create.key),)), 0)
    assert not copy.helpless
    # A master that is not known is another matter.
    (create,) = copy.receive(stream.Changes(3, ((Op.UPSERT, record),)), 0)
    copy.refused_by_kernel(create, errno.ENOENT, 0)
    assert not copy.helpless


def test_a_bulk_asks_the_kernel_again_which_copies_lack_their_helper() -> None:
    copy = Copy(Mirror(Scope(frozenset())))
    helper = tlv.nest(flow.HELP, tlv.attribute(1, b"ftp\0"))
    helped, other = flow.parse(tcp_entry(1) + helper), flow.parse(tcp_entry(2))
    # The service was restarted: the copies are known from the kernel, and nothing more of them.
    for known in (helped, other):
        copy.mirror.note(known, 0)
    for _bulk in range(2):
        copy.start()
        copy.receive(stream.BulkBegin(copy.want), 0)
        told = tuple((Op.UPSERT, each.record) for each in (helped, other))
        with_helper, without = copy.receive(stream.Changes(1, told), 0)
        assert (with_helper.verb, without.verb) == (Verb.UPDATE_HELPER, Verb.UPDATE)
        assert not copy.helpless
        (plain,) = copy.refused_by_kernel(with_helper, errno.EOPNOTSUPP, 0)
        assert plain.verb is Verb.UPDATE and copy.helpless == {helped.key}
        copy.receive(stream.BulkEnd(copy.want), 0)
        copy.swept()
    # Between bulks nothing new can be learned, and an update says less.
    (update,) = copy.receive(stream.Changes(2, ((Op.UPSERT, helped.record),)), 0)
    assert update.verb is Verb.UPDATE and copy.helpless == {helped.key}
