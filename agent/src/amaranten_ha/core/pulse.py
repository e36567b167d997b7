# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is alive: what was heard of the peer on each link, and what its kernel still answers.

Heart enters with heartbeats, with answers to its probes and with the time. Silence has three kinds
that are observed and not inferred (design, section 3): the agent is lost and its kernel has fenced
it; the agent is silent but its kernel still forwards; the machine is lost. Probing begins after
two silent beats and never stops by itself, so a verdict can only grow out of fresh evidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from amaranten_ha.core.beat import Beat, Kind
from amaranten_ha.core.seal import ReplayWindow
from amaranten_ha.core.timing import (
    FENCED_PROBES,
    FENCED_ROUNDS,
    FENCED_ROUNDS_DOUBTED,
    MS_NS,
    PROBES_MIN,
    PROBES_PER_LINK_MIN,
    Timing,
)

RETIRED_MAX = 64
"""Sessions of the peer that are remembered as over: so many restarts within one life of ours."""


class Silence(Enum):
    """What the peer's silence means."""

    UNKNOWN = "never heard"
    HEARD = "alive"
    SILENT = "silent"
    FORWARDING = "silent, but its kernel forwards"
    AGENT = "agent lost"
    MACHINE = "machine lost"
    FAREWELL = "stopped"


class Target(Enum):
    """Which address of the peer a probe asked for."""

    OWN = "own"
    SHARED = "shared"


@dataclass(slots=True)
class LinkPulse:
    """What is known of one link, towards us."""

    number: int
    probes_own: bool
    probes_shared: bool
    usable: bool = False
    heard_ns: int | None = None
    peer_mac: bytes | None = None
    awaited: bool = False
    """The own address was asked for since its last answer: one that comes twice counts once.

    Not how often: the answers of questions that were lost would be waited for, and repeats of the
    next one would count for them.
    """
    unanswered: int = 0
    shared_seen: bool = False
    """A shared address answered here since the last answer for an own address."""


