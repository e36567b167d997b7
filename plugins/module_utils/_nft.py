# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The only room that speaks to nft: lists tables, checks and loads text.

A module enters with its `run_command`; what comes back is text for people and a canonical listing
for comparing.  Tables are always named one by one: nothing here ever flushes a ruleset or touches a
table that it was not given.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import json
import re

from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText

# What moves by itself, packet by packet, and says nothing about the ruleset.
VOLATILE = {
    "counter": ("packets", "bytes"),
    "quota": ("used",),
    "last": ("used",),
    "elem": ("expires", "last"),
}
MOVING_SETS = ("dynamic", "timeout")


class NftError(Exception):
    """nft refused; the message is its own, on one line, `line` that of the file or None."""

    def __init__(self, message, line=None):
        Exception.__init__(self, message)
        self.line = line


class Nft(object):
    """nft on this machine."""

    def __init__(self, run_command, program):
        self._run = run_command
        self._program = program

    def tables(self):
        """All tables of this machine, as "family name"."""
        found = json.loads(self._output(["-j", "list", "tables"]))
        return [
            "%s %s" % (item["table"]["family"], item["table"]["name"])
            for item in found["nftables"]
            if "table" in item
        ]

    def text(self, table):
        """A table as people read it and as nft loads it, without what counts or moves."""
        return self._output(["-s", "list", "table"] + table.split(" ", 1))

    def still(self, table):
        """The same without the elements of sets that packets and time change."""
        return steady(self.text(table))

    def canonical(self, table):
        """A table as data that is equal exactly if the ruleset is."""
        words = table.split(" ", 1)
        # Older ones leave the flag `dynamic` out of their JSON, not out of their text.
        moving = moving_sets(self._output(["-s", "list", "table"] + words))
        return canonical(json.loads(self._output(["-s", "-j", "list", "table"] + words)), moving)

    def moving(self, table):
        """Set or map to its elements as text, with the time they have: what packets have made."""
        return moving_sets(self._output(["list", "table"] + table.split(" ", 1)))

    def check(self, path):
        """Raise NftError unless the kernel would take the file."""
        self._output(["--check", "--file", path])

    def load(self, path):
        """Load the file in one transaction, or raise NftError with nothing changed."""
        self._output(["--file", path])

    def _output(self, arguments):
        code, out, error = self._run([self._program] + arguments)
        if code != 0:
            raise NftError(gist(error or out), complaint_line(error or out))
        return out


def gist(message):
    """The first complaint of nft with its line number, without the picture below it."""
    for line in message.splitlines():
        match = re.match(r"(?:(?P<file>[^:\s]+):(?P<line>\d+):[\d-]+: )?Error: (?P<what>.*)", line)
        if match:
            return match.group("what").strip()
    return " ".join(message.split()) or "nft failed without a word"


def complaint_line(message):
    """The line of the file that nft complained about, or None."""
    match = re.search(r":(\d+):[\d-]+: Error", message)
    return int(match.group(1)) if match else None


def canonical(listing, moving=()):
    """nft's JSON without handles, counters and the contents of dynamic sets.

    `moving` are the names of sets that are known to be dynamic.
    """
    found = []
    for item in listing["nftables"]:
        if "metainfo" in item:
            continue
        kept = still(item)
        for kind in ("set", "map"):
            if kept.get(kind, {}).get("name") in moving:
                kept[kind].pop("elem", None)
        found.append(kept)
    return found


def still(value, name=""):
    """A value without the parts that move by themselves."""
    if isinstance(value, list):
        return [still(item) for item in value]
    if not isinstance(value, dict):
        return value
    drop = set(VOLATILE.get(name, ())) | {"handle"}
    if name in ("set", "map"):
        flags = value.get("flags", [])
        if any(flag in MOVING_SETS for flag in ([flags] if isinstance(flags, str) else flags)):
            drop.add("elem")
    kept = {key: still(item, key) for key, item in value.items() if key not in drop}
    if name in ("set", "map") and isinstance(kept.get("elem"), list):
        kept["elem"] = sorted(kept["elem"], key=lambda item: json.dumps(item, sort_keys=True))
    return kept


def replacement(tables):
    """The statements that remove tables, whether they exist or not."""
    return "".join("table %s\ndelete table %s\n" % (table, table) for table in tables)


def file_text(content):
    """The file of a ruleset: loading it twice, or over what is there, gives the same as once."""
    return (
        "# Written by Ansible from ha_cluster.ruleset: change it there.\n"
        + replacement(RulesetText(content).tables)
        + (content if content.endswith("\n") else content + "\n")
    )


def moving_sets(text):
    """The sets and maps of a table's text that packets and time change, with their elements."""
    found = {}
    for name, body in re.findall(r"(?ms)^\t(?:set|map) (\S+) \{\n(.*?)^\t\}$", text):
        flags = re.search(r"(?m)^\t\tflags (.*)$", body)
        if not flags or not any(word in flags.group(1) for word in MOVING_SETS):
            continue
        elements = re.search(r"(?s)^\t\telements = \{(.*)\}", body, re.MULTILINE)
        found[name] = elements.group(1).strip() if elements else ""
    return found


def addition(table, name, elements):
    """The statement that gives a set its elements, or nothing."""
    return "add element %s %s { %s }\n" % (table, name, elements) if elements else ""


def steady(text):
    """The text of a table without the elements of sets that packets and time change."""
    found, block = [], []
    for line in text.splitlines():
        stripped = line.strip()
        if re.match(r"(set|map|meter) .*\{$", stripped):
            block = [line]
        elif block and stripped == "}":
            found += without_elements(block) + [line]
            block = []
        elif block:
            block.append(line)
        else:
            found.append(line)
    return "\n".join(found + block) + "\n"


def without_elements(block):
    """A set's lines; of one that moves by itself, those before its elements."""
    flags = [line for line in block if line.strip().startswith("flags ")]
    if not any(word in line for line in flags for word in MOVING_SETS):
        return block
    kept = []
    for line in block:
        if line.strip().startswith("elements = {"):
            break
        kept.append(line)
    return kept
