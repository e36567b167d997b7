# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all tests of a deployed pair: made bare, deployed once, taken down at the end.

``bare`` are two nodes on which nothing was done; the files in ``FIRST`` ask for it, and run first.
``pair`` is the same lab after ``playbooks/site.yml``. HA_LAB_PREFIX names the lab;
with HA_LAB_KEEP=1 it stays up for a look at it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration import deployment, steps
from tests.lab import Lab
from tests.lab.plan import own_prefix

FIRST = ("test_preflight_bare.py", "test_site.py")
CONVERGED_S = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the deployment first: some of them need nodes on which nothing was done yet."""
    here = os.path.dirname(__file__)
    ours = [index for index, item in enumerate(items) if str(item.path).startswith(here)]
    wanted = sorted((items[index] for index in ours), key=_turn)
    for index, item in zip(ours, wanted, strict=True):
        items[index] = item


def _turn(item: pytest.Item) -> int:
    return FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST)


@pytest.fixture(scope="session")
def bare() -> Iterator[Lab]:
    """A lab that was just made; its nodes are as the image is."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    lab = Lab(os.environ.get("HA_LAB_PREFIX", own_prefix("t")))
    lab.down()
    try:
        lab.up()
        for node in lab.nodes.values():
            # SSH answers before the first boot has written all that it writes below /etc.
            node.run(["systemctl", "is-system-running", "--wait"])
        yield lab
    finally:
        if not os.environ.get("HA_LAB_KEEP"):
            lab.down()


@pytest.fixture(scope="session")
def deployed(bare: Lab) -> deployment.Run:
    """The first run of site.yml on the lab, which every test of a pair stands on."""
    run = deployment.deploy(bare)
    assert run.code == 0, run.end()
    return run


@pytest.fixture(scope="session")
def pair(bare: Lab, deployed: deployment.Run) -> Lab:
    """A lab whose two nodes are a pair: one active, the other ready."""
    converged(bare)
    return bare


def status(pair: Lab, node: str) -> dict[str, Any]:
    """A node's own status; empty if it is off or does not answer."""
    return steps.status(pair, node)


def wait_for(predicate: Callable[[], bool], timeout: float, what: str = "the condition") -> None:
    """Poll until something holds; fail if it does not in time."""
    steps.until(what, predicate, timeout)


def converged(pair: Lab, timeout: float = CONVERGED_S) -> str:
    """Wait until one node is active and the other one ready; the active node."""
    return steps.ready(pair, timeout)
