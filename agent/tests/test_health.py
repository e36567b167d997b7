# SPDX-License-Identifier: GPL-3.0-or-later
"""What speaks against a spare beside role and replica: each cause one sentence, none without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from amaranten_ha.core.beat import Beat, Role, decode, encode
from amaranten_ha.core.health import Condition, Health, Side, Trial, clock_ms, compare, unpack
from amaranten_ha.io.locals import Surroundings, write_atomically

LINKS = {1: "lan", 2: "wan"}
GOOD = Health(wall_ms=1_000_000, silent_hops=0, hears=3, disk_permille=500)
A = Side("fw-a", "0.1.0", (1,), 3, GOOD)
B = Side("fw-b", "0.1.0", (1,), 3, GOOD)


def changed(side: Side, **change: Any) -> Side:
    """A side in which something is otherwise, of its health or of itself."""
    own = {name: value for name, value in change.items() if hasattr(side, name)}
    rest = {name: value for name, value in change.items() if name not in own}
    return dataclasses.replace(side, **own, health=dataclasses.replace(side.health, **rest))


def test_two_nodes_that_fit_give_no_reason() -> None:
    assert compare((A, B), "fw-b", LINKS, 999) == ()


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({}, {"version": "0.2.0"}, "fw-a runs version 0.1.0, fw-b 0.2.0"),
        ({}, {"keys": (1, 2)}, "the two nodes accept different keys: fw-a 1; fw-b 1, 2"),
        ({}, {"carrier": 1}, "fw-b has no carrier on wan"),
        ({}, {"hears": 1}, "fw-b does not hear fw-a on wan"),
        ({"hears": 2}, {}, "fw-a does not hear fw-b on lan"),
        ({}, {"silent_hops": 2}, "no next hop on wan answers fw-b, and one answers fw-a"),
        ({}, {"disk_permille": 19}, "the disk of fw-b has 1.9 % left"),
        ({"disk_permille": 0}, {}, "the disk of fw-a has 0.0 % left"),
        ({}, {"unguarded": True}, "the gate of fw-b is not protected: its service is away"),
        ({}, {"trial": Trial.HELD}, "a ruleset is on trial on fw-b (held)"),
        ({"trial": Trial.PROVISIONAL}, {}, "a ruleset is on trial on fw-a (provisional)"),
    ],
)
def test_each_cause_is_one_reason(
    first: dict[str, Any], second: dict[str, Any], reason: str
) -> None:
    assert compare((changed(A, **first), changed(B, **second)), "fw-b", LINKS, 0) == (reason,)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"carrier": 1}, {}),
        ({"carrier": 1}, {"carrier": 1}),
        ({"silent_hops": 2}, {}),
        ({"silent_hops": 2}, {"silent_hops": 2}),
        ({"disk_permille": 20}, {"disk_permille": 0xFFFF}),
    ],
)
def test_what_a_switch_would_not_lose_is_no_reason(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert compare((changed(A, **first), changed(B, **second)), "fw-b", LINKS, None) == ()


def test_clocks_are_compared_by_the_beat_itself() -> None:
    condition = Condition(wall_offset_ns=5_000_000_000)
    assert clock_ms(Health(wall_ms=9_000), condition, 1_000_000_000) == 3_000
    assert clock_ms(Health(), condition, 1_000_000_000) is None
    assert clock_ms(Health(wall_ms=9_000), Condition(), 1_000_000_000) is None
    said = ("the clocks of the two nodes differ by 1.0 s",)
    assert compare((A, B), "fw-b", LINKS, -1_001) == said


def test_it_travels_in_a_beat_and_an_older_agent_says_nothing() -> None:
    beat = Beat(7, 2, Role.PASSIVE, 1, 1, 1, health=dataclasses.replace(GOOD, unguarded=True))
    assert decode(encode(beat)).health == beat.health
    assert decode(encode(dataclasses.replace(beat, health=None))).health is None


@pytest.mark.parametrize("trial", list(Trial))
@pytest.mark.parametrize("unguarded", [False, True])
def test_the_phase_of_a_trial_shares_a_byte_and_disturbs_nothing(
    trial: Trial, unguarded: bool
) -> None:
    said = dataclasses.replace(GOOD, unguarded=unguarded, trial=trial)
    assert unpack(said.pack()) == said


def test_a_phase_of_a_later_version_is_unknown_and_no_broken_heartbeat() -> None:
    found = unpack(GOOD.pack()[:-1] + bytes([5 << 1]))
    assert found is not None
    assert (found.trial, found.unguarded) == (Trial.UNKNOWN, False)


def test_sync_reads_the_phase_from_the_file_while_there_is_a_trial(tmp_path: Path) -> None:
    file = tmp_path / "trial.json"
    surroundings = Surroundings(tmp_path, file)
    said = [surroundings.learn()["trial"]]
    for text in ('{"phase": "held"}', "{", '{"phase": "settling"}', '{"phase": "confirmed"}', "[]"):
        write_atomically(file, text)
        said += [surroundings.learn()["trial"]]
    file.unlink()
    assert [*said, surroundings.learn()["trial"]] == ["", "held", "", "settling", "", "", ""]
