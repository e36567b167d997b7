# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The agent's keys.toml: written, read back, and described without giving a key away.

A key is 32 random bytes, so a hash of it names it and reveals nothing.  Only `render` ever returns
a key, and only for the file.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import hashlib
import re

HASH_LENGTH = 12


def render(keys, send_key):
    """The text of keys.toml."""
    lines = [
        "# Written by Ansible from ha_cluster.keys: change it there.",
        "send_key = %d" % send_key,
        "",
        "[keys]",
    ]
    lines += ['%d = "%s"' % (number, keys[number]) for number in sorted(keys)]
    return "\n".join(lines) + "\n"


def parse(text):
    """(keys by id, the id that is sent with or None) of what `render` wrote."""
    keys = {}
    send = None
    for line in text.splitlines():
        match = re.match(r'\s*([0-9]+)\s*=\s*"([^"]*)"\s*$', line)
        if match:
            keys[int(match.group(1))] = match.group(2)
        match = re.match(r"\s*send_key\s*=\s*([0-9]+)\s*$", line)
        if match:
            send = int(match.group(1))
    return keys, send


def hashed(key):
    """A name for a key that is no secret."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()[:HASH_LENGTH]


def describe(keys, send_key):
    """What may be shown of keys."""
    return {
        "ids": {str(number): hashed(key) for number, key in sorted(keys.items())},
        "send_key": send_key,
    }


def described_text(keys, send_key):
    """The same for a diff."""
    if not keys:
        return ""
    lines = [
        "key %d: hash %s%s"
        % (number, hashed(keys[number]), " (sends)" if number == send_key else "")
        for number in sorted(keys)
    ]
    return "\n".join(lines) + "\n"
