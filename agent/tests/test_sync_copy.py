# SPDX-License-Identifier: GPL-3.0-or-later
"""The passive's side against a kernel of the test's making: what it believes, tries, and counts."""

from __future__ import annotations

import errno

import pytest
from sync_samples import direction, entry, packed, tcp_entry, udp_entry

from amaranten_ha.core import digest, flow, stream, tlv
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Command, Verb
from amaranten_ha.core.copy import BULK_NS, LATE_MAX, Copy
from amaranten_ha.core.ledger import Op
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.standing import REPAIRING, Troubles, standing

WELL = Troubles("", "")
ANEW = (Verb.DELETE, Verb.EVICT, Verb.CREATE)


def copied(bulk: bool = True) -> Copy:
    """A copy that has asked; with its bulk begun."""
    copy = Copy(Mirror(Scope(frozenset({packed("10.1.0.3")}))))
    copy.start()
    if bulk:
        assert copy.receive(stream.BulkBegin(copy.want), 0) == []
    return copy


def changes(*of: tuple[Op, bytes], position: int = 1) -> stream.Changes:
    return stream.Changes(position, of)


def record(attributes: bytes) -> bytes:
    return flow.parse(attributes).record


def up(sport: int) -> tuple[Op, bytes]:
    return Op.UPSERT, record(tcp_entry(sport))


def test_nothing_is_believed_before_the_bulk_that_was_asked_for() -> None:
    copy = copied(bulk=False)
    assert copy.receive(changes(up(1)), 0) == []
    assert copy.receive(stream.BulkBegin(copy.want + 1), 0) == []
    assert copy.receive(changes(up(1)), 0) == []
    assert copy.receive(stream.BarrierPassed(9), 0) == []
    assert copy.barrier == 0
    copy.receive(stream.BulkBegin(copy.want), 0)
    assert len(copy.receive(changes(up(1)), 0)) == 1
    old = copy.want
    copy.start()  # the role or the session changed
    assert copy.want != old
    assert copy.receive(changes(up(2)), 0) == []


def test_what_is_known_is_updated_and_what_is_not_is_created() -> None:
    copy = copied()
    verbs = [command.verb for command in copy.receive(changes(up(1), up(2)), 0)]
    assert verbs == [Verb.CREATE, Verb.CREATE]
    successor = (Op.REPLACE, record(tcp_entry(2)))
    gone = (Op.DELETE, flow.parse(tcp_entry(1)).key)
    verbs = [command.verb for command in copy.receive(changes(up(1), successor, gone), 0)]
    assert verbs == [Verb.UPDATE, Verb.DELETE, Verb.CREATE, Verb.DELETE]
    assert copy.receive(changes(gone), 0) == []


def test_own_traffic_is_not_taken_from_a_peer() -> None:
    own = entry(
        direction("10.1.0.9", "10.1.0.3", 17, 1, 2), direction("10.1.0.3", "10.1.0.9", 17, 2, 1)
    )
    copy = copied()
    assert copy.receive(changes((Op.UPSERT, record(own))), 0) == []
    key = flow.parse(own).key
    assert copy.receive(changes((Op.DELETE, key)), 0) == []


def test_a_sweep_removes_what_was_not_told_and_could_move() -> None:
    local = entry(
        direction("10.1.0.9", "10.1.0.3", 17, 1, 2), direction("10.1.0.3", "10.1.0.9", 17, 2, 1)
    )
    half_open = tcp_entry(8, state=1)
    copy = copied()
    copy.receive(changes(up(1)), 0)
    copy.receive(stream.BulkEnd(copy.want), 0)
    assert copy.sweeping and not copy.complete
    table = [tcp_entry(1), tcp_entry(2), udp_entry(3), local, half_open]
    doomed = copy.sweep(table)
    assert [command.key for command in doomed] == [
        flow.parse(tcp_entry(2)).key,
        flow.parse(udp_entry(3)).key,
    ]
    assert {command.verb for command in doomed} == {Verb.DELETE}
    copy.swept()
    assert copy.complete and not copy.sweeping


def bulk_ended(copy: Copy) -> None:
    """The bulk is over and swept."""
    copy.receive(stream.BulkEnd(copy.want), 0)
    copy.swept()


def compared(copy: Copy) -> None:
    """The active's table is the same."""
    copy.receive(stream.Digest(copy.mirror.sums.encode()), 0)


def test_a_bulk_that_is_not_complete_in_time_is_asked_for_anew_and_gets_more_time() -> None:
    copy = copied()
    active = stream.State(Role.ACTIVE)
    for late in range(LATE_MAX + 3):
        before, limit_ns = copy.want, BULK_NS << min(late, LATE_MAX)
        copy.receive(changes(up(1)), limit_ns - 1)  # what is told all the time is no end
        copy.retry(limit_ns - 1)
        assert (copy.want, copy.late) == (before, late)
        copy.retry(limit_ns)
        assert (copy.want, copy.late) == (before + 1, late + 1)
        copy.receive(stream.BulkBegin(copy.want), 0)
    late = f"it was not complete in time {LATE_MAX + 3} times in a row"
    said = "bulk", f"receiving everything from fw-a; {late}"
    assert standing(Role.PASSIVE, active, copy, "fw-a", WELL) == said
    bulk_ended(copy)
    copy.retry(BULK_NS << LATE_MAX)
    assert copy.complete and copy.late == 0


