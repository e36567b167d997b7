# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of replication over two kernels that are played: they overflow, repeat, lag, refuse.

Both sides are the shipped ones; the test carries messages, cuts the line, and is both kernels. When
it is quiet again the tables are equal, or what is missing is counted with its reason.
"""

from __future__ import annotations

import errno
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from sync_samples import tcp_entry

from amaranten_ha.core import flow, standing, stream
from amaranten_ha.core.beat import Role
from amaranten_ha.core.command import Command, Verb
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.intake import condense
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.scope import Scope
from amaranten_ha.core.source import Source, Survey

MS_NS = 1_000_000
S_NS = 1_000 * MS_NS
QUEUE_MAX = 8


class Kernel:
    """A connection table: it tells what happens, until its queue is full, and takes commands."""

    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}
        self.events: deque[tuple[bool, bytes]] = deque()
        self.overrun = False
        self.capacity = 1 << 20
        self.no_helper = False

    def becomes(self, attributes: bytes) -> None:
        """Traffic changes an entry."""
        self.table[flow.parse(attributes).key] = attributes
        self._tell(False, attributes)

    def ends(self, key: bytes, *, silently: bool = False) -> None:
        """An entry ends."""
        gone = self.table.pop(key, None)
        if gone is not None and not silently:
            self._tell(True, gone)

    def _tell(self, gone: bool, attributes: bytes) -> None:
        if len(self.events) >= QUEUE_MAX:
            self.overrun = True
            return
        self.events.append((gone, attributes))

    def do(self, command: Command) -> int:
        """Do what the agent asks, without an echo; return an error number."""
        verb, key, entry, _tries = command
        if verb in (Verb.DELETE, Verb.EVICT):
            return 0 if self.table.pop(key, None) else errno.ENOENT
        assert entry is not None
        if verb in (Verb.CREATE, Verb.CREATE_PLAIN):
            if key in self.table:
                return errno.EEXIST
            if len(self.table) >= self.capacity:
                return errno.ENOMEM
            if self.no_helper and verb is Verb.CREATE and flow.HELP in entry.fields:
                return errno.EOPNOTSUPP
        elif key not in self.table:
            return errno.ENOENT
        self.table[key] = entry.record
        return 0

    @property
    def states(self) -> dict[bytes, int]:
        return {key: flow.parse(said).state for key, said in self.table.items()}


class Side:
    """One node: its kernel, and what its sync service knows."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.kernel = Kernel()
        self.restart()

    def restart(self) -> None:
        """The service starts anew; its kernel stays as it is."""
        mirror = Mirror(Scope(frozenset()))
        self.source, self.copy = Source(mirror), Copy(mirror)
        self.learned = False

    def hear(self, now_ns: int) -> None:
        """Take in what the kernel has said."""
        events, self.kernel.events = list(self.kernel.events), deque()
        for gone, attributes in condense(events):
            self.source.hear(gone, attributes, now_ns)
        if self.kernel.overrun:
            self.kernel.overrun = False
            self.survey(Survey.RENEWAL, now_ns)

    def survey(self, survey: Survey, now_ns: int, number: int = 0) -> stream.Message | None:
        begun = self.source.begin_survey(survey, number)
        self.source.surveyed(list(self.kernel.table.values()), now_ns)
        for key in self.source.mirror.unseen(10_000):
            self.source.looked_up(key, self.kernel.table.get(key), now_ns)
        self.source.end_survey(now_ns)
        self.learned = True
        return begun

    def apply(self, commands: list[Command], now_ns: int) -> None:
        while commands:
            refused = [(each, code) for each in commands if (code := self.kernel.do(each))]
            commands = [
                instead
                for command, code in refused
                for instead in self.copy.refused_by_kernel(command, code, now_ns)
            ]


