# SPDX-License-Identifier: GPL-3.0-or-later
"""What the peer says of itself: its claim, its offer, and the session in which it was active.

The engine enters with each fresh heartbeat, in the order of their numbers. Whether the peer is
alive is the pulse's to judge; what to do about its words is the role table's.
"""

from __future__ import annotations

from amaranten_ha.core.beat import ACTIVE_ROLES, Beat, Flag, Kind, Offer, Role
from amaranten_ha.core.claim import Claim, rank


class Peer:
    """The newest words of the peer."""

    def __init__(self) -> None:
        self.claim: Claim | None = None
        """Its claim while it is active, if heard since our own."""
        self.claims_alone = False
        """It is active itself, not about to give the role away."""
        self.active_ms = 0
        """For how long it says to have been active."""
        self.offer: Offer | None = None
        self.offer_beats = 0
        self.active_session = 0
        self.key_id: int | None = None
        """The key that sealed its newest heartbeat."""
        self.clock_ms: int | None = None
        """By how much its clock is ahead; None if it does not say."""
        self._offer_sequence = 0

    def take(self, beat: Beat) -> None:
        """Take in a heartbeat that is no older than any before it."""
        self.claim, self.claims_alone = None, False
        if beat.role in ACTIVE_ROLES and beat.kind is not Kind.FAREWELL:
            standing = int(Flag.STANDING in beat.flags)
            self.claim = Claim(standing, beat.epoch, rank(beat.node))
            self.claims_alone = beat.role is Role.ACTIVE
            self.active_ms = beat.active_ms
            self.active_session = beat.session
        if beat.offer != self.offer:
            self.offer, self.offer_beats = beat.offer, 0
            self._offer_sequence = -1
        if beat.sequence > self._offer_sequence:
            self._offer_sequence = beat.sequence
            self.offer_beats += 1

    def forget_claim(self) -> None:
        """We claim ourselves: only what is heard from now on binds us."""
        self.claim, self.claims_alone = None, False
        self.active_session = 0