def test_a_sweep_takes_as_long_as_it_takes_and_nobody_hurries_who_was_not_asked() -> None:
    copy = copied()
    copy.receive(stream.BulkEnd(copy.want), 0)
    before = copy.want
    copy.retry(BULK_NS)
    assert copy.sweeping and copy.want == before
    silent = copied(bulk=False)  # nobody sends: there is nobody to be asked anew
    before = silent.want
    silent.retry(BULK_NS)
    assert silent.want == before


def test_a_copy_is_called_one_once_it_was_compared_and_not_while_a_table_is_read_anew() -> None:
    copy = copied()
    bulk_ended(copy)
    active, repairs = stream.State(Role.ACTIVE), stream.State(Role.ACTIVE, repairing=True)
    said = "bulk", "everything was received: comparing it with fw-a"
    assert standing(Role.PASSIVE, active, copy, "fw-a", WELL) == said
    copy.receive(stream.Digest(digest.Sums().encode()), 0)
    assert standing(Role.PASSIVE, active, copy, "fw-a", WELL) == ("synced", "")
    said = "bulk", "fw-a has lost events: it compares its whole table"
    assert standing(Role.PASSIVE, repairs, copy, "fw-a", WELL) == said
    own = Troubles("", "", repairing=True)
    assert standing(Role.PASSIVE, active, copy, "fw-a", own) == ("bulk", REPAIRING)


def try_all(copy: Copy, command: Command, answers: dict[Verb, list[int]]) -> list[Verb]:
    """Play the kernel: each verb is refused with its next number, or works when none is left."""
    tried, pending = [], [command]
    while pending:
        command = pending.pop(0)
        tried.append(command.verb)
        assert len(tried) < 20, tried
        codes = answers.get(command.verb, [])
        if codes:
            pending[:0] = copy.refused_by_kernel(command, codes.pop(0), 0)
    return tried


@pytest.mark.parametrize(
    ("answers", "tried"),
    [
        ({Verb.CREATE: [errno.EEXIST]}, [Verb.CREATE, *ANEW]),
        ({Verb.CREATE: [errno.EEXIST, errno.EEXIST]}, [Verb.CREATE, *ANEW, *ANEW]),
        ({Verb.CREATE: [errno.ENOENT]}, [Verb.CREATE, Verb.CREATE_PLAIN]),
        ({Verb.CREATE: [errno.EOPNOTSUPP]}, [Verb.CREATE, Verb.CREATE_PLAIN]),
        (
            {verb: [errno.ENOENT] for verb in (Verb.DELETE, Verb.EVICT)}
            | {Verb.CREATE: [errno.EEXIST]},
            [Verb.CREATE, *ANEW],
        ),
        (
            {Verb.CREATE: [errno.ENOENT], Verb.CREATE_PLAIN: [errno.EEXIST]},
            [Verb.CREATE, Verb.CREATE_PLAIN, Verb.DELETE, Verb.EVICT, Verb.CREATE_PLAIN],
        ),
    ],
)
def test_a_refusal_has_a_second_way(answers: dict[Verb, list[int]], tried: list[Verb]) -> None:
    copy = copied()
    [command] = copy.receive(changes(up(1)), 0)
    assert try_all(copy, command, answers) == tried
    assert not copy.refused


@pytest.mark.parametrize(
    ("answers", "tried"),
    [
        ({Verb.UPDATE: [errno.ENOENT]}, [Verb.UPDATE, Verb.CREATE]),
        (
            {Verb.UPDATE: [errno.ENOENT], Verb.CREATE: [errno.EEXIST]},
            [Verb.UPDATE, Verb.CREATE, *ANEW],
        ),
        ({Verb.UPDATE: [errno.EBUSY]}, [Verb.UPDATE, Verb.UPDATE_BARE]),
        ({Verb.UPDATE: [errno.EPERM]}, [Verb.UPDATE, Verb.DELETE, Verb.CREATE]),
    ],
)
def test_a_refused_update_has_a_second_way(
    answers: dict[Verb, list[int]], tried: list[Verb]
) -> None:
    copy = copied()
    copy.receive(changes(up(1)), 0)
    [command] = copy.receive(changes(up(1)), 0)
    assert try_all(copy, command, answers) == tried
    assert not copy.refused


