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
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from amaranten_ha.core import greeting, stream
from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.seal import KeyRing
from amaranten_ha.core.squeeze import Squeezer, Unsqueezer
from amaranten_ha.settings import Settings

MS_NS = 1_000_000
RETRY_NS = 200 * MS_NS
RETRY_REFUSED_NS = 2_000 * MS_NS
HANDSHAKE_NS = 1_000 * MS_NS
SILENCE_NS = 1_500 * MS_NS
REFUSAL_SHOWN_NS = 10_000 * MS_NS
SEND_BUFFER_BYTES = 128 * 1024
READ_BYTES = 256 * 1024
CANDIDATES_MAX = 4
ROOM_BYTES = 4 * 1024
TAG_BYTES = 16
_IP_FREEBIND = 15
_LISTENER_NUMBER = 1


@dataclass(frozen=True, slots=True)
class Path:
    """A pair of own addresses on one sync network."""

    family: socket.AddressFamily
    own: str
    peer: str


def paths(settings: Settings) -> tuple[Path, ...]:
    """Return the ways between the nodes: own addresses of one family on a sync interface."""
    found = []
    for interface in settings.interfaces:
        for own in interface.own if interface.role == "sync" else ():
            for peer in interface.peer_own:
                if peer.network == own.network and not own.is_link_local:
                    family = socket.AF_INET if own.version == 4 else socket.AF_INET6
                    found.append(Path(family, str(own.ip), str(peer.ip)))
    return tuple(found)


class Closed(PeerError):
    """The peer ended the connection."""


