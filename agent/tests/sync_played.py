# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes whose kernels are played: the shipped sides of replication, and the line between them.

Stories of replication enter. Time and the line are the test's: it carries messages, cuts the line,
changes the roles, and is both kernels. Nothing in here asserts anything of the copy.
"""

from __future__ import annotations

import errno
from collections import deque

from amaranten_ha.core import flow, rewrite, standing, stream
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
SCOPE = Scope(frozenset())


class Kernel:
    """A connection table: it tells what happens, until its queue is full, and takes commands.

    As in the real one no two entries share a tuple of either direction, an entry is found by each
    of its two, and an update leaves the tuples, and so the translation, as they are.
    """

    def __init__(self) -> None:
        self.table: dict[bytes, bytes] = {}
        self.events: deque[tuple[bool, bytes]] = deque()
        self.overrun = False
        self.capacity = 1 << 20
        self.no_helper = False

    def becomes(self, attributes: bytes) -> None:
        """Traffic changes an entry; whatever else had one of its tuples has ended before."""
        entry = flow.parse(attributes)
        held = self.table.get(entry.key)
        if held is not None and rewrite.reply_key(flow.parse(held)) != rewrite.reply_key(entry):
            self.ends(entry.key)
        for sought in (entry.key, rewrite.reply_key(entry)):
            other = self._found(sought)
            if other not in (b"", entry.key):
                self.ends(other)
        self.table[entry.key] = attributes
        self._tell(False, attributes)

    def ends(self, key: bytes, *, silently: bool = False) -> None:
        """An entry ends."""
        gone = self.table.pop(key, None)
        if gone is not None and not silently:
            self._tell(True, gone)

    def _tell(self, gone: bool, attributes: bytes) -> None:
        # The filter of the event socket.
        entry = flow.parse(attributes)
        closed = entry.over and gone and entry.status & flow.SEEN_REPLY
        if entry.state < flow.TcpState.ESTABLISHED or closed:
            return
        if len(self.events) >= QUEUE_MAX:
            self.overrun = True
            return
        self.events.append((gone, attributes))

    def do(self, command: Command) -> int:
        """Do what the agent asks, without an echo; return an error number."""
        verb, key, entry, _tries, _last = command
        found = self._found(command.attributes if verb is Verb.EVICT else key)
        if verb in (Verb.DELETE, Verb.EVICT):
            return 0 if self.table.pop(found, None) else errno.ENOENT
        assert entry is not None
        if (
            verb is Verb.UPDATE_HELPER
            and found
            and not rewrite.helper(flow.parse(self.table[found]))
        ):
            return errno.EOPNOTSUPP if self.no_helper else errno.EBUSY
        if verb not in (Verb.CREATE, Verb.CREATE_PLAIN):
            return self._update(found, entry, bare=verb is Verb.UPDATE_BARE)
        if found or self._found(rewrite.reply_key(entry)):
            return errno.EEXIST
        if len(self.table) >= self.capacity:
            return errno.ENOMEM
        if self.no_helper and verb is Verb.CREATE and flow.HELP in entry.fields:
            return errno.EOPNOTSUPP
        left_out = rewrite.helper(entry) if verb is Verb.CREATE_PLAIN else b""
        self.table[key] = entry.record.replace(left_out, b"") if left_out else entry.record
        return 0

    def _update(self, key: bytes, entry: flow.Entry, *, bare: bool) -> int:
        """Bring an entry up to date, except its tuples; no status bit is ever taken away."""
        if not key:
            return errno.ENOENT
        held = flow.parse(self.table[key])
        status = held.status
        if not bare:
            if status & ~entry.status & flow.STATUS_CARRIED:
                return errno.EBUSY
            status |= entry.status & flow.STATUS_CARRIED
        stays = held.record[: held.tuples + 4] + status.to_bytes(4, "big")
        self.table[key] = stays + entry.record[entry.tuples + 8 :]
        return 0

    def _found(self, sought: bytes) -> bytes:
        """Return the key of the entry that has this tuple in either direction, empty if none."""
        if sought in self.table:
            return sought
        replies = {rewrite.reply_key(flow.parse(said)): key for key, said in self.table.items()}
        return replies.get(sought, b"")

    @property
    def survivable(self) -> dict[bytes, tuple[bytes, int, int]]:
        """What can go on elsewhere: its reply (and so its translation), its status and state."""
        entries = [each for each in map(flow.parse, self.table.values()) if SCOPE.survives(each)]
        return {
            each.key: (rewrite.reply_key(each), each.status & flow.STATUS_CARRIED, each.state)
            for each in entries
        }


class Side:
    """One node: its kernel, and what its sync service knows."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.kernel = Kernel()
        self.restart()

    def restart(self) -> None:
        """The service starts anew; its kernel stays as it is."""
        mirror = Mirror(SCOPE)
        self.source, self.copy = Source(mirror), Copy(mirror)
        self.source.alone = self.role is Role.ACTIVE
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

    def swap(self) -> None:
        """The roles are the other way round; either kernel stays as it is."""
        self.active, self.passive = self.passive, self.active
        self.cut()
        for side, role in ((self.active, Role.ACTIVE), (self.passive, Role.PASSIVE)):
            side.role = role
            side.source.stop()
            side.copy.stop()
            side.source.alone = role is Role.ACTIVE
            side.source.lost.clear()

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
        self._back(
            standing.state(Role.PASSIVE, passive.source, passive.copy, now_ns, repairing=False)
        )
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
        """Nothing happens any more, and time passes: surveys and digests do their work.

        As in life several digests come between two surveys.
        """
        self.held = False
        for second in range(seconds):
            for _turn in range(4):
                self.turn()
            self.now_ns += S_NS
            for side in (self.active, self.passive) if second % 3 == 0 else ():
                side.survey(Survey.RENEWAL, self.now_ns)
