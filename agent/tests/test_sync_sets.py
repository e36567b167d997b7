# SPDX-License-Identifier: GPL-3.0-or-later
"""Ban lists and rate meters are on the passive, with the time they have, and outlive a reload."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_netns import udp, wait_for
from sync_pair import CLIENT, SERVER, Node, Pair

from amaranten_ha.core import named_set
from amaranten_ha.core.errors import ConfigurationError, PeerError
from amaranten_ha.io.desk import ask

RULES = """
table inet bans {
    set banned { type ipv4_addr; flags timeout; }
    set banned6 { type ipv6_addr; }
    set met { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
    set ranges { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 } }
    chain early {
        type filter hook prerouting priority -150;
        ip saddr @banned counter drop
        iifname lan udp dport 7700 update @met { ip saddr limit rate over 1000/second } drop
    }
}
"""
SETS = ["inet bans banned", "inet bans banned6", "inet bans met", "inet bans ranges"]
OUTCAST = "10.71.1.66"


@given(st.binary(max_size=60))
def test_any_bytes_are_an_element_or_an_error_of_the_peer(data: bytes) -> None:
    name = named_set.set_name(SETS[0])
    for read in (
        lambda: named_set.item(name, data),
        lambda: named_set.owner(data),
        lambda: named_set.element(data, data, 1),
        lambda: named_set.essence(data),
    ):
        with contextlib.suppress(PeerError):
            read()


@pytest.mark.parametrize("name", ["banned", "inet bans", "arp t s", "inet t s x", "inet  s", ""])
def test_a_name_that_is_none_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a family .*, a table and a set"):
        named_set.set_name(name)


def reload(node: Node) -> None:
    """Load the table as a ruleset's deployment does: made anew, in one transaction."""
    node.run("nft", "-f", "-", stdin=f"table inet bans\ndelete table inet bans\n{RULES}")


@pytest.fixture
def pair(wired: Pair) -> Pair:
    for node in (wired.a, wired.b):
        node.kill()
        reload(node)
        node.extra = f"sets = {json.dumps(SETS)}"
    wired.begin()
    return wired


def ban(node: Node, element: str, of: str = "banned", verb: str = "add") -> None:
    node.run("nft", verb, "element", "inet", "bans", of, f"{{ {element} }}")


def listed(node: Node, of: str = "banned") -> dict[str, int | None]:
    """The elements of a set and the seconds they have left, as nft sees them."""
    text = node.run("nft", "-j", "list", "set", "inet", "bans", of, check=False)
    found: dict[str, int | None] = {}
    for part in json.loads(text or "{}").get("nftables", []):
        for each in part.get("set", {}).get("elem", []):
            element = each["elem"] if isinstance(each, dict) and "elem" in each else {"val": each}
            found[str(element["val"])] = element.get("expires")
    return found


@pytest.mark.live
def test_bans_and_meters_are_on_the_passive_with_the_time_that_is_left(pair: Pair) -> None:
    ban(pair.a, f"{OUTCAST} timeout 1h expires 30m")
    ban(pair.a, "fd71:1::66", "banned6")
    talk, _seen = udp(pair.client, pair.server, SERVER, 7700)
    wait_for(lambda: OUTCAST in listed(pair.b), 10, "the ban is copied")
    left = listed(pair.b)[OUTCAST]
    assert left is not None and 1790 <= left <= 1800
    wait_for(lambda: listed(pair.b, "banned6") == {"fd71:1::66": None}, 10, "so is that for ever")
    wait_for(lambda: CLIENT in listed(pair.b, "met"), 10, "and the meter")
    assert "limit rate over 1000/second" in pair.b.run("nft", "list", "set", "inet", "bans", "met")
    ban(pair.a, OUTCAST, verb="delete")
    wait_for(lambda: listed(pair.b) == {}, 10, "who is free is free there")
    # A ban that is given anew with less time is told again.
    ban(pair.a, "10.71.1.67 timeout 1h")
    wait_for(lambda: "10.71.1.67" in listed(pair.b), 10, "a ban")
    ban(pair.a, "10.71.1.67", verb="delete")
    ban(pair.a, "10.71.1.67 timeout 5m")
    wait_for(lambda: (listed(pair.b).get("10.71.1.67") or 9999) <= 300, 10, "a shorter one")
    talk.close()


@pytest.mark.live
@pytest.mark.parametrize("which", ["a", "b"])
def test_a_reload_of_the_ruleset_forgets_no_ban(pair: Pair, which: str) -> None:
    node = pair.a if which == "a" else pair.b
    ban(pair.a, f"{OUTCAST} timeout 1h expires 20m")
    wait_for(lambda: OUTCAST in listed(pair.b), 10, "the ban is copied")
    time.sleep(2.5)
    with node.still():
        reload(node)
        assert listed(node) == {}
    wait_for(lambda: OUTCAST in listed(node), 10, "the ban is back")
    left = listed(node)[OUTCAST]
    assert left is not None and 1180 <= left <= 1200
    wait_for(lambda: OUTCAST in listed(pair.b) and OUTCAST in listed(pair.a), 15, "on both")


@pytest.mark.live
def test_who_flushes_a_set_is_obeyed_on_both(pair: Pair) -> None:
    ban(pair.a, OUTCAST)
    wait_for(lambda: OUTCAST in listed(pair.b), 10, "the ban is copied")
    pair.a.run("nft", "flush", "set", "inet", "bans", "banned")
    wait_for(lambda: listed(pair.b) == {}, 10, "nobody is banned")
    assert listed(pair.a) == {}


@pytest.mark.live
def test_after_a_take_over_the_bans_go_on_and_come_back(pair: Pair) -> None:
    ban(pair.a, f"{OUTCAST} timeout 1h")
    ban(pair.b, "10.71.1.99")
    wait_for(lambda: list(listed(pair.b)) == [OUTCAST], 10, "B has what A has, and no more")
    pair.hand_over(pair.a, pair.b, 2)
    pair.settle()
    ban(pair.b, "10.71.1.68")
    wait_for(lambda: set(listed(pair.a)) == {OUTCAST, "10.71.1.68"}, 10, "A follows B now")
    assert set(listed(pair.b)) == {OUTCAST, "10.71.1.68"}


@pytest.mark.live
def test_what_is_not_replicated_is_said(pair: Pair) -> None:
    def said() -> list[str]:
        return list(ask(pair.a.folder / "sync.sock", {"op": "status"}, 10, "sync")["vital"])

    wait_for(lambda: said() == ["inet bans ranges: it holds intervals"], 15, "it is said")
    pair.a.run("nft", "delete", "table", "inet", "bans")
    wait_for(lambda: "inet bans banned: it does not exist" in said(), 15, "a set is missing")
    assert re.search("banned6: it does not exist", " ".join(said()))
