# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/break-glass.md does what it says: its own blocks are run on a pair with a host behind it."""

from __future__ import annotations

import re

from tests.integration import steps
from tests.lab import Lab
from tests.lab.plan import ROOT

PAGE = (ROOT / "docs" / "break-glass.md").read_text()


def block(name: str) -> str:
    """The commands of a block of the page."""
    found = re.search(rf"<!-- block: {name} -->\n((?:    .*\n)+)", PAGE)
    assert found, f"the page has no block {name}"
    return found[1]


def by_hand(lab: Lab, node: str, name: str) -> None:
    """Type a block on a node."""
    done = lab.node(node).run(["sh", "-ec", block(name)])
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def reaches(lab: Lab) -> bool:
    """Whether a host on lan reaches the server through the firewall."""
    return lab.host("client").run(["ping", "-c", "1", "-W", "1", steps.SERVER]).returncode == 0


def test_one_node_forwards_without_agents_and_the_pair_comes_back(pair: Lab) -> None:
    holder = steps.ready(pair)
    other = steps.other(holder)
    by_hand(pair, other, "other")
    by_hand(pair, holder, "open")
    steps.until("the host reaches the server", lambda: reaches(pair), 10)
    assert pair.node(holder).run(["nft", "list", "table", "netdev", "amaranten_ha"]).returncode != 0
    assert steps.status(pair, holder) == {}
    by_hand(pair, holder, "close")
    by_hand(pair, other, "rejoin")
    steps.ready(pair, 60)
    steps.until("the host reaches the server again", lambda: reaches(pair), 10)
