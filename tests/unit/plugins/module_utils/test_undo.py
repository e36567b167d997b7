# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the record of a node is read; the rest of a removal is tested on a node."""

from __future__ import annotations

from ansible_collections.amaranten.ha.plugins.module_utils._undo import (
    Step,
    blocks,
    listed,
    remove_path,
    route_words,
)

RULESET = """\
table inet edge {
\tset banned {
\t\ttype ipv4_addr
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t}
}
table ip nat {
}
"""


def test_a_listing_is_taken_apart_into_its_tables():
    found = blocks(RULESET)
    assert list(found) == ["inet edge", "ip nat"]
    assert "".join(found.values()) == RULESET
    assert blocks("") == {}


def test_addresses_come_with_their_prefix_and_without_link_local_ones():
    link = {
        "addr_info": [
            {"local": "10.20.1.2", "prefixlen": 24, "scope": "global"},
            {"local": "fe80::1", "prefixlen": 64, "scope": "link"},
            {"local": "fd20:0::2", "prefixlen": 64, "scope": "global"},
        ]
    }
    assert listed(link) == ["10.20.1.2/24", "fd20::2/64"]
    assert listed({}) == []


def test_a_route_is_told_as_ip_takes_it():
    assert route_words({"dst": "default", "gateway": "10.20.1.254"}) == [
        "default",
        "via",
        "10.20.1.254",
    ]
    assert route_words({"dst": "10.20.1.0/24"}) == ["10.20.1.0/24"]


def test_removing_a_path_never_follows_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    inside = tmp_path / "inside"
    (inside / "below").mkdir(parents=True)
    (inside / "below" / "file").write_text("")
    (inside / "link").symlink_to(outside)
    remove_path(str(inside))
    remove_path(str(inside))
    assert not inside.exists()
    assert (outside / "kept").exists()


def test_a_step_says_what_it_undoes():
    step = Step("table x is loaded", [("nft", "list")], may_fail=True)
    assert (step.what, step.commands, step.call) == ("table x is loaded", [["nft", "list"]], None)
