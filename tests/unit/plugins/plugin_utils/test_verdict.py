# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The last line of a deployment: who is active, and whether the other one would take over."""

from __future__ import annotations

from ansible_collections.amaranten.ha.plugins.plugin_utils._verdict import verdict


def state(role, ready=True, **more):
    """What one node returned."""
    status = {"role": role, "ready": ready, "cluster": {"name": "edge"}, "reasons": []}
    status.update(more)
    return {"status": status}


def test_a_pair():
    states = {"fw-a": state("passive", replica={"entries": 12}), "fw-b": state("active")}
    assert verdict(states) == (
        True,
        "edge: fw-b is active, fw-a is passive and would take over now with 12 connections.",
    )


def test_a_spare_that_would_not_take_over_is_said_with_every_reason_once():
    states = {
        "fw-a": state("active", False, reasons=["no replica"]),
        "fw-b": state("passive", False, reasons=["no replica", "held"]),
    }
    well, line = verdict(states)
    assert well
    assert line.endswith("would NOT take over now: no replica; held.")


def test_no_pair():
    well, line = verdict({"fw-a": state("active"), "fw-b": state("active")})
    assert not well
    assert "expected one active and one passive node" in line
    well, line = verdict({"fw-a": state("active"), "fw-b": {"status": {}}})
    assert not well
    assert line == "fw-b does not run the agent."


def test_a_run_limited_to_one_node_speaks_of_the_other_as_seen_from_it():
    peer = {"node": "fw-b", "role": "active", "state": "alive"}
    well, line = verdict({"fw-a": state("passive", peer=peer)})
    assert well
    assert (
        line
        == "edge: fw-a is passive, fw-b was not touched and is active (alive) as seen from fw-a."
    )
