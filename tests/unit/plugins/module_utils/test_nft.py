# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What two listings must agree in to be the same ruleset, and what nft's complaints become."""

from __future__ import annotations

import json

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._nft import (
    Nft,
    NftError,
    addition,
    canonical,
    gist,
    moving_sets,
    replacement,
)


def listing(handle=1, packets=0, elements=(), flags=(), rule="accept"):
    """A table as nft prints it."""
    return {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": "edge", "handle": handle}},
            {
                "set": {
                    "family": "inet",
                    "name": "s",
                    "table": "edge",
                    "handle": handle + 1,
                    "flags": list(flags),
                    "elem": list(elements),
                }
            },
            {
                "rule": {
                    "handle": handle + 2,
                    "expr": [
                        {"counter": {"packets": packets, "bytes": 60 * packets}},
                        {rule: None},
                    ],
                }
            },
        ]
    }


def test_what_moves_by_itself_is_no_difference():
    assert canonical(listing()) == canonical(listing(handle=40, packets=9))
    assert canonical(listing(elements=["a", "b"])) == canonical(listing(elements=["b", "a"]))
    for flag in ("dynamic", "timeout"):
        assert canonical(listing(flags=[flag])) == canonical(listing(flags=[flag], elements=["a"]))


def test_what_somebody_changed_is_one():
    assert canonical(listing()) != canonical(listing(rule="drop"))
    assert canonical(listing()) != canonical(listing(elements=["a"]))


def test_a_complaint_is_its_first_sentence():
    assert (
        gist("/run/x.nft:3:5-9: Error: No such file or directory\nfoo bar\n    ^^^^^")
        == "No such file or directory"
    )
    assert gist("\n") == "nft failed without a word"


def test_a_refusal_is_an_error_with_the_complaint():
    nft = Nft(
        lambda arguments: (1, "", "x:1:1-1: Error: syntax error, unexpected end of file"), "nft"
    )
    with pytest.raises(NftError, match="syntax error"):
        nft.check("/run/x")


def test_tables_are_named_one_by_one():
    calls = []

    def run(arguments):
        calls.append(arguments)
        return 0, json.dumps({"nftables": [{"table": {"family": "ip", "name": "a"}}]}), ""

    nft = Nft(run, "/usr/sbin/nft")
    assert nft.tables() == ["ip a"]
    nft.text("ip a")
    assert calls[-1] == ["/usr/sbin/nft", "-s", "list", "table", "ip", "a"]


def test_a_table_is_removed_whether_it_exists_or_not():
    assert replacement(["ip a", "inet b"]) == (
        "table ip a\ndelete table ip a\ntable inet b\ndelete table inet b\n"
    )


MOVING = """table inet edge {
\tset plain {
\t\ttype ipv4_addr
\t\telements = { 1.1.1.1 }
\t}

\tset banned {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\ttimeout 1h
\t\telements = { 8.8.8.8 timeout 5m expires 4m58s508ms comment "x } y",
\t\t\t9.9.9.9 expires 59m58s508ms }
\t}

\tmap m {
\t\ttype ipv4_addr : verdict
\t\tflags timeout
\t}
}
"""


def test_the_elements_of_moving_sets_are_statements_of_their_own():
    found = moving_sets(MOVING)
    assert sorted(found) == ["banned", "m"]
    assert found["banned"].startswith('8.8.8.8 timeout 5m expires 4m58s508ms comment "x } y",')
    assert found["banned"].endswith("9.9.9.9 expires 59m58s508ms")
    statement = addition("inet edge", "banned", found["banned"])
    assert statement.startswith("add element inet edge banned { 8.8.8.8 ")
    assert addition("inet edge", "m", found["m"]) == ""


def test_a_set_whose_listing_hides_that_it_is_dynamic_is_known_by_name():
    full, empty = listing(elements=["a"]), listing()
    assert canonical(full) != canonical(empty)
    assert canonical(full, ["s"]) == canonical(empty, ["s"])
