# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the two nodes can be given a ruleset in step.

In step means that each says in its heartbeats which ruleset it has, and hears the other's: then
both end with the same, wherever a run is interrupted.  Pure: what `node_info` found comes in.
"""

from __future__ import annotations

import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster

Found = t.Mapping[str, t.Any]


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