class Pair:
    """Two sides and the line between them."""

    def __init__(self) -> None:
        self.active, self.passive = Side(Role.ACTIVE), Side(Role.PASSIVE)
        self.now_ns = S_NS
        self.there: deque[bytes] = deque()
        self.back: deque[bytes] = deque()
        self.held = False
        self.given = 0

    def cut(self) -> None:
        """Everything under way is lost, and both notice."""
        self.there.clear()
        self.back.clear()
        self.given = 0
        self.active.source.stop()
        self.passive.copy.stop()

    def turn(self) -> None:
        """Each side does what `sync` does in one turn; the line carries unless it is held up."""
        self.now_ns += 10 * MS_NS
        active, passive, now_ns = self.active, self.passive, self.now_ns
        for side in (active, passive):
            side.hear(now_ns)
        if not passive.copy.want:
            passive.survey(Survey.RENEWAL, now_ns)
            passive.copy.start()
        passive.copy.retry(now_ns)
        self._back(standing.state(Role.PASSIVE, passive.source, passive.copy, now_ns))
        for reply in passive.copy.replies:
            self._back(reply)
        passive.copy.replies.clear()
        if passive.copy.complete and passive.source.lost:
            self._back(stream.Ask(tuple(passive.source.lost)))
            passive.source.lost.clear()
        if not self.held:
            while self.back:
                self._asked(self.back.popleft())
        urgent = active.source.audit_due(now_ns)
        while (said := active.source.take(now_ns, urgent=urgent)) is not None:
            self._there(said)
        while audit := active.source.audit(now_ns):
            for each in audit:
                self._there(each)
        self._there(stream.State(Role.ACTIVE, told=active.source.told))
        while self.there and not self.held:
            message = stream.decode(self.there.popleft())
            assert message is not None
            passive.apply(passive.copy.receive(message, now_ns), now_ns)
            if passive.copy.sweeping:
                passive.apply(passive.copy.sweep(list(passive.kernel.table.values())), now_ns)
                passive.copy.swept()

    def _there(self, message: stream.Message) -> None:
        self.there.append(stream.encode(message))

    def _back(self, message: stream.Message) -> None:
        self.back.append(stream.encode(message))

    def _asked(self, data: bytes) -> None:
        message, source = stream.decode(data), self.active.source
        if isinstance(message, stream.State):
            source.confirmed(message, self.now_ns)
            if message.want == self.given:
                return
            self.given = message.want
            begun = self.active.survey(Survey.BULK, self.now_ns, message.want)
            if begun is not None:
                self._there(begun)
        elif isinstance(message, stream.List):
            source.asked(message)
        elif isinstance(message, stream.Ask):
            for key in message.keys:
                source.looked_up(key, self.active.kernel.table.get(key), self.now_ns)
            source.mending()

    def quiet(self, seconds: int) -> None:
        """Nothing happens any more, and time passes: surveys and digests do their work."""
        self.held = False
        for _second in range(seconds):
            for _turn in range(4):
                self.turn()
            self.now_ns += S_NS
            for side in (self.active, self.passive):
                side.survey(Survey.RENEWAL, self.now_ns)


def key(sport: int) -> bytes:
    return flow.parse(tcp_entry(sport)).key


