# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which sets may be named in `replicate_sets`, and where the names go."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText
from ansible_collections.amaranten.ha.plugins.plugin_utils import _cluster_files as files
from ansible_collections.amaranten.ha.plugins.plugin_utils._named_sets import set_findings

from .pairs import cluster_of, pair

RULES = """
table inet filter {
    set banned { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
    set ranges {
        type ipv4_addr
        flags interval
    }
    set fixed { type ipv4_addr; flags constant; elements = { 192.0.2.1 } }
    chain input { ip saddr @banned drop; }
}
"""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("inet filter banned", None),
        ("inet filter other", "the ruleset declares in its table inet filter"),
        ("ip filter banned", "declares no table ip filter for fw-a"),
        ("inet filter ranges", "does not say `flags interval`"),
        ("inet filter fixed", "does not say `flags constant`"),
    ],
)
def test_a_name_must_be_a_set_that_can_be_replicated(name, wanted):
    found = list(set_findings(RulesetText(RULES), [name], "fw-a"))
    if wanted is None:
        assert found == []
    else:
        (sentence,) = found
        assert sentence.startswith("ha_cluster.replicate_sets[0] is '%s', expected" % name)
        assert wanted in sentence


def test_a_set_that_is_declared_elsewhere_cannot_be_told():
    text = RulesetText(RULES + "add set inet filter other { type ipv4_addr; }\n")
    assert list(set_findings(text, ["inet filter other"], "fw-a")) == []


def test_the_agent_is_told_and_the_digest_knows():
    plain, listed = cluster_of(pair()), cluster_of(pair(replicate_sets=["inet filter banned"]))
    assert "sets" not in files.agent_toml(plain, "fw-a")
    assert 'sets = ["inet filter banned"]\n' in files.agent_toml(listed, "fw-a")
    none = {"fw-a": "", "fw-b": ""}
    assert files.digests_toml(plain, none) != files.digests_toml(listed, none)
