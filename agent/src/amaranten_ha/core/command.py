# SPDX-License-Identifier: GPL-3.0-or-later
"""What the passive asks its kernel to do, and the second way where the kernel refuses the first.

`copy` enters with entries and with the commands that were refused; `io.netlink` makes requests of
commands. Nothing in here remembers anything.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from amaranten_ha.core import flow, rewrite

TRIES_MAX = 5


class Verb(Enum):
    """What the kernel is asked to do with one entry."""

    CREATE = "create"
    CREATE_PLAIN = "create without helper and master"
    UPDATE = "update"
    UPDATE_HELPER = "update, if its helper is there"
    UPDATE_BARE = "update without status"
    DELETE = "delete"
    EVICT = "delete whatever holds the translated reply"


class Command(NamedTuple):
    """One request to the kernel; `entry` is None for a deletion by key."""

    verb: Verb
    key: bytes
    entry: flow.Entry | None
    tries: int = 0
    last: bool = False
    """The connection is closed: the entry shall end by itself soon."""

    @property
    def family(self) -> int:
        """The address family of the request."""
        entry = self.entry
        return flow.key_family(self.key) if entry is None else entry.family

    @property
    def attributes(self) -> bytes:
        """The attributes of the request."""
        if self.entry is None:
            return self.key
        return _ATTRIBUTES[self.verb](self.entry, self.last)


_ATTRIBUTES: dict[Verb, Callable[[flow.Entry, bool], bytes]] = {
    Verb.CREATE: lambda entry, last: rewrite.creation(entry, last=last),
    Verb.CREATE_PLAIN: lambda entry, last: rewrite.creation(entry, plain=True, last=last),
    Verb.UPDATE: lambda entry, last: rewrite.update(entry, last=last),
    Verb.UPDATE_HELPER: lambda entry, _last: rewrite.update(entry) + rewrite.helper(entry),
    Verb.UPDATE_BARE: lambda entry, last: rewrite.update(entry, with_status=False, last=last),
    Verb.DELETE: lambda entry, _last: entry.key,
    Verb.EVICT: lambda entry, _last: rewrite.reply_key(entry),
}

_INSTEAD = {
    # What has one of its tuples need not be this connection, and an update would translate nothing.
    (Verb.CREATE, errno.EEXIST): (Verb.DELETE, Verb.EVICT, Verb.CREATE),
    (Verb.CREATE, errno.ENOENT): (Verb.CREATE_PLAIN,),
    (Verb.CREATE, errno.EOPNOTSUPP): (Verb.CREATE_PLAIN,),
    (Verb.CREATE_PLAIN, errno.EEXIST): (Verb.DELETE, Verb.EVICT, Verb.CREATE_PLAIN),
    (Verb.UPDATE_HELPER, errno.ENOENT): (Verb.CREATE,),
    (Verb.UPDATE_HELPER, errno.EOPNOTSUPP): (Verb.UPDATE,),
    (Verb.UPDATE_HELPER, errno.EBUSY): (Verb.UPDATE,),  # another helper, or the status
    (Verb.UPDATE_HELPER, errno.EPERM): (Verb.UPDATE,),
    (Verb.UPDATE, errno.ENOENT): (Verb.CREATE,),
    (Verb.UPDATE, errno.EBUSY): (Verb.UPDATE_BARE,),
    (Verb.UPDATE, errno.EPERM): (Verb.DELETE, Verb.CREATE),  # a fixed timeout
    (Verb.UPDATE_BARE, errno.ENOENT): (Verb.CREATE,),
}
"""A refusal that has a second way."""

_CLASSES = {
    errno.ENOMEM: "table full (compare nf_conntrack_max of both nodes)",
    errno.EOPNOTSUPP: "not supported here (is a module missing?)",
    errno.EEXIST: "another entry is in the way",
}


def second_way(command: Command, code: int) -> list[Command]:
    """Return what to try instead of a creation or an update that was refused; empty: nothing."""
    if command.tries >= TRIES_MAX:
        return []
    again = command._replace(tries=command.tries + 1)
    return [again._replace(verb=each) for each in _INSTEAD.get((command.verb, code), ())]


def complaint(code: int) -> str:
    """Return in words why the kernel refused for good."""
    return _CLASSES.get(code, errno.errorcode.get(code, str(code)))
