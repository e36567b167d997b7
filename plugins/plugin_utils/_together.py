# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the two nodes can be given a ruleset in step, and why a change of it is refused.

In step means that each says in its heartbeats which ruleset it has, and hears the other's: then
both end with the same, wherever a run is interrupted.  Pure: what `node_info` found comes in.
"""

from __future__ import annotations

import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster

Found = t.Mapping[str, t.Any]
# What a change of the rules itself mends.
MENDED = ("the two nodes have different rulesets",)
FORCE = "-e ha_force_rules=true changes the rules all the same"


def together(cluster: Cluster, nodes: t.Mapping[str, Found]) -> bool:
    """One active, one passive, both in the play, and each hears the fingerprints of the other."""
    found = [nodes[node] for node in cluster.nodes if node in nodes]
    if sorted(each.get("role", "") for each in found) != ["active", "passive"]:
        return False
    return all(
        each.get("agent", {}).get("peer", {}).get("state") == "alive"
        and each["agent"]["peer"].get("ruleset")
        for each in found
    )


def refusals(cluster: Cluster, nodes: t.Mapping[str, Found], force: bool) -> list[str]:
    """Why the rules are not changed now, in sentences; empty if they may be."""
    if force:
        return []
    missing = [node for node in cluster.nodes if node not in nodes]
    if missing:
        return [
            f"{' and '.join(missing)} is not reached in this run, expected both nodes, so that "
            f"both get the same rules: {FORCE} on the other one alone."
        ]
    roles = ", ".join(
        f"{node} is {nodes[node].get('role') or 'not running the agent'}" for node in cluster.nodes
    )
    if not together(cluster, nodes):
        hears = [
            f"{node} hears {cluster.peer_of(node)} "
            f"{nodes[node].get('agent', {}).get('peer', {}).get('state', 'not')}"
            for node in cluster.nodes
        ]
        return [
            f"{roles} ({', '.join(hears)}), expected one active and one passive node that hear "
            f"each other, with agents that say the fingerprint of their ruleset: {FORCE}."
        ]
    reasons = [
        reason
        for node in cluster.nodes
        for reason in nodes[node]["agent"].get("reasons", [])
        if reason not in MENDED
    ]
    return [
        f"The spare would not take over now because {reason}, expected one that is ready: {FORCE}."
        for reason in dict.fromkeys(reasons)
    ]
