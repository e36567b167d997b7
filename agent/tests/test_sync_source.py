# SPDX-License-Identifier: GPL-3.0-or-later
"""The active's side: events, surveys and look-ups in, messages out, and the lag of the peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_active import LABELS, sending, told
from sync_samples import entry, tcp_entry, udp_entry

from amaranten_ha.core import flow, greeting, stream, tlv
from amaranten_ha.core import mirror as mirror_module
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Verb
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.intake import condense
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source, Survey

S_NS, MS_NS = 1_000_000_000, 1_000_000


def test_a_half_open_connection_is_not_told_and_its_labels_are_not_lost() -> None:
    source = sending()
    assert source.hear(False, tcp_entry(1, state=1) + LABELS, 0) is None
    assert told(source) == []
    source.hear(False, tcp_entry(1, state=3), 0)
    [(op, record)] = told(source)
    assert op is Op.UPSERT
    assert flow.parse(record).fields[flow.LABELS] == b"\x01" + bytes(15)


def test_an_event_without_its_state_is_looked_up_and_told_whole() -> None:
    source = sending()
    whole = tcp_entry(1)
    bare = whole[: whole.index(tlv.attribute(flow.TIMEOUT, (300).to_bytes(4, "big"))) + 8]
    key = source.hear(False, bare + LABELS, 0)
    assert key == flow.parse(whole).key
    assert told(source) == []
    source.looked_up(key, whole + LABELS, 0)
    assert [flow.parse(record).state for _op, record in told(source)] == [3]


def test_what_a_half_open_connection_said_is_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends by its timeout, and of that nobody hears: neither room nor a successor is its own."""
    monkeypatch.setattr(mirror_module, "RARITIES_MAX", 2)
    source, later_ns = sending(), (mirror_module.RARITIES_S + 1) * S_NS
    for sport in (1, 2, 3):
        source.hear(False, tcp_entry(sport, state=1) + LABELS, 0)
    source.hear(False, tcp_entry(4, state=1) + LABELS, later_ns)
    source.hear(False, tcp_entry(5, state=1) + LABELS, later_ns)
    for sport in (1, 4, 5):
        source.hear(False, tcp_entry(sport), later_ns)
    labelled = [flow.LABELS in flow.parse(said).fields for _op, said in told(source, later_ns)]
    assert labelled == [False, True, True]


def test_the_entry_of_the_other_direction_is_not_taken_for_the_one_looked_up() -> None:
    source = sending()
    source.hear(False, udp_entry(1), 0)
    told(source)
    source.looked_up(flow.parse(udp_entry(1)).key, udp_entry(2), 0)
    assert told(source) == [(Op.DELETE, flow.parse(udp_entry(1)).key)]


def test_a_piece_of_a_walk_that_is_older_than_an_event_does_not_bring_the_predecessor_back() -> (
    None
):
    source = sending()
    successor = tcp_entry(1, port=9)
    source.hear(False, successor, 0)
    told(source)
    for survey in (Survey.RENEWAL, Survey.BULK):
        source.begin_survey(survey, 2)
        source.surveyed([tcp_entry(1, 7)], S_NS)
        [key] = source.mirror.unseen(10)
        source.looked_up(key, successor, S_NS)
        source.end_survey(S_NS)
        assert told(source, 2 * S_NS) == [(Op.UPSERT, flow.parse(successor).record)]


def test_a_deletion_of_what_was_never_told_is_not_told() -> None:
    source = sending()
    source.hear(True, tcp_entry(1), 0)
    source.hear(False, tcp_entry(2, state=1), 0)
    source.hear(True, tcp_entry(2), 0)
    assert told(source) == []


def test_while_it_does_not_send_it_remembers_what_vanished() -> None:
    source = Source(Mirror(Scope(frozenset())))
    source.hear(False, udp_entry(1), 0)
    source.hear(True, udp_entry(1), 0)
    source.hear(True, udp_entry(2), 0)
    assert source.lost == [flow.parse(udp_entry(1)).key]
    assert source.take(S_NS, urgent=True) is None


def test_a_renewal_tells_what_is_new_changed_or_running_out_and_nothing_else() -> None:
    source = sending()
    table = [udp_entry(1), udp_entry(2), tcp_entry(3)]
    for attributes in table:
        source.hear(False, attributes, 0)
    told(source)
    changed = entry(*_tuples(table[1]), tlv.attribute(flow.MARK, b"\0\0\0\7"), status=0x188)
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([table[0], changed, table[2], udp_entry(4)], 10 * S_NS)
    assert source.mirror.unseen(10) == []
    source.end_survey(10 * S_NS)
    keys = [flow.parse(record).key for _op, record in told(source, 11 * S_NS)]
    assert keys == [flow.parse(changed).key, flow.parse(udp_entry(4)).key]

    # The copy of a UDP flow lives for three minutes, so it is renewed half-way; TCP is not.
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([table[0], table[2]], 100 * S_NS)
    keys = [flow.parse(record).key for _op, record in told(source, 101 * S_NS)]
    assert keys == [flow.parse(table[0]).key]


