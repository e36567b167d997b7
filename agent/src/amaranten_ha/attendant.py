# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves sync's own control socket: how the replica stands in detail, resync, check --deep.

The operator's tool asks; sync enters once a turn. What takes time (a bulk, a comparison entry by
entry) is done by the passive; asked for on the active, it is passed on, and the answer comes back.
One such job at a time, each with a deadline. Heart has a socket of its own and knows nothing of
this one: whatever is asked here delays no role.
"""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranten_ha.core import flow, stream
from amaranten_ha.core.audit import DEADLINE_S, Deep
from amaranten_ha.core.beat import Role
from amaranten_ha.core.copy import Copy
from amaranten_ha.core.standing import SENDERS
from amaranten_ha.io.channel import Channel
from amaranten_ha.io.desk import Client, Desk
from amaranten_ha.walker import Walker

MS_NS = 1_000_000


@dataclass(slots=True)
class _Job:
    """Something that takes time, and who waits for it: a client here, or the peer's by number."""

    wish: stream.Wish
    client: Client | None
    number: int
    since_ns: int
    survey: int = 0
    """Deep: the survey of the own table that must have ended first."""
    passed_on: bool = False


class Attendant:
    """The clients of sync, and the one job that is under way."""

    def __init__(
        self,
        path: Path,
        copy: Copy,
        walker: Walker,
        channel: Channel,
        epoll: select.epoll,
    ) -> None:
        self._copy = copy
        self._walker = walker
        self._channel = channel
        self._epoll = epoll
        self._desk = Desk(path)
        self._epoll.register(self._desk.fileno(), select.EPOLLIN)
        self._clients: list[Client] = []
        self._job: _Job | None = None
        self._numbers = 0

    def turn(
        self,
        now_ns: int,
        ready: Container[int],
        role: Role,
        detail: Callable[[], dict[str, Any]],
    ) -> None:
        """Answer everybody who has asked something, and go on with the job."""
        if self._desk.fileno() in ready and (client := self._desk.accept(len(self._clients))):
            self._clients.append(client)
            self._epoll.register(client.fileno(), select.EPOLLIN)
        for client in self._clients:
            while client.open and (request := client.hear()):
                self._answer(client, request, now_ns, role, detail)
        self._clients = [each for each in self._clients if each.open]
        if self._job is not None:
            self._go_on(self._job, now_ns, role)

    def wanted(self, message: stream.Wanted, now_ns: int) -> None:
        """The operator of the active wants something of this passive node."""
        refused = self._begin(_Job(message.wish, None, message.number, now_ns))
        if refused:
            answer = json.dumps({"ok": False, "reasons": [refused]}).encode()
            self._channel.send(stream.Finding(message.number, answer))

    def found(self, message: stream.Finding) -> None:
        """The passive's answer to what was passed on."""
        job = self._job
        if job is None or not job.passed_on or job.number != message.number:
            return
        try:
            answer = json.loads(message.text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            answer = {"ok": False, "reasons": ["the peer's answer cannot be read"]}
        self._end(job, answer)

    def lose_session(self) -> None:
        """The session with the peer is over: nothing that was begun will end."""
        if self._job is not None and (self._job.passed_on or self._job.wish is stream.Wish.DEEP):
            self._fail(self._job, "the session with the peer was lost meanwhile")

    def _answer(
        self,
        client: Client,
        request: dict[str, Any],
        now_ns: int,
        role: Role,
        detail: Callable[[], dict[str, Any]],
    ) -> None:
        operation = request.get("op")
        if operation == "status":
            client.say({"ok": True, **detail()})
            return
        wish = {"resync": stream.Wish.RESYNC, "deep": stream.Wish.DEEP}.get(str(operation))
        if wish is None:
            refused = f"unknown request {operation!r}"
        elif role is Role.PASSIVE:
            refused = self._begin(_Job(wish, client, 0, now_ns))
        elif role in SENDERS:
            refused = self._pass_on(wish, client, now_ns)
        else:
            refused = f"this node is {role.word}: nothing is replicated"
        if refused:
            client.say({"ok": False, "reasons": [refused]})

    def _pass_on(self, wish: stream.Wish, client: Client, now_ns: int) -> str:
        if self._job is not None:
            return "another resync or check is under way"
        if not self._channel.up:
            return self._channel.reason(now_ns)
        self._numbers += 1
        self._job = _Job(wish, client, self._numbers, now_ns, passed_on=True)
        self._channel.send(stream.Wanted(wish, self._numbers))
        return ""

    def _begin(self, job: _Job) -> str:
        if self._job is not None:
            return "another resync or check is under way"
        if not self._copy.want:
            return "this node has not asked for a copy yet"
        if job.wish is stream.Wish.DEEP:
            if not self._copy.complete:
                return "the bulk is not complete yet"
            job.survey = self._walker.fresh_survey(job.since_ns)
        else:
            self._copy.start()
        self._job = job
        return ""

    def _go_on(self, job: _Job, now_ns: int, role: Role) -> None:
        if now_ns - job.since_ns > DEADLINE_S * 1_000_000_000:
            self._fail(job, f"not done within {DEADLINE_S} s")
        elif job.passed_on:
            if role not in SENDERS:
                self._fail(job, "the role has changed meanwhile")
        elif role is not Role.PASSIVE:
            self._fail(job, "the role has changed meanwhile")
        elif job.wish is stream.Wish.RESYNC:
            if self._copy.complete:
                self._end(job, self._resynced(job, now_ns))
        elif job.survey:
            if self._walker.surveys_ended >= job.survey:
                job.survey = 0
                self._copy.audit.deep = Deep()
                self._channel.send(stream.List((), deep=True))
        elif not self._copy.complete:
            self._fail(job, "a bulk began meanwhile")
        elif self._copy.audit.deep is not None and self._copy.audit.deep.done:
            self._end(job, _compared(self._copy.audit.deep, job, now_ns))

    def _resynced(self, job: _Job, now_ns: int) -> dict[str, Any]:
        copy = self._copy
        return {
            "ok": True,
            "reasons": [],
            "entries": len(copy.mirror),
            "created": copy.created,
            "removed": copy.removed,
            "refused": dict(copy.refused),
            "ms": (now_ns - job.since_ns) // MS_NS,
        }

    def _fail(self, job: _Job, why: str) -> None:
        self._end(job, {"ok": False, "reasons": [why]})

    def _end(self, job: _Job, answer: dict[str, Any]) -> None:
        self._job = self._copy.audit.deep = None
        if job.client is None:
            self._channel.send(stream.Finding(job.number, json.dumps(answer).encode()))
        elif job.client.open:
            job.client.say(answer)


def _compared(deep: Deep, job: _Job, now_ns: int) -> dict[str, Any]:
    return {
        "ok": True,
        "reasons": [],
        "same": not (deep.missing or deep.stale or deep.surplus),
        "entries": deep.compared,
        "missing": deep.missing,
        "stale": deep.stale,
        "surplus": deep.surplus,
        "examples": [{"how": how, "connection": flow.describe(key)} for how, key in deep.found],
        "ms": (now_ns - job.since_ns) // MS_NS,
    }
