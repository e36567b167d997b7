# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths between the nodes that replication may take: which pass, and which is tried next.

`channel` enters. The sync interface comes first; every other interface on which both nodes have own
addresses is a further path, if the rulesets of both let it through. That is found out by a real
connection, made by the side that connects and closed as soon as it stands. No byte of the protocol
is written or read in here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

from amaranten_ha.settings import Settings

MS_NS = 1_000_000
SILENCE_NS = 1_500 * MS_NS
"""A session that is silent for so long is given up."""
ANSWER_NS = 1_000 * MS_NS
"""How long an attempt may take until the peer has answered."""
PROBE_NS = 60_000 * MS_NS
PROBE_BETTER_NS = 5_000 * MS_NS
"""How often a path is tried that is not in use; the other if it is better than the one in use."""
PROBE_AFRESH_NS = 2_000 * MS_NS
"""How often at most changes of the ruleset have them tried."""
PATIENCE_NS = 5_000 * MS_NS
"""How long a peer that refuses on the sync interface is taken for one that is about to listen."""
BUFFER_BYTES = 32 * 1024
"""For each direction; the kernel doubles it. A connection takes 15 to 20 bytes, so a few thousand
are under way at most: a barrier waits until the passive has applied them."""
_IP_FREEBIND = 15


@dataclass(frozen=True, slots=True)
class Path:
    """A pair of own addresses on one network; `first` on the sync interface."""

    link: str
    first: bool
    family: socket.AddressFamily
    own: str
    peer: str


def paths(settings: Settings) -> tuple[Path, ...]:
    """Return the paths between own addresses of one network, those of a sync interface first."""
    found = []
    for interface in sorted(settings.interfaces, key=lambda each: each.role != "sync"):
        for own in interface.own:
            for peer in interface.peer_own:
                if peer.network == own.network and not own.is_link_local:
                    first = interface.role == "sync"
                    family = socket.AF_INET if own.version == 4 else socket.AF_INET6
                    found.append(Path(interface.name, first, family, str(own.ip), str(peer.ip)))
    return tuple(found)


def opened(family: socket.AddressFamily) -> socket.socket:
    """Return a socket that waits for nothing and holds little."""
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        made.setsockopt(socket.SOL_SOCKET, buffer, BUFFER_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_NS // MS_NS)
    # The own address may come after us, or be away for a moment.
    made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def dialled(path: Path, port: int) -> tuple[socket.socket | None, int]:
    """Begin to connect; returns the socket, or None and the error number."""
    made = opened(path.family)
    try:
        made.bind((path.own, 0))
        code = made.connect_ex((path.peer, port))
    except OSError as error:
        code = error.errno or errno.EIO
    if code in (0, errno.EINPROGRESS):
        return made, 0
    made.close()
    return None, code


class Ways:
    """What is known of all paths. Only the side that connects tries them; it tells the other."""

    def __init__(self, settings: Settings) -> None:
        self.all = paths(settings)
        self._port = settings.replication.port
        self._tries = 0
        self._refused_until_ns = 0
        self._found: dict[Path, str] = {}
        """Why a path that was tried does not pass; empty if it does."""
        self._probes: dict[Path, tuple[socket.socket, int]] = {}
        self._due_ns = dict.fromkeys(self.all, 0)
        self._wake_ns = 0
        """Before that nothing is due."""
        self._afresh_ns = 0

    def next(self, now_ns: int) -> Path:
        """Return what to try: the sync interface every other time, of the others the likeliest."""
        first = [path for path in self.all if path.first]
        further = [path for path in self.all if not path.first]
        further.sort(key=lambda path: bool(self._found.get(path, "not tried")))
        turn, odd = divmod(self._tries, 2)
        self._tries += 1
        if first and not (odd and further and now_ns >= self._refused_until_ns):
            return first[turn % len(first)]
        return further[turn % len(further)]

    def begin_anew(self) -> None:
        """A session was lost: the sync interface is tried first."""
        self._tries = self._refused_until_ns = self._wake_ns = 0

    def proved(self, path: Path) -> None:
        """A session stands on this path."""
        self._found[path] = ""

    def failed(self, path: Path, code: int, now_ns: int) -> str:
        """An attempt on this path failed; returns why in words."""
        self._found[path] = _words(code)
        if path.first and code == errno.ECONNREFUSED and not self._refused_until_ns:
            # The way is good, and nobody listens yet: no reason to go elsewhere.
            self._refused_until_ns = now_ns + PATIENCE_NS
        return f"{_words(code)} on {path.link}, from {path.own} to {path.peer}"

    def try_all(self, now_ns: int) -> None:
        """A ruleset was changed: try everything soon."""
        due_ns = max(now_ns, self._afresh_ns)
        self._due_ns = {path: min(due_ns, known_ns) for path, known_ns in self._due_ns.items()}
        self._wake_ns = min(due_ns, self._wake_ns)

    def due(self, now_ns: int) -> bool:
        """Say whether `probe` has something to do; cheap, for it is asked in every turn."""
        return bool(self._probes) or now_ns >= self._wake_ns

    def probe(self, in_use: Path, now_ns: int) -> Path | None:
        """Try what is due while a session stands; returns a path that is better than its own."""
        better = None
        for path, (probe, since_ns) in list(self._probes.items()):
            code = _outcome(probe)
            if code is None and now_ns - since_ns < ANSWER_NS:
                continue
            probe.close()
            del self._probes[path]
            self._found[path] = _words(errno.ETIMEDOUT if code is None else code)
            if code == 0 and path.first and not in_use.first:
                better = path
        for path in self.all:
            if path == in_use or path in self._probes or now_ns < self._due_ns[path]:
                continue
            wait_ns = PROBE_BETTER_NS if path.first and not in_use.first else PROBE_NS
            self._due_ns[path] = now_ns + wait_ns
            self._afresh_ns = now_ns + PROBE_AFRESH_NS
            probe_socket, code = dialled(path, self._port)
            if probe_socket is None:
                self._found[path] = _words(code)
            else:
                self._probes[path] = (probe_socket, now_ns)
        due_ns = [each_ns for path, each_ns in self._due_ns.items() if path != in_use]
        self._wake_ns = min(due_ns, default=now_ns + PROBE_NS)
        return better

    @property
    def links(self) -> dict[str, str]:
        """What is known: logical interface -> why it does not pass; empty if it does."""
        known: dict[str, str] = {}
        for path, why in self._found.items():
            known[path.link] = "" if not why else known.get(path.link, why)
        return known

    def close(self) -> None:
        """End what is under way."""
        for probe, _since_ns in self._probes.values():
            probe.close()
        self._probes.clear()


def described(
    all_paths: tuple[Path, ...], links: dict[str, str], in_use: str
) -> list[dict[str, Any]]:
    """Return for the status: each link, whether it is in use, whether it passes, and why not."""
    return [
        {
            "interface": link,
            "in_use": link == in_use,
            "passes": True if link == in_use else None if link not in links else not links[link],
            "reason": "" if link == in_use else links.get(link, ""),
        }
        for link in dict.fromkeys(path.link for path in all_paths)
    ]


def _outcome(probe: socket.socket) -> int | None:
    """Return 0 once a connection stands, the error number if it failed, None before."""
    code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        return code
    with contextlib.suppress(OSError):
        probe.getpeername()
        return 0
    return None


def _words(code: int) -> str:
    if code == errno.ETIMEDOUT:
        return "no answer"
    return os.strerror(code).lower() if code else ""
