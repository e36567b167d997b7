# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys are written, read back, and never shown."""

from __future__ import annotations

from ansible_collections.amaranten.ha.plugins.module_utils import _keys as ring

KEYS = {2: "c2Vjb25k", 1: "Zmlyc3Q="}


def test_what_is_written_is_read_back():
    text = ring.render(KEYS, 2)
    assert text.splitlines()[1:] == [
        "send_key = 2",
        "",
        "[keys]",
        '1 = "Zmlyc3Q="',
        '2 = "c2Vjb25k"',
    ]
    assert ring.parse(text) == (KEYS, 2)
    assert ring.parse("") == ({}, None)


def test_a_description_names_keys_and_shows_none():
    for text in (str(ring.describe(KEYS, 2)), ring.described_text(KEYS, 2)):
        assert not [key for key in KEYS.values() if key in text]
        assert ring.hashed(KEYS[1]) in text
    assert ring.describe(KEYS, 2)["ids"]["1"] != ring.describe({1: "x"}, 1)["ids"]["1"]
    assert ring.described_text({}, None) == ""
