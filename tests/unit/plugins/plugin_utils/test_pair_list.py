# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A list of pairs: what it makes of right ones, and the one sentence that each mistake gives."""

from __future__ import annotations

import pytest
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair_list import PairList

BERLIN = {"hosts": {"ber-a": {"ansible_host": "192.0.2.1"}, "ber-b": None}, "cluster": {"id": 7}}
PARIS = {"hosts": {"par-a": {}, "par-b": {}}, "cluster": {"id": 8, "profile": "fast"}}


def read(pairs, common=None):
    """The pairs that are right, and what was said of the others."""
    listed = PairList(pairs, common or {})
    return listed.read(), listed.problems.sentences


def test_name_primary_and_backup_come_from_the_list_and_the_rest_from_the_pair_before_the_common():
    pairs, sentences = read({"berlin": BERLIN, "paris": PARIS}, {"profile": "metal"})
    assert sentences == []
    assert [pair.cluster for pair in pairs] == [
        {"id": 7, "profile": "metal", "name": "berlin", "primary": "ber-a", "backup": "ber-b"},
        {"id": 8, "profile": "fast", "name": "paris", "primary": "par-a", "backup": "par-b"},
    ]
    assert pairs[0].hosts == {"ber-a": {"ansible_host": "192.0.2.1"}, "ber-b": {}}


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ({}, "pairs is missing, expected at least one pair by its name."),
        (
            {"ber-lin": BERLIN},
            "pairs.ber-lin is not a name, expected at most 32 letters, digits and _.",
        ),
        ({"berlin": 7}, "pairs.berlin is 7, expected a dict with hosts, cluster, vars."),
        (
            {"berlin": {**BERLIN, "host": 1}},
            "pairs.berlin.host is not known, expected hosts, cluster, vars.",
        ),
        (
            {"berlin": {**BERLIN, "hosts": {"ber-a": {}}}},
            "pairs.berlin.hosts is {'ber-a': {}}, "
            "expected exactly two hosts by name: this product is a pair.",
        ),
        (
            {"berlin": BERLIN, "paris": {**PARIS, "hosts": {"par-a": {}, "ber-b": {}}}},
            "pairs.paris.hosts has ber-b, which is in pairs.berlin too, "
            "expected each host in one pair.",
        ),
        (
            {"berlin": {**BERLIN, "hosts": {"ber-a": "192.0.2.1", "ber-b": {}}}},
            "pairs.berlin.hosts.ber-a is '192.0.2.1', expected a dict.",
        ),
        (
            {"berlin": {**BERLIN, "cluster": {}}},
            "pairs.berlin.cluster.id is missing, expected a whole number that no other pair has.",
        ),
        (
            {"berlin": BERLIN, "paris": {**PARIS, "cluster": {"id": 7}}},
            "pairs.paris.cluster.id is 7, expected another than that of pairs.berlin.",
        ),
        (
            {"berlin": {**BERLIN, "cluster": {"id": 7, "primary": "ber-b"}}},
            "pairs.berlin.cluster.primary is 'ber-b', "
            "expected nothing: the pair's name and hosts say it.",
        ),
        ({"berlin": {**BERLIN, "vars": []}}, "pairs.berlin.vars is [], expected a dict."),
    ],
)
def test_a_mistake_has_one_sentence(pairs, sentence):
    assert read(pairs)[1] == [sentence]


def test_what_all_have_in_common_names_no_pair():
    _pairs, sentences = read({"berlin": BERLIN}, {"name": "edge"})
    assert sentences == [
        "cluster.name is 'edge', expected nothing: the pair's name and hosts say it."
    ]
