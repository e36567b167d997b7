# SPDX-License-Identifier: GPL-3.0-or-later
"""The replication channel: one TCP connection between the nodes, sealed, that mends itself.

`sync` enters once a turn and gets the messages that arrived; it hands in messages while there is
room. The primary listens and the backup connects, whatever their roles, so a switch of roles does
not touch the connection. Nothing in here blocks, decides about a role, or believes a byte before
the other side has proved its key. A session that is silent for too long is given up and made anew.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from amaranten_ha.core import greeting, stream
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.squeeze import Squeezer, Unsqueezer
from amaranten_ha.io.paths import ANSWER_NS, SILENCE_NS, Path, Ways, described, dialled, opened
from amaranten_ha.settings import Settings

MS_NS = 1_000_000
RETRY_NS = 200 * MS_NS
RETRY_REFUSED_NS = 2_000 * MS_NS
REFUSAL_SHOWN_NS = 10_000 * MS_NS
READ_BYTES = 16 * 1024
"""A thousand changes or so: who applies more in one turn gives no sign of life for too long."""
CANDIDATES_MAX = 4
ROOM_BYTES = 4 * 1024
UNREACHED = "the peer gets no connection through"
_LISTENER_NUMBER = 1


class Closed(PeerError):
    """The peer ended the connection."""


class _Session:
    """One connection: greetings, then sealed records, each with its number as the nonce."""

    def __init__(
        self, connection: socket.socket, path: Path, own: greeting.Greeting, now_ns: int
    ) -> None:
        self.socket = connection
        self.path = path
        self.own = own
        self.other: greeting.Greeting | None = None
        self.proven = False
        self.watched = select.EPOLLIN | select.EPOLLOUT
        self.since_ns = self.heard_ns = now_ns
        self._frames = greeting.Deframer(greeting.GREETING_BYTES_MAX)
        self._out = bytearray(greeting.framed(own.encode()))
        self._seal: AESGCM | None = None
        self._open: AESGCM | None = None
        self._squeezer: Squeezer | None = None
        self._unsqueezer: Unsqueezer | None = None
        self._sealed = self._opened = 0
        self.sent = self.received = self.saved = self.minor = 0

    @property
    def congested(self) -> bool:
        return len(self._out) > ROOM_BYTES

    @property
    def waiting(self) -> bool:
        return bool(self._out)

    def read(self, ring: KeyRing, first: Callable[[], stream.State], now_ns: int) -> list[bytes]:
        """Return the messages that arrived; raises PeerError or OSError when it is over."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise Closed
        self.heard_ns = now_ns
        self.received += len(data)
        pending = self._frames.feed(data)
        if self.other is None and pending:
            self._greeted(pending.pop(0), ring, first)
            pending += self._frames.feed(b"")
        return [self._unseal(record) for record in pending]

    def send(self, message: bytes) -> None:
        """Seal a message and put it behind what is waiting."""
        if self._seal is None:
            return
        if self._squeezer is not None:
            plain, message = message, self._squeezer.squeeze(message)
            self.saved += len(plain) - len(message)
        sealed = self._seal.encrypt(self._sealed.to_bytes(12, "big"), message, None)
        self._sealed += 1
        self._out += greeting.framed(sealed)

    def flush(self) -> None:
        """Give the kernel what it takes."""
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except BlockingIOError:
                return
            self.sent += sent
            del self._out[:sent]

    def _greeted(self, data: bytes, ring: KeyRing, first: Callable[[], stream.State]) -> None:
        self.other = greeting.read(data)
        refused = greeting.refusal(self.own, self.other)
        if refused:
            raise PeerError(refused)
        seal, unseal = greeting.session_keys(ring, self.own, self.other)
        self._seal, self._open = AESGCM(seal), AESGCM(unseal)
        self._frames.bytes_max = greeting.RECORD_BYTES_MAX
        self.minor = min(self.own.minor, self.other.minor)
        if self.minor >= greeting.COMPRESSING_MINOR:
            self._squeezer = Squeezer()
            self._unsqueezer = Unsqueezer(greeting.RECORD_BYTES_MAX)
        self.send(stream.encode(first()))

    def _unseal(self, record: bytes) -> bytes:
        assert self._open is not None and self.other is not None
        try:
            message = self._open.decrypt(self._opened.to_bytes(12, "big"), record, None)
        except (InvalidTag, ValueError):
            raise PeerError(
                f"wrong key: what the peer seals with key {self.other.send_key} cannot be opened"
                " (both nodes need the same bytes under that id)"
            ) from None
        self._opened += 1
        self.proven = True
        return message if self._unsqueezer is None else self._unsqueezer.unsqueeze(message)


