# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which `masquerade` is refused, and what replaces it."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText
from ansible_collections.amaranten.ha.plugins.plugin_utils import _cluster_files as files
from ansible_collections.amaranten.ha.plugins.plugin_utils._masquerade import findings, source_line

from .pairs import at, cluster_of

# A sync interface has no shared address, lan has one of each family, wan of both here.
PAIR = at("interfaces.wan.shared", ["198.51.100.1/24", "2001:db8::1/64"])


def refused(rule, table="inet"):
    """The sentences for one rule."""
    cluster = cluster_of(PAIR)
    text = (
        files.defines(cluster, "fw-a")
        + "table %s t {\n\tchain c {\n\t\ttype nat hook postrouting priority 100;\n\t\t%s\n\t}\n}\n"
        % (table, rule)
    )
    return [sentence for dummy, sentence in findings(RulesetText(text), cluster, "fw-a")]


@pytest.mark.parametrize(
    ("table", "rule", "wanted"),
    [
        ("ip", "oifname $wan masquerade", "`oifname $wan snat to 198.51.100.1`"),
        ("ip6", "oifname $wan masquerade", "`oifname $wan snat to 2001:db8::1`"),
        ("inet", "oifname $wan ip saddr 10.0.0.0/8 masquerade", "snat ip to 198.51.100.1`"),
        ("inet", "oifname $wan meta nfproto ipv6 masquerade", "snat ip6 to 2001:db8::1`"),
        ("inet", 'oifname "enp2s0" masquerade', '`oifname "enp2s0" snat ip to 198.51.100.1`'),
        ("ip", "oif enp2s0 counter masquerade", "`oif enp2s0 counter snat to 198.51.100.1`"),
        ("ip", "meta oifname { $wan, $sync } masquerade", "snat to 198.51.100.1`"),
        ("ip", 'oifname "enp2*" masquerade', "snat to 198.51.100.1`"),
        ("ip", "oifname != $sync masquerade", "snat to 10.20.1.1`"),
        ("ip", "masquerade", "`oifname $lan snat to 10.20.1.1`"),
        ("ip", "oifname @outside masquerade", "snat to 10.20.1.1`"),
        ("ip", "oifname $wan tcp dport 22 masquerade to :1024-65535", "198.51.100.1:1024-65535`"),
        ("ip", "oifname $wan masquerade random", "snat to 198.51.100.1 random`"),
    ],
)
def test_it_is_refused_where_there_is_a_shared_address(table, rule, wanted):
    sentences = refused(rule, table)
    assert len(sentences) == 1
    assert wanted in sentences[0]


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ("ip", "oifname $sync masquerade"),
        ("ip", "oifname eth9 masquerade"),
        ("ip", "oifname != { $wan, $lan } masquerade"),
        ("ip", 'log prefix "masquerade" accept'),
        ("ip", "# oifname $wan masquerade"),
        ("ip", "oifname $wan snat to 198.51.100.1"),
    ],
)
def test_it_is_left_alone_elsewhere(table, rule):
    assert refused(rule, table) == []


def test_a_family_without_a_shared_address_is_left_alone():
    cluster = cluster_of(at("interfaces.wan.shared", ["198.51.100.1/24"]))
    text = files.defines(cluster, "fw-a") + "table ip6 t { chain c { oifname $wan masquerade; } }"
    assert list(findings(RulesetText(text), cluster, "fw-a")) == []


def test_the_line_is_that_of_the_template():
    source = "{# words #}\n{% if true %}\ntable ip t {\n oifname $wan masquerade\n}\n{% endif %}\n"
    rendered = "\ntable ip t {\n oifname $wan masquerade\n}\n"
    assert source_line(source, rendered, 3) == 4
    made_by_a_loop = "{% for i in x %}\noifname {{ i }} masquerade\n{% endfor %}\n"
    assert source_line(made_by_a_loop, "oifname a masquerade\noifname b masquerade\n", 2) == 2
    assert source_line("nothing like it", "oifname a masquerade", 1) is None
