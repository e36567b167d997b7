# SPDX-License-Identifier: GPL-3.0-or-later
"""After both nodes were active: what began on the loser goes to the winner, before it is swept.

`sync` enters on both sides. The node that yielded ships the connections that began on it while
nobody was told; the winner takes those that it does not know. It never takes an update or a
deletion, and nothing of its own is overwritten: where both know a connection, the winner is right.
"""

from __future__ import annotations

import errno

from amaranten_ha.core import flow, stream
from amaranten_ha.core.command import Command, Verb
from amaranten_ha.core.errors import KernelRefused, PeerError
from amaranten_ha.core.source import Source
from amaranten_ha.io.channel import Channel
from amaranten_ha.io.netlink import Table

S_NS = 1_000_000_000
GIVE_UP_NS = 5 * S_NS
"""A winner that takes nothing for so long gets nothing: the bulk must not wait."""
LOOK_UPS_PER_TURN = 256
_WITHOUT_HELPER = (errno.ENOENT, errno.EOPNOTSUPP)


class Delta:
    """Ships and takes in. `shipped` and `taken` count connections, for the operator."""

    def __init__(self, table: Table, source: Source, channel: Channel) -> None:
        self._table = table
        self._source = source
        self._channel = channel
        self._since_ns: int | None = None
        self.shipped = self.taken = 0

    def ship(self, now_ns: int) -> bool:
        """Send a piece of what began here; False once there is nothing more to send."""
        born = self._source.born
        if not born:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = now_ns
        if not self._channel.room:
            if self._channel.up and now_ns - self._since_ns > GIVE_UP_NS:
                born.clear()
            return True
        keys = [key for key, _count in zip(born, range(LOOK_UPS_PER_TURN), strict=False)]
        records = []
        for key in keys:
            del born[key]
            record = self._record(key)
            if record is not None:
                records.append(record)
        if records:
            self._channel.send(stream.Delta(tuple(records)))
            self.shipped += len(records)
        return True

    def take(self, message: stream.Delta, now_ns: int) -> None:
        """Create what the own kernel does not have."""
        mirror = self._source.mirror
        commands = []
        for record in message.records:
            try:
                entry = flow.parse(record)
                wanted = entry.key not in mirror and mirror.scope.survives(entry)
            except PeerError:
                self._source.malformed += 1
                continue
            if wanted:
                commands.append(Command(Verb.CREATE, entry.key, entry))
        errors = self._table.apply(commands)
        plain = [
            commands[index]._replace(verb=Verb.CREATE_PLAIN)
            for index, code in sorted(errors.items())
            if code in _WITHOUT_HELPER
        ]
        made = [command for index, command in enumerate(commands) if index not in errors]
        failed = self._table.apply(plain)
        made += [command for index, command in enumerate(plain) if index not in failed]
        for command in made:
            if command.entry is not None:
                self._source.adopted(command.entry, now_ns)
        self.taken += len(made)

    def _record(self, key: bytes) -> bytes | None:
        try:
            found = self._table.look_up(flow.key_family(key), key)
            entry = flow.parse(found) if found is not None else None
        except (PeerError, KernelRefused):
            return None
        if entry is None or entry.key != key or entry.state == flow.UNSAID:
            return None
        return entry.record if self._source.mirror.scope.survives(entry) else None