def _tuples(attributes: bytes) -> tuple[bytes, bytes]:
    fields = tlv.index(attributes)
    return fields[flow.ORIG], fields[flow.REPLY]


def test_what_a_survey_did_not_see_is_told_as_gone_only_after_a_look_up() -> None:
    source = sending()
    for sport in (1, 2):
        source.hear(False, udp_entry(sport), 0)
    told(source)
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([], S_NS)
    assert len(source.mirror.unseen(10)) == 2
    assert told(source) == []
    source.looked_up(flow.parse(udp_entry(1)).key, udp_entry(1), S_NS)  # the walk missed it
    source.looked_up(flow.parse(udp_entry(2)).key, None, S_NS)
    assert source.mirror.unseen(10) == []
    ops = {op for op, _payload in told(source, 2 * S_NS)}
    assert ops == {Op.UPSERT, Op.DELETE}
    assert len(source.mirror) == 1


def test_an_answer_that_cannot_be_read_ends_the_survey_all_the_same() -> None:
    source = sending()
    source.hear(False, udp_entry(1), 0)
    told(source)
    source.begin_survey(Survey.RENEWAL)
    [key] = source.mirror.unseen(10)
    source.looked_up(key, b"\x05\x00", S_NS)
    assert source.mirror.unseen(10) == []
    assert told(source) == [] and len(source.mirror) == 1


def test_changes_wait_a_moment_for_company_unless_it_is_urgent() -> None:
    source = sending()
    source.hear(False, udp_entry(1), 100 * MS_NS)
    assert source.take(101 * MS_NS, urgent=False) is None
    assert source.take(101 * MS_NS, urgent=True) is not None
    source.hear(False, udp_entry(2), 200 * MS_NS)
    assert source.take(206 * MS_NS, urgent=False) is not None


def test_a_bulk_whose_walk_cannot_go_on_tells_nothing_more_until_it_begins_anew() -> None:
    source = sending()
    source.begin_survey(Survey.BULK, 2)
    source.surveyed([udp_entry(1)], 0)
    source.give_up_survey()
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([udp_entry(1), udp_entry(2)], 0)
    source.end_survey(0)
    assert not source.sending and source.take(S_NS, urgent=True) is None
    source.begin_survey(Survey.BULK, 2)
    source.surveyed([udp_entry(1), udp_entry(2)], 0)
    source.end_survey(0)
    assert len(told(source)) == 2


def test_what_was_copied_is_compared_at_once() -> None:
    source = sending()
    source.audit(S_NS)
    assert source.audit(S_NS + 10 * MS_NS) == []
    done = stream.State(Role.PASSIVE, want=1, done=1)
    source.confirmed(stream.State(Role.PASSIVE, want=1), S_NS + 20 * MS_NS)
    assert source.audit(S_NS + 20 * MS_NS) == []
    for at_ns, digests in ((S_NS + 30 * MS_NS, 1), (S_NS + 40 * MS_NS, 0)):
        source.confirmed(done, at_ns)
        assert len(source.audit(at_ns)) == digests


def test_lag_is_measured_with_one_clock() -> None:
    source = sending()
    source.hear(False, udp_entry(1), 1_000 * MS_NS)
    source.take(1_005 * MS_NS, urgent=True)
    assert source.lag_ms(1_010 * MS_NS) == 0
    assert source.lag_ms(1_400 * MS_NS) == 400  # nobody has confirmed it
    # The peer applied it 150 ms before it said so.
    said = stream.State(Role.PASSIVE, position=source.position, age_us=150_000)
    source.confirmed(said, 1_180 * MS_NS)
    assert source.lag_ms(1_190 * MS_NS) == 30
    source.confirmed(said, 1_380 * MS_NS)
    assert source.lag_ms(1_390 * MS_NS) == 0


def ops(source: Source, now_ns: int = 0) -> list[Op]:
    return [op for op, _payload in told(source, now_ns)]


@pytest.mark.parametrize(
    ("state", "minor", "last_word"),
    [
        (7, greeting.LAST_MINOR, Op.LAST),
        (7, greeting.LAST_MINOR - 1, Op.DELETE),
        (8, greeting.LAST_MINOR, Op.DELETE),
    ],
)
def test_a_connection_that_is_closed_is_told_once_more(
    state: int, minor: int, last_word: Op
) -> None:
    """Or as gone, if a reset left nothing of it, or to a peer that knows no last word."""
    source = sending()
    source.minor = minor
    source.hear(False, tcp_entry(1), 0)
    assert ops(source) == [Op.UPSERT]
    # One that says more than usual, as its event has a label: the general way.
    source.hear(False, tcp_entry(1, state) + LABELS, 0)
    assert ops(source) == [last_word]
    assert len(source.mirror) == source.told == 0


