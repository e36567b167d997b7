# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is read out of a ruleset's text."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText

TEXT = """\
#!/usr/sbin/nft -f
define inside = { "enp1s0", enp3s0 }  # not a table { here
table inet edge {
    set admins { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }
    chain input {
        type filter hook input priority 0; policy drop
        ct state vmap { established : accept,
            invalid : drop }
        iifname $inside \\
            tcp dport 22 accept; log prefix "table ip no { " drop
    }
}
table nat { chain post { type nat hook postrouting priority 100; } }
add table ip6 plain
add rule ip6 plain c accept
"""


def test_tables_rules_and_defines():
    text = RulesetText(TEXT)
    assert text.refused == []
    assert text.tables == ["inet edge", "ip nat", "ip6 plain"]
    assert [v.text for v in text.defines["inside"]] == ["{", "enp1s0", ",", "enp3s0", "}"]
    rules = [(rule.table, rule.chain, rule.line, " ".join(rule.texts())) for rule in text.rules]
    assert ("edge", "input", 9, "iifname $inside tcp dport 22 accept") in rules
    assert ("edge", "input", 10, "log prefix table ip no {  drop") in rules
    assert ("plain", "c", 15, "accept") in rules


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("table ip a {}\nflush ruleset\n", 2, "`flush ruleset`"),
        ("flush \\\n ruleset; table ip a {}", 1, "`flush ruleset`"),
        ('\n\ninclude "/etc/other.nft"', 3, "includes a file"),
        ("table netdev amaranten_ha { }", 1, "the agent's own"),
        ("table ip a {}\nadd rule ip b c accept", 2, "changes the table ip b"),
        ("delete table inet docker", 1, "changes the table inet docker"),
        ("flush chain ip a c\ntable ip x {}", 1, "changes the table ip a"),
        ('add ct helper ip b h { type "ftp" protocol tcp; }', 1, "changes the table ip b"),
    ],
)
def test_what_a_ruleset_must_not_do(text, line, words):
    found = RulesetText(text).refused
    assert [(where, what) for where, what in found if where == line and words in what], found


@pytest.mark.parametrize(
    "text",
    [
        "table ip a\ndelete table ip a\ntable ip a { chain c { } }",
        "# flush ruleset\ntable ip a {}",
        'table ip a { chain c { log prefix "flush ruleset" } }',
        "add table ip a\nadd chain ip a c\nadd element ip a s { 1.2.3.4 }\nflush table ip a",
    ],
)
def test_what_it_may_do(text):
    text = RulesetText(text)
    assert text.refused == []
    assert text.tables == ["ip a"]


def test_text_that_is_no_ruleset_breaks_nothing():
    for text in ("", "}", "table", "table inet", "{{{", 'table ip "', "define x", "add", "flush"):
        RulesetText(text)