class Pulse:
    """The peer's signs of life on all links."""

    def __init__(self, timing: Timing, links: Iterable[LinkPulse], session: int) -> None:
        self.timing = timing
        self.links = {link.number: link for link in links}
        self._my_session = session
        self._windows: dict[int, ReplayWindow] = {}
        self.session = 0
        """The peer's session, once it has proved that it hears ours."""
        self.sequence = 0
        """The highest sequence number that was heard in the peer's session."""
        self._retired: deque[int] = deque(maxlen=RETIRED_MAX)
        self.candidate = 0
        """Session of beats that have not proved to be fresh: echoed, not believed."""
        self.unfresh_ns: int | None = None
        self.heard_ns: int | None = None
        self.contact_ns = 0
        """Since when it has been heard without a silence of `dead`."""
        self.speaking_ns = 0
        """Since when we have been saying something without a silence of `dead`."""
        self.beat: Beat | None = None
        self._answer_ns: int | None = None
        self.forwarded_ns = 0
        """When the peer's kernel last answered for a shared address."""
        self._fenced_run = self._fenced_rounds = 0
        """How many answers in a row have shown a closed gate, and in how many rounds of probes."""
        self._round_counts = self._round_forwards = False
        self._loses = False
        """An answer that showed a closed gate was contradicted in this silence."""
        self._forwarding = False
        self._farewell = False
        self.echo_sequence = 0
        self.echo_ns: int | None = None

    def refusal(self, link: int, beat: Beat, at_ns: int) -> str:
        """Return why a sealed beat is not believed: its session does not echo ours, or a repeat.

        A session that another has followed is over: its beats echo ours too, so a recording of
        them, or one that was long under way, would make a dead node speak again.
        """
        if beat.session in self._retired:
            return "repeated"
        if self._my_session not in (beat.echo_session, beat.echo_candidate):
            self.candidate = beat.session
            self.unfresh_ns = at_ns
            return "not fresh"
        if beat.session != self.session:
            self._retired.append(self.session)
            self.session = beat.session
            self.sequence = 0
            self._windows = {}
        fresh = self._windows.setdefault(link, ReplayWindow()).accept(beat.sequence)
        return "" if fresh else "repeated"

    def heard(self, link_number: int, beat: Beat, source_mac: bytes, at_ns: int) -> None:
        """Take in a fresh heartbeat that arrived on a link at `at_ns`."""
        link = self.links[link_number]
        link.heard_ns = max(at_ns, link.heard_ns or at_ns)
        link.peer_mac = source_mac
        if self.silent_ns(at_ns) >= self.timing.dead_ms * MS_NS:
            self.contact_ns = at_ns
        self.heard_ns = max(at_ns, self.heard_ns or at_ns)
        if beat.sequence >= self.sequence:
            self.sequence = beat.sequence
            self.beat = beat
            self._farewell = beat.kind is Kind.FAREWELL
        if beat.echo_session == self._my_session and beat.echo_sequence > self.echo_sequence:
            self.echo_sequence = beat.echo_sequence
            self.echo_ns = at_ns
        self._fenced_run = self._fenced_rounds = 0
        self._loses = self._forwarding = False
        for each in self.links.values():
            each.unanswered = 0
            each.awaited = each.shared_seen = False

    def woke(self, own_silence_ns: int, now_ns: int) -> None:
        """Take in how long ago our last heartbeat left: what was not said cannot be echoed."""
        if own_silence_ns >= self.timing.dead_ms * MS_NS:
            self.speaking_ns = now_ns

    def answered(self, link_number: int, target: Target, at_ns: int) -> None:
        """Take in the peer's kernel's answer to a probe.

        On one link answers arrive in the order of the questions, and the shared address is asked
        for first: an own answer without a shared one before it means that the gate is closed. A
        round of questions in which any link shows the shared address tells nothing of the kind: a
        lossy network loses on several links at once, and where that was seen it takes more rounds.

        What was not asked for is a sign of life, too, such as an announcement: who has just got its
        cable back, or had no processor to ask, knows nothing else of a peer that is cut off next.
        """
        link = self.links[link_number]
        if not self.probing(at_ns):
            return
        self._answer_ns = max(at_ns, self._answer_ns or at_ns)
        link.unanswered = 0
        if target is Target.SHARED:
            link.shared_seen = True
            self._loses |= self._fenced_run > 0
            self._forwarding = self._round_forwards = True
            self.forwarded_ns = max(at_ns, self.forwarded_ns)
            self._fenced_run = self._fenced_rounds = 0
            return
        if link.probes_shared and link.awaited:
            link.awaited = False
            if not link.shared_seen:
                self._shows_closed_gate()
        link.shared_seen = False
        if self._fenced():
            self._forwarding = False

    def _shows_closed_gate(self) -> None:
        if self._round_forwards:
            self._loses = True
            return
        self._fenced_run += 1
        self._fenced_rounds += not self._round_counts
        self._round_counts = True

    def probed(self, link_numbers: Iterable[int]) -> None:
        """Note that a round of probes has left on these links."""
        self._round_counts = self._round_forwards = False
        for number in link_numbers:
            link = self.links[number]
            link.awaited = True
            link.unanswered += 1

    def probing(self, now_ns: int) -> bool:
        """Say whether the peer has been silent for long enough to be probed."""
        return self.silent_ns(now_ns) >= self.timing.silent_ms * MS_NS

    def destinations(self, now_ns: int) -> dict[int, bytes | None]:
        """Return by link to which hardware address a heartbeat goes; None is the group.

        Who falls silent on a link may sit behind another cable by now. There its kernel takes no
        frame for the address of the interface that was here, and one for the group tells of it.
        """
        if self.probing(now_ns):
            return dict.fromkeys(self.links)
        since_ns = now_ns - self.timing.dead_ms * MS_NS
        return {
            link.number: link.peer_mac if (link.heard_ns or 0) > since_ns else None
            for link in self.links.values()
        }

    def silent_ns(self, now_ns: int) -> int:
        """How long nothing was heard of the peer on any link; a very long time if never."""
        return now_ns - self.heard_ns if self.heard_ns is not None else 1 << 62

    def missing_since_ns(self, now_ns: int) -> int:
        """Return since when the peer is missing; 0 while it is not, or was never heard.

        A machine that is lost has been missing since its kernel's last answer, not since its agent
        fell silent: the two may have had different causes. What is asked in the same round as the
        last answered question tells nothing either, so it counts from the next round on.
        """
        if self.heard_ns is None or not self.probing(now_ns):
            return 0
        since_ns = self.heard_ns + self.timing.silent_ms * MS_NS
        if self._answer_ns is not None and self._machine_lost(now_ns):
            return max(since_ns, self._answer_ns + self.timing.probe_us * 1000)
        return since_ns

    def silence(self, now_ns: int) -> Silence:
        """Judge the peer's silence; call it after everything that arrived was taken in."""
        if self.heard_ns is None:
            return Silence.UNKNOWN
        if self._farewell:
            return Silence.FAREWELL
        if not self.probing(now_ns):
            return Silence.HEARD
        if self._machine_lost(now_ns):
            return Silence.MACHINE
        if self._fenced():
            return Silence.AGENT
        return Silence.FORWARDING if self._forwarding else Silence.SILENT

    def _fenced(self) -> bool:
        rounds = FENCED_ROUNDS_DOUBTED if self._loses else FENCED_ROUNDS
        return self._fenced_run >= FENCED_PROBES and self._fenced_rounds >= rounds

    def _machine_lost(self, now_ns: int) -> bool:
        timing = self.timing
        if self.silent_ns(now_ns) < timing.dead_ms * MS_NS:
            return False
        quiet_ns = timing.probing_ms * MS_NS
        if self._answer_ns is not None and now_ns - self._answer_ns < quiet_ns:
            return False
        counts = [
            link.unanswered
            for link in self.links.values()
            if link.usable and (link.probes_own or link.probes_shared)
        ]
        return bool(counts) and min(counts) >= PROBES_PER_LINK_MIN and sum(counts) >= PROBES_MIN

    def alive(self, now_ns: int) -> bool:
        """Say whether the peer's agent was heard within `dead` and has not said farewell."""
        return not self._farewell and self.silent_ns(now_ns) < self.timing.dead_ms * MS_NS

    def hears_me(self, now_ns: int) -> bool:
        """Say whether the peer has echoed something new of ours within the one-way time."""
        return self.echo_ns is not None and now_ns - self.echo_ns < self.timing.one_way_ms * MS_NS

    def deaf(self, now_ns: int) -> bool:
        """Say whether we hear a peer that has not heard us although we spoke for the one-way time.

        Counted from the contact: while neither heard the other, nothing could be echoed. Nor could
        it while our heart was stopped; what came meanwhile waited, and is no silence of the peer.
        """
        since_ns = max(self.contact_ns, self.speaking_ns, self.echo_ns or 0)
        return self.alive(now_ns) and now_ns - since_ns >= self.timing.one_way_ms * MS_NS