class Channel:
    """The way to the peer. `fileno` is readable when `turn` has something to do."""

    def __init__(
        self, settings: Settings, draw: Callable[[int], bytes], state: Callable[[], stream.State]
    ) -> None:
        self._settings = settings
        self._ways = Ways(settings)
        self._connects = settings.node.number != _LISTENER_NUMBER
        self._links: dict[str, str] = {}
        """What the peer has said of the paths, or was told."""
        self._draw = draw
        self._state = state
        self._epoll = select.epoll()
        self._listeners: dict[socket.socket, Path] = {}
        self._candidates: list[_Session] = []
        self._current: _Session | None = None
        self._next_try_ns = 0
        self.session = self.minor = 0
        """The first grows with every session that was proved; the peer may have forgotten
        everything. The other is what both sides speak in it."""
        self._bytes_sent = self._bytes_received = self._bytes_saved = 0
        self._trouble = "the peer was not reached yet"
        self._refusal = ""
        self._refusal_until_ns = 0

    def fileno(self) -> int:
        return self._epoll.fileno()

    def reason(self, now_ns: int) -> str:
        """Why there is no session; a refusal stays for a while, it says more than a lost line."""
        if self._current is not None:
            return ""
        if not self._ways.all:
            return "no interface has own addresses of one network on both nodes"
        return self._refusal if now_ns < self._refusal_until_ns else self._trouble

    @property
    def up(self) -> bool:
        """A session is proved and was not given up."""
        return self._current is not None

    @property
    def room(self) -> bool:
        """A batch may be handed in: what was handed in before is with the kernel."""
        return self._current is not None and not self._current.congested

    @property
    def bytes_sent(self) -> int:
        """Payload of all proved sessions, greetings and seals included."""
        return self._bytes_sent + (self._current.sent if self._current else 0)

    @property
    def bytes_received(self) -> int:
        """Likewise."""
        return self._bytes_received + (self._current.received if self._current else 0)

    @property
    def bytes_saved(self) -> int:
        """By how much compression has made `bytes_sent` smaller."""
        return self._bytes_saved + (self._current.saved if self._current else 0)

    def send(self, message: stream.Message) -> None:
        """Hand a message in; without a session it is dropped."""
        if self._current is not None:
            self._current.send(stream.encode(message))

    def flush(self, now_ns: int) -> None:
        """Write what waits, as far as the kernel takes it."""
        if self._current is not None:
            self._work(self._current, now_ns, self._current.flush)

    def turn(self, now_ns: int) -> list[stream.Message]:
        """Do what can be done without waiting; return the messages of the proved session."""
        self._open_ways(now_ns)
        ready = dict(self._epoll.poll(0))
        for listener, path in self._listeners.items():
            if listener.fileno() in ready:
                self._accept(listener, path, now_ns)
        for candidate in list(self._candidates):
            messages = self._hear(candidate, now_ns)
            if candidate.proven and candidate in self._candidates:
                self._promote(candidate)
                return messages
        messages = self._hear(self._current, now_ns) if self._current is not None else []
        self._give_up_the_silent(now_ns)
        self._compare_ways(now_ns)
        return messages

    def rules_changed(self, now_ns: int) -> None:
        """A ruleset of this node was changed: other paths may pass now."""
        if self._connects:
            self._ways.try_all(now_ns)
        else:
            self.send(stream.Paths(()))

    @property
    def paths(self) -> list[dict[str, Any]]:
        """Each logical interface that could carry the session, for the status."""
        in_use = self._current.path.link if self._current is not None else ""
        return described(self._ways.all, self._links, in_use)

    def close(self) -> None:
        """Close everything."""
        for session in [*self._candidates, *filter(None, [self._current])]:
            session.socket.close()
        for listener in self._listeners:
            listener.close()
        self._ways.close()
        self._epoll.close()

    # Making connections.

    def _open_ways(self, now_ns: int) -> None:
        if now_ns < self._next_try_ns or not self._ways.all:
            return
        self._next_try_ns = now_ns + RETRY_NS
        if self._connects:
            if self._current is None and not self._candidates:
                self._connect(self._ways.next(now_ns), now_ns)
            return
        for path in self._ways.all:
            if path not in self._listeners.values():
                try:
                    self._listeners[self._listen(path)] = path
                except OSError as error:
                    self._trouble = f"cannot listen on {path.own}: {error.strerror}"

    def _listen(self, path: Path) -> socket.socket:
        listener = opened(path.family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((path.own, self._settings.replication.port))
            listener.listen(CANDIDATES_MAX)
        except OSError:
            listener.close()
            raise
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        return listener

    def _accept(self, listener: socket.socket, path: Path, now_ns: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, address = listener.accept()
            if address[0] != path.peer or len(self._candidates) >= CANDIDATES_MAX:
                connection.close()
                return
            connection.setblocking(False)
            self._begin(connection, path, now_ns)

    def _connect(self, path: Path, now_ns: int) -> None:
        connection, code = dialled(path, self._settings.replication.port)
        if connection is None:
            self._trouble = self._ways.failed(path, code, now_ns)
        else:
            self._begin(connection, path, now_ns)

    def _compare_ways(self, now_ns: int) -> None:
        """While a session stands: know what else would pass, and go back to the sync interface."""
        if self._current is None or not self._connects:
            return
        if self._links and not self._ways.due(now_ns):
            return
        better = self._ways.probe(self._current.path, now_ns)
        if better is not None and not self._candidates:
            self._connect(better, now_ns)
        if self._ways.links != self._links:
            self._links = self._ways.links
            self.send(stream.Paths(tuple((link, not why) for link, why in self._links.items())))

    def _told_of_ways(self, said: stream.Paths, now_ns: int) -> None:
        if self._connects:
            self._ways.try_all(now_ns)
        else:
            self._links = {link: "" if passes else UNREACHED for link, passes in said.passes}

    def _begin(self, connection: socket.socket, path: Path, now_ns: int) -> None:
        own = greeting.Greeting(
            cluster=self._settings.cluster.id,
            node=self._settings.node.number,
            nonce=self._draw(greeting.NONCE_BYTES),
            send_key=self._settings.keys.send_id,
            accepted_keys=tuple(sorted(self._settings.keys.keys)),
        )
        self._candidates.append(_Session(connection, path, own, now_ns))
        self._epoll.register(connection.fileno(), self._candidates[-1].watched)

    # Sessions.

    def _hear(self, session: _Session, now_ns: int) -> list[stream.Message]:
        found: list[stream.Message] = []

        def work() -> None:
            session.flush()
            for data in session.read(self._settings.keys, self._state, now_ns):
                message = stream.decode(data)
                if isinstance(message, stream.Paths):
                    self._told_of_ways(message, now_ns)
                elif message is not None:
                    found.append(message)
            session.flush()

        self._work(session, now_ns, work)
        return found

    def _work(self, session: _Session, now_ns: int, work: Callable[[], None]) -> None:
        try:
            work()
        except Closed:
            self._drop(session, "the peer closed the connection", now_ns + RETRY_NS)
        except PeerError as error:
            self._refusal, self._refusal_until_ns = str(error), now_ns + REFUSAL_SHOWN_NS
            self._drop(session, self._refusal, now_ns + RETRY_REFUSED_NS)
        except OSError as error:
            trouble = f"the connection failed: {error.strerror}"
            if session.other is None and self._connects:
                trouble = self._ways.failed(session.path, error.errno or errno.EIO, now_ns)
            self._drop(session, trouble, now_ns + RETRY_NS)
        else:
            wanted = select.EPOLLIN | (select.EPOLLOUT if session.waiting else 0)
            if wanted != session.watched:
                session.watched = wanted
                self._epoll.modify(session.socket.fileno(), wanted)

    def _promote(self, session: _Session) -> None:
        self._candidates.remove(session)
        if self._current is not None:
            self._drop(self._current, "a newer session took its place", 0)
        self._current = session
        if self._connects:
            self._links = {}
        self._ways.proved(session.path)
        self.session, self.minor = self.session + 1, session.minor
        self._refusal_until_ns = 0

    def _drop(self, session: _Session, trouble: str, retry_ns: int) -> None:
        with contextlib.suppress(OSError):
            # The peer shall see why by itself: its greeting is answered before the line is cut.
            session.flush()
        self._epoll.unregister(session.socket.fileno())
        session.socket.close()
        if session is self._current:
            self._current = None
            self._ways.begin_anew()
            self._bytes_sent += session.sent
            self._bytes_received += session.received
            self._bytes_saved += session.saved
        else:
            self._candidates.remove(session)
        self._trouble = trouble
        self._next_try_ns = retry_ns

    def _give_up_the_silent(self, now_ns: int) -> None:
        current = self._current
        if current is not None and now_ns - current.heard_ns > SILENCE_NS:
            self._drop(current, f"nothing heard for {SILENCE_NS // MS_NS} ms", now_ns)
        for candidate in list(self._candidates):
            if now_ns - candidate.since_ns > ANSWER_NS:
                trouble = "the peer does not answer"
                if self._connects:
                    trouble = self._ways.failed(candidate.path, errno.ETIMEDOUT, now_ns)
                self._drop(candidate, trouble, now_ns)
