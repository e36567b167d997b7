# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine knows, as one value: the judge compares it before and after a forged frame.

Nothing is changed here, and nothing is judged.
"""

from __future__ import annotations

from typing import Any


def fingerprint(heart: Any) -> tuple[Any, ...]:
    """Everything of an engine on which a decision could rest."""
    pulse = heart.pulse
    return (
        heart.role,
        heart.claim,
        heart.epoch,
        heart.last_active,
        pulse.heard_ns,
        pulse.session,
        pulse.sequence,
        pulse.echo_sequence,
        pulse.beat,
        [each.heard_ns for each in pulse.links.values()],
    )
