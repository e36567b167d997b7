# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages cross the wire: as their real bytes, or as the value that they stand for.

Sealing and parsing are half of a run's time, and say nothing new ten thousand times. So most runs
hand the frozen `Beat` across; every plan with `wire_bytes` or another version on one node goes
through the shipped encoder, seal and decoder. A run enters with each new engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amaranten_ha.core import node as engine
from amaranten_ha.core.beat import MAGIC, Beat
from amaranten_ha.core.node import Node
from amaranten_ha.core.seal import Sealer
from simulator.plan import CLUSTER

UNKNOWN_FIELDS = b"\xf0\x00\xf1\x05later\xf2\x01\x2a"
"""Three fields of a type that no version has, one of them empty."""
MAJOR_AT = 4


_HEAD = (MAGIC + bytes(2) + CLUSTER.to_bytes(2)).ljust(256, b"\0")


class Said(bytes):
    """A message that is a value, in the coat of a usual one."""

    beat: Beat


class ValueSealer:
    """Takes the place of the seal where a message is a value: what is not `Said` was forged."""

    accepted = (1,)

    def seal(self, body: Beat) -> Said:
        """Return the message."""
        said = Said(_HEAD)
        said.beat = body
        return said

    def open(self, message: Any) -> Any:
        """Return the body, or None for what our peer has not made."""
        return message.beat if isinstance(message, Said) else None


class SkewedSealer(Sealer):
    """The seal of a node of another version: it says more, or another major number."""

    skew = ""

    def seal(self, body: bytes) -> bytes:
        """Say it as that version would."""
        if self.skew == "major":
            body = body[:MAJOR_AT] + bytes((body[MAJOR_AT] + 1,)) + body[MAJOR_AT + 1 :]
        return super().seal(body + UNKNOWN_FIELDS)


class Codec:
    """What a new engine is dressed with."""

    def __init__(self, wire_bytes: bool, skew: str) -> None:
        self.wire_bytes = wire_bytes or bool(skew)
        self._skew = skew

    def dress(self, node: Node, number: int) -> None:
        """Give a new engine the seal that this run is about."""
        if not self.wire_bytes:
            node._sealer = ValueSealer()  # type: ignore[assignment]
        elif self._skew and number == 2:
            node._sealer = SkewedSealer(node.plan.keys)
            node._sealer.skew = self._skew

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around every stretch of a run."""
        if self.wire_bytes:
            yield
            return
        encode, decode = engine.encode, engine.decode
        engine.encode = engine.decode = lambda value: value  # type: ignore[assignment]
        try:
            yield
        finally:
            engine.encode, engine.decode = encode, decode