script = st.lists(
    st.tuples(
        st.sampled_from(
            ["up", "up", "up", "gone", "flood", "repeat", "turn", "rest", "rest", "hold", "cut"]
            + ["restart active", "restart passive", "passive loses", "passive loses silently"]
            + ["passive is spoilt", "strange entry", "full", "no helper", "ask anew"]
        ),
        st.integers(1, 12),
        st.integers(3, 8),
    ),
    min_size=4,
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(script)
def test_whatever_happens_the_tables_are_equal_when_it_is_quiet(
    steps: list[tuple[str, int, int]],
) -> None:
    pair = Pair()
    for step, sport, state in steps:
        perform(pair, step, sport, state)
    pair.passive.kernel.capacity = 1 << 20
    pair.quiet(35)
    assert pair.passive.kernel.states == pair.active.kernel.states
    audit = pair.passive.copy.audit
    assert (audit.missing, audit.stale, audit.surplus) == (0, 0, 0)
    assert pair.passive.copy.share_permille == 1000
    assert pair.active.source.told == len(pair.active.kernel.table)
    assert pair.active.source.lag_entries == pair.active.source.lag_ms(pair.now_ns) == 0


def perform(pair: Pair, step: str, sport: int, state: int) -> None:
    """One event of a story."""
    active, passive = pair.active.kernel, pair.passive.kernel
    if step == "turn":
        pair.turn()
    elif step == "rest":
        pair.quiet(1)
    elif step == "hold":
        pair.held = not pair.held
    elif step == "cut":
        pair.cut()
    elif step.startswith("restart"):
        (pair.active if step.endswith("active") else pair.passive).restart()
        pair.cut()
    elif step == "ask anew":
        pair.passive.copy.start()
    elif step in ("up", "gone", "flood", "repeat"):
        happens(active, step, sport, state)
    else:
        goes_wrong(passive, step, sport, state)


def happens(active: Kernel, step: str, sport: int, state: int) -> None:
    """Traffic on the active."""
    if step == "up":
        active.becomes(tcp_entry(sport, state))
    elif step == "gone":
        active.ends(key(sport))
    elif step == "flood":
        for more in range(QUEUE_MAX + 4):
            active.becomes(tcp_entry(sport + more, state))
            active.ends(key(sport + more + 1))
    else:
        active.events.extend(list(active.events)[-2:])


def goes_wrong(passive: Kernel, step: str, sport: int, state: int) -> None:
    """What nobody wishes the passive."""
    held = sorted(passive.table)
    victim = held[sport % len(held)] if held else b""
    if step.startswith("passive loses"):
        passive.ends(victim, silently=step.endswith("silently"))
    elif step == "passive is spoilt":
        if victim:
            said = flow.parse(passive.table[victim])
            port = int.from_bytes(said.key[40:42], "big")
            passive.table[victim] = tcp_entry(port, 11 - said.state)
    elif step == "strange entry":
        passive.table[key(500 + sport)] = tcp_entry(500 + sport, state)
    elif step == "full":
        passive.capacity = sport
    else:
        passive.no_helper = True


def test_a_full_table_on_the_passive_is_said_and_heals_when_there_is_room_again() -> None:
    pair = Pair()
    pair.passive.kernel.capacity = 50
    for sport in range(1, 101):
        pair.active.kernel.becomes(tcp_entry(sport))
        pair.turn()
    pair.quiet(5)
    copy = pair.passive.copy
    assert len(pair.passive.kernel.table) == 50
    assert (copy.audit.missing, copy.share_permille) == (50, 500)
    state, reason = standing.standing(
        Role.PASSIVE, stream.State(Role.ACTIVE), copy, "fw-a", standing.Troubles("", "")
    )
    assert state == "synced" and "table full" in reason and "50 missing on the passive" in reason
    pair.passive.kernel.capacity = 1000
    pair.quiet(15)
    assert len(pair.passive.kernel.table) == 100
    assert (copy.audit.missing, copy.share_permille) == (0, 1000)


def test_what_was_told_before_a_bulk_is_not_waited_for_after_it() -> None:
    pair = Pair()
    pair.quiet(1)
    pair.held = True
    pair.active.kernel.becomes(tcp_entry(1))
    pair.turn()
    pair.turn()
    assert pair.active.source.lag_entries == 1
    pair.active.kernel.ends(key(1))
    pair.passive.copy.start()
    pair.quiet(2)
    assert pair.passive.copy.complete and not pair.active.kernel.table
    assert pair.active.source.lag_entries == pair.active.source.lag_ms(pair.now_ns) == 0


def test_after_a_repair_the_tables_are_compared_again_at_once() -> None:
    pair = Pair()
    for sport in range(1, 101):
        pair.active.kernel.becomes(tcp_entry(sport))
        pair.turn()
    pair.quiet(2)
    for sport in range(1, 101):
        pair.passive.kernel.table[key(sport)] = tcp_entry(sport, 7)
    pair.passive.survey(Survey.RENEWAL, pair.now_ns)
    audit, wrong = pair.passive.copy.audit, []
    for _turn in range(160):  # 1.6 s: one digest, and those that follow from it
        pair.turn()
        wrong.append(audit.stale)
    assert max(wrong) > 30 and wrong[-1] == 0
    assert sum(map(bool, wrong)) < 50


def test_a_digest_is_needed_for_what_no_event_told() -> None:
    """The control: without digests and surveys a silent loss stays."""
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1))
    for _turn in range(4):
        pair.turn()
    assert len(pair.passive.kernel.table) == 1
    pair.passive.kernel.ends(key(1), silently=True)
    for _turn in range(20):
        pair.turn()
    assert len(pair.passive.kernel.table) == 0
    pair.quiet(3)
    assert len(pair.passive.kernel.table) == 1


def test_a_spoilt_copy_is_seen_by_a_survey_and_mended_by_a_digest() -> None:
    pair = Pair()
    pair.active.kernel.becomes(tcp_entry(1))
    pair.quiet(1)
    pair.passive.kernel.table[key(1)] = tcp_entry(1, 7)
    pair.quiet(3)
    assert pair.passive.kernel.states == {key(1): 3}
