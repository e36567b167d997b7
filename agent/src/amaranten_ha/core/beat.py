# SPDX-License-Identifier: GPL-3.0-or-later
"""The heartbeat: 32 bytes that never change, then type-length-value fields, some for later.

Heart enters with what it wants to say (`encode`) and with what it heard (`decode`). The kernel's
gate reads the same 32 bytes, so their places are frozen for ever; a decoder skips the types that
it does not know, and raises PeerError for everything that is not a heartbeat. Another major
version is still a sign of life: it stops replication and hand-overs, never heartbeats.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from amaranten_ha.core.errors import PeerError
from amaranten_ha.core.health import Health, unpack

ETHERTYPE = 0x88B5
"""Local experimental EtherType 1 (IEEE 802)."""
GROUP_MAC = bytes.fromhex("03416d484101")
MAGIC = b"AmHA"
MAJOR = 1
MARK = int.from_bytes(MAGIC)
"""The socket mark that only heart sets; the gate renews the lease for nothing else."""
MESSAGE_BYTES_MAX = 512
EPOCH_MAX = (1 << 63) - 1
UINT32_MAX = (1 << 32) - 1

_HEADER = struct.Struct(">4sBBHBBHIQQ")
_SEQUENCE = struct.Struct(">QQ")
_ECHO = struct.Struct(">QQ")
_OFFER = struct.Struct(">QQ")
_REPLICA = struct.Struct(">BQIIH")
_MARGIN = struct.Struct(">6I")
_FLOORS = struct.Struct(">4I")
_CHANGE = struct.Struct(">QI")


class Kind(IntEnum):
    """What a frame is for; the gate's rules match this byte."""

    BEAT = 1
    LINGER = 2
    RESTARTING = 3
    UNSURE = 4
    CLOSE = 5
    FAREWELL = 6


class Role(IntEnum):
    """What a node is at this moment; the gate's rules match this byte."""

    STARTING = 1
    PASSIVE = 2
    ACTIVE = 3
    HANDING_OVER = 4
    FAULT = 5

    @property
    def word(self) -> str:
        """The product's word for the role."""
        return self.name.lower().replace("_", " ")


class Flag(IntFlag):
    """Facts of one bit each, in the header's flags."""

    HELD = 1
    ELIGIBLE = 2
    STANDING = 4
    DAMPED = 8
    """The durations are the long ones; the gate renews the lease for as long."""
    NAT4 = 16
    NAT6 = 32
    """This node's kernel has a chain of type nat for IPv4, for IPv6."""


ACTIVE_ROLES = (Role.ACTIVE, Role.HANDING_OVER)
_FLAGS = sum(Flag)


class ReplicaState(IntEnum):
    """How the copy of the connection table stands."""

    DISCONNECTED = 0
    BULK = 1
    SYNCED = 2
    STALE = 3


class _Type(IntEnum):
    SEQUENCE = 1
    ECHO = 2
    DIGESTS = 3
    OFFER = 4
    REPLICA = 5
    VERSION = 6
    CARRIER = 7
    KEYS = 8
    CANDIDATE = 9
    ACTIVE_MS = 10
    CHANGES = 11
    MARGIN = 16
    FLOORS = 17
    HEALTH = 18


@dataclass(frozen=True, slots=True)
class Replica:
    """What a node says of the replica; `barrier` is the highest one that it applied."""

    state: ReplicaState = ReplicaState.DISCONNECTED
    barrier: int = 0
    entries: int = 0
    lag_ms: int = 0
    share_permille: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """A hand-over on offer: the epoch that the taker may claim, and the barrier to apply first."""

    epoch: int
    barrier: int


@dataclass(frozen=True, slots=True)
class LinkMargin:
    """How the receiver's beats arrive at the sender of this beat, on this beat's link."""

    beats: int
    lost: int
    near_misses: int
    outages: int
    jitter_us: int
    silence_us: int
    """The longest silence of the last day, short of `dead`."""


