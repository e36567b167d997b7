# SPDX-License-Identifier: GPL-3.0-or-later
"""Sync's other vital state: one subject for each kind, and their way to the peer and back.

`sync` enters once a turn: with the descriptors that have something to say, with messages of the
peer, and for messages to it. A subject reads its kernel and makes what the peer had. What is told,
remembered and tried again is the business of `core.vital`. Nothing here holds up connections.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator
from typing import Protocol

from amaranten_ha.core import neighbour
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.mirror import Mirror
from amaranten_ha.core.stream import Vital as Message
from amaranten_ha.core.third_parties import NEIGHBOURS_PER_LINK_MAX
from amaranten_ha.core.vital import Holder, Teller, Topic
from amaranten_ha.expectations import Expectations
from amaranten_ha.io.netlink import Table
from amaranten_ha.locality import Locality
from amaranten_ha.named_sets import NamedSets
from amaranten_ha.neighbours import Neighbours
from amaranten_ha.settings import Settings


class Subject(Protocol):
    """One kind of other vital state."""

    teller: Teller
    holder: Holder
    troubles: dict[str, str]
    """What is wrong with a part of it, and why."""

    @property
    def topic(self) -> int:
        """Its number on the wire."""

    @property
    def what(self) -> str:
        """Its name in the plural, for the operator."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `hear` has something to do."""

    def hear(self, now_ns: int) -> None:
        """Take in what the own kernel says."""

    def look(self, now_ns: int) -> None:
        """Take in everything that there is, a piece a turn, as often as it needs to be."""

    def refresh(self, now_ns: int) -> None:
        """Look once more at once: everything is to be told."""

    def make(self, now_ns: int, *, again: bool) -> None:
        """Bring the own kernel nearer to what is wanted."""


def subjects(
    settings: Settings,
    table: Table,
    locality: Locality,
    mirror: Mirror,
    look_up: Callable[[bytes, int], None],
) -> list[Subject]:
    """Return what is told beside the connections."""
    return [
        Expectations(table, mirror, look_up),
        Neighbours(settings.interfaces, lambda: locality.ours),
        NamedSets(settings.replication.sets),
    ]


class Vital:
    """All subjects together."""

    def __init__(self, subjects: list[Subject]) -> None:
        self._subjects = {subject.topic: subject for subject in subjects}

    def descriptors(self) -> Iterator[int]:
        """What has to wake the service."""
        return (subject.fileno() for subject in self._subjects.values())

    def turn(self, now_ns: int, ready: Container[int], *, tick: bool, urgent: bool) -> None:
        """Hear the kernel; at a tick look at everything and try again, where that is due."""
        for subject in self._subjects.values():
            if tick or urgent or subject.fileno() in ready:
                subject.hear(now_ns)
            if tick:
                subject.look(now_ns)
                if subject.holder.waiting:
                    subject.make(now_ns, again=False)

    def begin(self, bulk: int, now_ns: int) -> None:
        """Tell everything, from the beginning of this bulk on."""
        for subject in self._subjects.values():
            subject.refresh(now_ns)
            subject.teller.begin(bulk)

    def stop(self) -> None:
        """The session is over."""
        self.stop_telling()
        self.stop_holding()

    def stop_telling(self) -> None:
        """Tell nothing more."""
        for subject in self._subjects.values():
            subject.teller.stop()

    def stop_holding(self) -> None:
        """Believe nothing more; what was made is what there is, until the next look."""
        for subject in self._subjects.values():
            if subject.holder.believes:
                subject.teller.present(subject.holder.wanted)
            subject.holder.stop()

    def take(self) -> Message | None:
        """Return the next message to the peer."""
        for topic, subject in self._subjects.items():
            changes = subject.teller.take()
            if changes:
                return Message(topic, changes)
        return None

    def receive(self, message: Message, bulk: int, now_ns: int) -> None:
        """Take a message of the peer in; a topic of a later version is skipped."""
        subject = self._subjects.get(message.topic)
        if subject is not None:
            # A part that cannot be read ends the message, not the session: the next bulk says all.
            with contextlib.suppress(PeerError):
                subject.holder.receive(message.changes, bulk)
            subject.make(now_ns, again=False)

    def connections_changed(self, now_ns: int) -> None:
        """What was missing may have come with the connections that were just made."""
        for subject in self._subjects.values():
            if subject.holder.waiting:
                subject.make(now_ns, again=True)

    def neighbours(self) -> dict[str, list[str]]:
        """Return some that this kernel knows, what the peer told included, by logical interface."""
        known = self._subjects[Topic.NEIGHBOURS].teller.known
        return neighbour.by_link(known, NEIGHBOURS_PER_LINK_MAX)

    def complaints(self) -> list[str]:
        """Return what could not be made here or does not fit, in words."""
        found = []
        for subject in self._subjects.values():
            reasons = list(subject.holder.refused.values())
            for why in sorted(set(reasons)):
                found.append(f"{reasons.count(why)} {subject.what}: {why}")
            found += [f"{what}: {why}" for what, why in sorted(subject.troubles.items())]
            if subject.teller.left_out:
                found.append(f"{subject.teller.left_out} {subject.what} more than are replicated")
        return found