class _Session:
    """One connection: greetings, then sealed records, each with its number as the nonce."""

    def __init__(self, connection: socket.socket, own: greeting.Greeting, now_ns: int) -> None:
        self.socket = connection
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
        self.sent = self.received = 0

    @property
    def congested(self) -> bool:
        return len(self._out) > ROOM_BYTES

    @property
    def waiting(self) -> bool:
        return bool(self._out)

    def read(self, ring: KeyRing, first: stream.Message, now_ns: int) -> list[bytes]:
        """Return the messages that arrived; raises PeerError or OSError when it is over."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise Closed
        self.heard_ns = now_ns
        self.received += len(data)
        messages = []
        pending = self._frames.feed(data)
        if self.other is None and pending:
            self._greeted(pending.pop(0), ring, first)
            pending += self._frames.feed(b"")
        for record in pending:
            messages.append(self._unseal(record))
        return messages

    def send(self, message: bytes) -> None:
        """Seal a message and put it behind what is waiting."""
        if self._seal is None:
            return
        if self._squeezer is not None:
            message = self._squeezer.squeeze(message)
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

    def _greeted(self, data: bytes, ring: KeyRing, first: stream.Message) -> None:
        self.other = greeting.read(data)
        refused = greeting.refusal(self.own, self.other)
        if refused:
            raise PeerError(refused)
        seal, unseal = greeting.session_keys(ring, self.own, self.other)
        self._seal, self._open = AESGCM(seal), AESGCM(unseal)
        self._frames.bytes_max = greeting.RECORD_BYTES_MAX
        if min(self.own.minor, self.other.minor) >= greeting.COMPRESSING_MINOR:
            self._squeezer = Squeezer()
            self._unsqueezer = Unsqueezer(greeting.RECORD_BYTES_MAX)
        self.send(stream.encode(first))

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
        self._paths = paths(settings)
        self._draw = draw
        self._state = state
        self._epoll = select.epoll()
        self._listeners: list[socket.socket] = []
        self._candidates: list[_Session] = []
        self._current: _Session | None = None
        self._next_try_ns = 0
        self._tries = 0
        self.session = 0
        """Grows with every session that was proved; the peer may have forgotten everything."""
        self._bytes_sent = self._bytes_received = 0
        self._trouble = "the peer was not reached yet"
        self._refusal = ""
        self._refusal_until_ns = 0

    def fileno(self) -> int:
        return self._epoll.fileno()

    def reason(self, now_ns: int) -> str:
        """Why there is no session; a refusal stays for a while, it says more than a lost line."""
        if self._current is not None:
            return ""
        if not self._paths:
            return "no interface of role sync has own addresses of one network on both nodes"
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
        for listener in self._listeners:
            self._accept(listener, now_ns)
        for candidate in list(self._candidates):
            messages = self._hear(candidate, now_ns)
            if candidate.proven and candidate in self._candidates:
                self._promote(candidate)
                return messages
        messages = self._hear(self._current, now_ns) if self._current is not None else []
        self._give_up_the_silent(now_ns)
        return messages

    def close(self) -> None:
        """Close everything."""
        for session in [*self._candidates, *filter(None, [self._current])]:
            session.socket.close()
        for listener in self._listeners:
            listener.close()
        self._epoll.close()

    # Making connections.

    def _open_ways(self, now_ns: int) -> None:
        if now_ns < self._next_try_ns or not self._paths:
            return
        self._next_try_ns = now_ns + RETRY_NS
        if self._settings.node.number != _LISTENER_NUMBER:
            if self._current is None and not self._candidates:
                self._connect(self._paths[self._tries % len(self._paths)], now_ns)
                self._tries += 1
        elif not self._listeners:
            try:
                self._listeners = [self._listen(path) for path in self._paths]
            except OSError as error:
                self._trouble = f"cannot listen for the peer: {error.strerror}"

    def _listen(self, path: Path) -> socket.socket:
        listener = _socket(path.family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((path.own, self._settings.replication.port))
            listener.listen(CANDIDATES_MAX)
        except OSError:
            listener.close()
            raise
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        return listener

    def _accept(self, listener: socket.socket, now_ns: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, address = listener.accept()
            known = any(address[0] == path.peer for path in self._paths)
            if not known or len(self._candidates) >= CANDIDATES_MAX:
                connection.close()
                return
            connection.setblocking(False)
            self._begin(connection, now_ns)

    def _connect(self, path: Path, now_ns: int) -> None:
        connection = _socket(path.family)
        try:
            connection.bind((path.own, 0))
            code = connection.connect_ex((path.peer, self._settings.replication.port))
        except OSError as error:
            code = error.errno or errno.EIO
        if code in (0, errno.EINPROGRESS):
            self._begin(connection, now_ns)
            return
        connection.close()
        self._trouble = f"no way from {path.own} to {path.peer}: {errno.errorcode.get(code, code)}"

    def _begin(self, connection: socket.socket, now_ns: int) -> None:
        own = greeting.Greeting(
            cluster=self._settings.cluster.id,
            node=self._settings.node.number,
            nonce=self._draw(greeting.NONCE_BYTES),
            send_key=self._settings.keys.send_id,
            accepted_keys=tuple(sorted(self._settings.keys.keys)),
        )
        self._candidates.append(_Session(connection, own, now_ns))
        self._epoll.register(connection.fileno(), self._candidates[-1].watched)

    # Sessions.

    def _hear(self, session: _Session, now_ns: int) -> list[stream.Message]:
        found: list[stream.Message] = []

        def work() -> None:
            session.flush()
            for data in session.read(self._settings.keys, self._state(), now_ns):
                message = stream.decode(data)
                if message is not None:
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
            self._drop(session, f"the connection failed: {error.strerror}", now_ns + RETRY_NS)
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
        self.session += 1
        self._refusal_until_ns = 0

    def _drop(self, session: _Session, trouble: str, retry_ns: int) -> None:
        with contextlib.suppress(OSError):
            # The peer shall see why by itself: its greeting is answered before the line is cut.
            session.flush()
        self._epoll.unregister(session.socket.fileno())
        session.socket.close()
        if session is self._current:
            self._current = None
            self._bytes_sent += session.sent
            self._bytes_received += session.received
        else:
            self._candidates.remove(session)
        self._trouble = trouble
        self._next_try_ns = retry_ns

    def _give_up_the_silent(self, now_ns: int) -> None:
        current = self._current
        if current is not None and now_ns - current.heard_ns > SILENCE_NS:
            self._drop(current, f"nothing heard for {SILENCE_NS // MS_NS} ms", now_ns)
        for candidate in list(self._candidates):
            if now_ns - candidate.since_ns > HANDSHAKE_NS:
                self._drop(candidate, "the peer does not answer on the sync interface", now_ns)


def _socket(family: socket.AddressFamily) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_NS // MS_NS)
    # The own address may come after us, or be away for a moment.
    made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
