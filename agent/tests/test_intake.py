# SPDX-License-Identifier: GPL-3.0-or-later
"""Events that are heard together: the newest is enough, and the peer is told the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from sync_active import LABELS, sending, told
from sync_samples import direction, entry, tcp_entry, tcp_info

from amaranten_ha.core import flow, tlv
from amaranten_ha.core.intake import condense
from amaranten_ha.core.ledger import Op

heard = st.lists(
    st.tuples(
        st.sampled_from(["new", "labelled", "marked", "gone"]),
        st.integers(1, 3),
        st.integers(3, 8),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(heard, heard)
def test_condensed_events_say_the_same(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    """Whatever was heard together: what the peer is told in the end is what each event says."""
    told_of = []
    for how in (lambda events: events, condense):
        source, peer = sending(), dict[bytes, bytes]()
        for script in (before, after):
            events = []
            for what, sport, state in script:
                attributes = tcp_entry(sport, state)
                if what == "labelled":
                    attributes += LABELS
                elif what == "marked":
                    attributes += tlv.attribute(flow.MARK, state.to_bytes(4, "big"))
                events.append((what == "gone", attributes))
            for gone, attributes in how(events):
                source.hear(gone, attributes, 0)
            for op, payload in told(source):
                if op in (Op.DELETE, Op.LAST):
                    peer.pop(payload if op is Op.DELETE else flow.parse(payload).key, None)
                else:
                    peer[flow.parse(payload).key] = payload
        told_of.append((peer, source.mirror.sums.values, len(source.mirror)))
    assert told_of[0] == told_of[1]


def test_many_events_of_one_connection_are_one() -> None:
    events = [(False, tcp_entry(1, state)) for state in (3, 4, 5, 6, 7)]
    assert condense(events) == [(False, tcp_entry(1, 7))]
    assert condense([*events, (True, tcp_entry(1, 7))]) == [(True, tcp_entry(1, 7))]
    # What follows one that was closed is another, and has nothing of it (such as a label).
    lives = [(False, tcp_entry(1, state)) for state in (3, 7, 3, 4)]
    assert condense(lives) == [lives[1], lives[3]]
    # A reset is as good as the end, for both families.
    assert condense([*events, (False, tcp_entry(1, 8))]) == [(True, tcp_entry(1, 8))]
    six = direction("fd00::9", "fd01::7", flow.TCP, 1, 2)
    back = direction("fd01::7", "fd00::9", flow.TCP, 2, 1)
    lives = [(False, entry(six, back, tcp_info(state))) for state in (3, 8)]
    assert condense(lives) == [(True, lives[1][1])]