def test_what_is_translated_otherwise_is_made_anew_and_what_is_not_is_updated() -> None:
    copy = copied()
    copy.receive(changes(up(1)), 0)
    successor = (Op.UPSERT, record(tcp_entry(1, port=9)))
    for wanted in ([Verb.DELETE, Verb.CREATE], [Verb.UPDATE]):
        assert [command.verb for command in copy.receive(changes(successor), 0)] == wanted
    closed = (Op.UPSERT, record(tcp_entry(1, 7, port=9)))
    assert [command.verb for command in copy.receive(changes(closed), 0)] == [Verb.UPDATE]


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ([], [Verb.CREATE]),
        ([up(1)], [Verb.UPDATE]),
        ([(Op.UPSERT, record(tcp_entry(1, port=9)))], [Verb.DELETE, Verb.CREATE]),
    ],
)
def test_the_last_word_on_a_connection_leaves_a_copy_that_ends_by_itself(
    before: list[tuple[Op, bytes]], wanted: list[Verb]
) -> None:
    copy = copied()
    copy.receive(changes(*before), 0)
    commands = copy.receive(changes((Op.LAST, record(tcp_entry(1, 7)))), 0)
    assert [command.verb for command in commands] == wanted
    said = tlv.index(commands[-1].attributes)
    assert int.from_bytes(said[flow.TIMEOUT], "big") == flow.COPY_LAST_S
    assert len(copy.mirror) == 0
    # Refused, it is not missed: nothing is asked for again.
    assert try_all(copy, commands[-1], dict.fromkeys(Verb, [errno.ENOMEM] * 9))
    assert not copy.refused


def test_a_bulk_of_what_is_here_already_makes_nothing_anew() -> None:
    copy = copied()
    everything = changes(*map(up, range(1, 1001)))
    copy.receive(everything, 0)
    copy.start()
    copy.receive(stream.BulkBegin(copy.want), 0)
    assert {command.verb for command in copy.receive(everything, 0)} == {Verb.UPDATE}


@pytest.mark.parametrize(
    "codes", [[errno.EEXIST], [errno.EEXIST, errno.ENOENT], [errno.ENOENT, errno.EEXIST]]
)
@pytest.mark.parametrize("known", [False, True])
def test_a_kernel_that_always_refuses_is_not_asked_for_ever(codes: list[int], known: bool) -> None:
    copy = copied()
    if known:
        copy.receive(changes(up(1)), 0)
    [command] = copy.receive(changes(up(1)), 0)
    try_all(copy, command, dict.fromkeys(Verb, codes * 20))
    assert copy.refused.total() == 1
    assert len(copy.mirror) == 0


def test_a_full_table_is_said_and_tried_again_later() -> None:
    copy = copied()
    [command] = copy.receive(changes(up(1)), 0)
    assert copy.refused_by_kernel(command, errno.ENOMEM, 0) == []
    bulk_ended(copy)
    compared(copy)
    active = stream.State(Role.ACTIVE)
    state, reason = standing(Role.PASSIVE, active, copy, "fw-a", WELL)
    assert state == "synced"
    assert reason == "1 refused: table full (compare nf_conntrack_max of both nodes)"
    before = copy.want
    copy.retry(5_000_000_000)
    assert copy.want == before
    copy.retry(11_000_000_000)
    assert copy.want == before + 1
    copy.receive(stream.BulkBegin(copy.want), 0)
    assert not copy.refused


def test_a_record_that_cannot_be_read_is_counted_and_the_rest_is_applied() -> None:
    copy = copied()
    commands = copy.receive(changes((Op.UPSERT, b"\x04\x00"), up(1)), 0)
    assert [command.verb for command in commands] == [Verb.CREATE]
    assert copy.refused.total() == 1


def test_the_share_compares_what_is_held_with_what_was_told() -> None:
    copy = copied()
    copy.receive(changes(*(up(sport) for sport in range(1, 999))), 0)
    bulk_ended(copy)
    copy.receive(stream.State(Role.ACTIVE, told=1000), 0)
    assert copy.share_permille == 998


@pytest.mark.parametrize(
    ("role", "peer", "troubles", "state", "reason"),
    [
        (Role.PASSIVE, None, Troubles("", "wrong key"), "disconnected", "wrong key"),
        (Role.ACTIVE, None, Troubles("events are off", "x"), "stale", "events are off"),
        (Role.PASSIVE, Role.STARTING, WELL, "stale", "fw-a is starting: nobody sends"),
        (Role.PASSIVE, Role.ACTIVE, WELL, "bulk", "receiving everything from fw-a"),
        (Role.ACTIVE, Role.FAULT, WELL, "stale", "fw-a is fault: it takes nothing"),
        (Role.ACTIVE, Role.PASSIVE, WELL, "bulk", "sending everything to fw-a"),
        (Role.STARTING, Role.ACTIVE, WELL, "stale", "this node is starting"),
    ],
)
def test_the_standing_is_a_word_and_a_reason(
    role: Role, peer: Role | None, troubles: Troubles, state: str, reason: str
) -> None:
    said = None if peer is None else stream.State(peer)
    found = standing(role, said, copied(), "fw-a", troubles)
    assert found == (state, reason)