def test_a_connection_that_was_born_and_closed_meanwhile_is_told_once() -> None:
    source = sending()
    for gone, attributes in condense([(False, tcp_entry(1, state)) for state in (3, 6, 7)]):
        source.hear(gone, attributes, 0)
    for attributes in (tcp_entry(2), tcp_entry(2, 7)):  # heard in two turns
        source.hear(False, attributes, MS_NS)
    for attributes in (tcp_entry(3), tcp_entry(3, 8)):  # a reset leaves nothing
        source.hear(False, attributes, MS_NS)
    assert ops(source, S_NS) == [Op.LAST, Op.LAST]
    assert len(source.mirror) == source.told == 0


def test_nothing_is_told_of_a_closed_connection_of_an_own_address() -> None:
    source = Source(Mirror(Scope(frozenset({flow.parse(tcp_entry(1)).addresses[0]}))))
    source.alone = source.sending = True
    source.hear(False, tcp_entry(1, 7), 0)
    assert told(source) == []


def test_a_survey_of_the_active_leaves_closed_connections_out() -> None:
    source = sending()
    source.hear(False, tcp_entry(1), 0)
    told(source)
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([tcp_entry(1, 7), tcp_entry(2, 7), tcp_entry(3)], S_NS)
    # One was known, and its event was lost: it is looked up like any that was not seen.
    [key] = source.mirror.unseen(10)
    source.looked_up(key, tcp_entry(1, 7), S_NS)
    source.end_survey(S_NS)
    assert sorted(ops(source, 2 * S_NS)) == [Op.UPSERT, Op.LAST]
    assert source.census.counted.total() == 0  # nobody misses them


def test_a_passive_node_leaves_its_own_closed_connections_alone() -> None:
    """It has them from its time as the active. What an older agent has told it of is swept."""
    mirror = Mirror(Scope(frozenset()))
    source, copy = Source(mirror), Copy(mirror)
    mirror.note(flow.parse(tcp_entry(2, 7)), 0)
    source.begin_survey(Survey.RENEWAL)
    source.surveyed([tcp_entry(1, 7), tcp_entry(2, 7)], S_NS)
    source.end_survey(S_NS)
    assert len(mirror) == 1
    copy.start()
    for message in (stream.BulkBegin(copy.want), stream.BulkEnd(copy.want)):
        copy.receive(message, S_NS)
    [command] = copy.sweep([tcp_entry(1, 7), tcp_entry(2, 7)])
    assert (command.verb, command.key) == (Verb.DELETE, flow.parse(tcp_entry(2)).key)
    assert len(mirror) == 0


steps = st.lists(
    st.tuples(
        st.sampled_from(["up", "up", "gone", "lost up", "lost gone", "take", "survey"]),
        st.integers(1, 6),
        st.integers(3, 8),
    ),
    max_size=50,
)


def surveyed(source: Source, kernel: dict[bytes, bytes], now_ns: int) -> None:
    """A whole survey of a table that does not change meanwhile."""
    source.begin_survey(Survey.RENEWAL)
    source.surveyed(list(kernel.values()), now_ns)
    for key in source.mirror.unseen(100):
        source.looked_up(key, kernel.get(key), now_ns)
    source.end_survey(now_ns)


@given(steps)
def test_whatever_happens_a_survey_makes_the_copy_right(
    script: list[tuple[str, int, int]],
) -> None:
    """Events are heard or lost; the passive believes its mirror; a survey brings all together."""
    source = sending()
    copy = Copy(Mirror(Scope(frozenset())))
    copy.start()
    copy.receive(stream.BulkBegin(copy.want), 0)
    kernel: dict[bytes, bytes] = {}
    held: dict[bytes, int] = {}
    now_ns = 0

    def deliver() -> None:
        while (message := source.take(now_ns, urgent=True)) is not None:
            for command in copy.receive(message, now_ns):
                if command.entry is None or command.verb.value == "delete" or command.last:
                    held.pop(command.key, None)
                else:
                    held[command.key] = command.entry.state

    for step, sport, state in script:
        now_ns += MS_NS
        attributes = tcp_entry(sport, state)
        key = flow.parse(attributes).key
        if step.endswith("up"):
            kernel[key] = attributes
        elif step.endswith("gone"):
            kernel.pop(key, None)
        if step in ("up", "gone"):
            source.hear(step == "gone", attributes, now_ns)
        elif step == "take":
            deliver()
        elif step == "survey":
            surveyed(source, kernel, now_ns)
    surveyed(source, kernel, now_ns)
    deliver()
    states = {key: flow.parse(attributes).state for key, attributes in kernel.items()}
    assert held == {key: state for key, state in states.items() if state < 7}
    assert source.told == len(held)