@dataclass(frozen=True, slots=True)
class Floors:
    """The worst that a node has measured within the last day; 0 where it has measured nothing."""

    late_us: int = 0
    """Its own heart's lateness."""
    answer_us: int = 0
    """The time that the peer's kernel took to answer a probe."""
    silence_us: int = 0
    """The longest silence of the peer on all links at once, short of `dead`."""
    measured_s: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat, as said or heard."""

    cluster: int
    node: int
    role: Role
    link: int
    session: int
    sequence: int
    kind: Kind = Kind.BEAT
    flags: Flag = Flag(0)
    epoch: int = 0
    last_active: int = 0
    echo_session: int = 0
    echo_sequence: int = 0
    echo_candidate: int = 0
    """A session that was heard but has not proved to be fresh; echoed so that it can."""
    config_digest: bytes = b""
    ruleset_digest: bytes = b""
    offer: Offer | None = None
    replica: Replica = field(default_factory=Replica)
    version: str = ""
    carrier: int = 0
    """Bitmap of the logical interfaces with carrier, bit link - 1."""
    keys: tuple[int, ...] = ()
    active_ms: int = 0
    """For how long this node has been active."""
    changes: tuple[tuple[int, int], ...] = ()
    """Epoch and age in seconds of each unplanned change that this node knows of."""
    major: int = MAJOR
    margin: LinkMargin | None = None
    floors: Floors | None = None
    health: Health | None = None


def encode(beat: Beat) -> bytes:
    """Return the bytes of a heartbeat, without its seal."""
    head = _HEADER.pack(
        MAGIC, beat.major, beat.kind, beat.cluster, beat.node, beat.role, beat.link,
        beat.flags, beat.epoch, beat.last_active,
    )  # fmt: skip
    replica = beat.replica
    fields = [
        (_Type.SEQUENCE, _SEQUENCE.pack(beat.session, beat.sequence)),
        (_Type.ECHO, _ECHO.pack(beat.echo_session, beat.echo_sequence)),
        (_Type.DIGESTS, beat.config_digest.ljust(8, b"\0") + beat.ruleset_digest.ljust(8, b"\0")),
        (
            _Type.REPLICA,
            _REPLICA.pack(
                replica.state,
                replica.barrier,
                min(replica.entries, 0xFFFFFFFF),
                min(replica.lag_ms, 0xFFFFFFFF),
                replica.share_permille,
            ),
        ),
        (_Type.VERSION, beat.version.encode()[:32]),
        (_Type.CARRIER, beat.carrier.to_bytes(4)),
        (_Type.KEYS, bytes(beat.keys)),
        (_Type.CANDIDATE, beat.echo_candidate.to_bytes(8)),
    ]
    if beat.offer:
        fields.append((_Type.OFFER, _OFFER.pack(beat.offer.epoch, beat.offer.barrier)))
    if beat.margin:
        margin = beat.margin
        packed = _MARGIN.pack(
            margin.beats, margin.lost, margin.near_misses, margin.outages,
            margin.jitter_us, margin.silence_us,
        )  # fmt: skip
        fields.append((_Type.MARGIN, packed))
    if beat.floors:
        floors = beat.floors
        packed = _FLOORS.pack(
            floors.late_us, floors.answer_us, floors.silence_us, floors.measured_s
        )
        fields.append((_Type.FLOORS, packed))
    if beat.health:
        fields.append((_Type.HEALTH, beat.health.pack()))
    if beat.active_ms:
        fields.append((_Type.ACTIVE_MS, beat.active_ms.to_bytes(8)))
    if beat.changes:
        changes = b"".join(_CHANGE.pack(epoch, age_s) for epoch, age_s in beat.changes)
        fields.append((_Type.CHANGES, changes))
    return head + b"".join(bytes([kind, len(value)]) + value for kind, value in fields)


def decode(body: bytes) -> Beat:
    """Return the heartbeat in a message whose seal was checked; raises PeerError."""
    if len(body) < _HEADER.size or len(body) > MESSAGE_BYTES_MAX:
        raise PeerError(f"heartbeat of {len(body)} bytes")
    magic, major, kind, cluster, node, role, link, flags, epoch, last_active = _HEADER.unpack_from(
        body
    )
    if magic != MAGIC or major == 0:
        raise PeerError("not a heartbeat")
    if epoch > EPOCH_MAX or last_active > EPOCH_MAX:
        raise PeerError("heartbeat with an impossible epoch")
    fields = _fields(body)
    try:
        session, sequence = _SEQUENCE.unpack(fields[_Type.SEQUENCE])
        echo_session, echo_sequence = _ECHO.unpack(fields[_Type.ECHO])
        digests = fields.get(_Type.DIGESTS, bytes(16))
        return Beat(
            cluster=cluster,
            node=node,
            role=Role(role),
            link=link,
            session=session,
            sequence=sequence,
            kind=Kind(kind),
            flags=Flag(flags & _FLAGS),
            epoch=epoch,
            last_active=last_active,
            echo_session=echo_session,
            echo_sequence=echo_sequence,
            config_digest=digests[:8],
            ruleset_digest=digests[8:16],
            offer=_offer(fields.get(_Type.OFFER)),
            replica=_replica(fields.get(_Type.REPLICA)),
            version=fields.get(_Type.VERSION, b"").decode("ascii"),
            carrier=int.from_bytes(fields.get(_Type.CARRIER, b"")[:4]),
            echo_candidate=int.from_bytes(fields.get(_Type.CANDIDATE, b"")[:8]),
            keys=tuple(fields.get(_Type.KEYS, b"")),
            active_ms=int.from_bytes(fields.get(_Type.ACTIVE_MS, b"")[:8]),
            changes=tuple(_CHANGE.iter_unpack(fields.get(_Type.CHANGES, b""))),
            major=major,
            margin=_margin(fields.get(_Type.MARGIN)),
            floors=_floors(fields.get(_Type.FLOORS)),
            health=unpack(fields.get(_Type.HEALTH)),
        )
    except (KeyError, ValueError, struct.error) as error:
        raise PeerError(f"heartbeat with a broken field: {error}") from None


def _fields(body: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    position = _HEADER.size
    while position < len(body):
        if position + 2 > len(body) or position + 2 + body[position + 1] > len(body):
            raise PeerError("heartbeat with a truncated field")
        end = position + 2 + body[position + 1]
        fields[body[position]] = body[position + 2 : end]
        position = end
    return fields


def _offer(value: bytes | None) -> Offer | None:
    return Offer(*_OFFER.unpack(value)) if value is not None else None


def _replica(value: bytes | None) -> Replica:
    if value is None:
        return Replica()
    state, *rest = _REPLICA.unpack(value)
    return Replica(ReplicaState(state), *rest)


def _margin(value: bytes | None) -> LinkMargin | None:
    return LinkMargin(*_MARGIN.unpack_from(value)) if value is not None else None


def _floors(value: bytes | None) -> Floors | None:
    return Floors(*_FLOORS.unpack_from(value)) if value is not None else None
