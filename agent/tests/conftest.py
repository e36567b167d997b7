# SPDX-License-Identifier: GPL-3.0-or-later
"""How properties are tested here: an example may take as long as the machine makes it.

Every test of the agent enters through this file. A deadline for each example would fail on a
machine that does other work, and say nothing about the code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from sync_pair import Pair

settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two nodes with a client and a server around them, in namespaces; removed whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    made = Pair(tmp_path_factory.mktemp("pair"))
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def pair(wired: Pair) -> Pair:
    """The two nodes at their beginning: A active, B passive, empty tables."""
    wired.begin()
    return wired
