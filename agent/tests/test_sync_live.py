# SPDX-License-Identifier: GPL-3.0-or-later
"""Live connections through two real routers, with the real sync service between them.

nf_conntrack_tcp_loose is 0 on both, and what is invalid or new without SYN is dropped: a connection
that goes on does so because its entry was there, translated and usable.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sync_pair import CLIENT, CLIENT6, SERVER, SERVER6, SHARED_WAN, SHARED_WAN6, Pair, tcp, udp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(Path(tmp_path_factory.mktemp("pair")))
    yield made
    made.remove()


@pytest.fixture
def pair(wired: Pair) -> Pair:
    wired.begin()
    return wired


def test_it_replicates(pair: Pair) -> None:
    talk = tcp(pair.client, pair.server, SERVER, SERVER, 5001)
    assert talk.exchange()
    pair.settle()
    print(pair.a.entries(), pair.b.entries(), pair.a.report, pair.b.report)
    pair.roles("passive", "active", 2)
    pair.activate(pair.b)
    assert talk.exchange()
    talk.close()
