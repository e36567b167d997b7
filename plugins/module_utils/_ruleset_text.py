# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads a ruleset's text just far enough to know its tables and its rules, line by line.

The controller enters with a rendered template before anything is touched, the module on the node
with the same text before it is loaded.  This is no judge of nftables syntax: `nft --check` is.  It
never runs anything, and what it does not understand it leaves to nft.

Note: this is a private module_util; it may change without notice.
"""

from __future__ import annotations

import re

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
RESERVED_TABLE = "netdev amaranten_ha"
TOKEN = re.compile(
    r"""(?P<gap>[ \t\r]+|\\\n|\#[^\n]*)|(?P<end>[;\n])|(?P<text>"[^"\n]*"?|[{},]|[^\s;{},"#]+)"""
)
OBJECTS = (
    "rule",
    "chain",
    "set",
    "map",
    "element",
    "flowtable",
    "counter",
    "quota",
    "limit",
    "ct",
    "secmark",
)


class Word(object):
    """A word of the text, without its quotes, and the line on which it stands."""

    __slots__ = ("line", "quoted", "text")

    def __init__(self, text, line):
        self.quoted = text.startswith('"')
        self.text = text.strip('"') if self.quoted else text
        self.line = line

    def __repr__(self):
        return "%s@%d" % (self.text, self.line)


class Rule(object):
    """A rule: where it is, and its words, braces included."""

    __slots__ = ("chain", "family", "table", "words")

    def __init__(self, family, table, chain, words):
        self.family = family
        self.table = table
        self.chain = chain
        self.words = words

    @property
    def line(self):
        """The line on which it begins."""
        return self.words[0].line

    def texts(self):
        """Its words as text."""
        return [word.text for word in self.words]


class RulesetText(object):
    """What a ruleset's text declares: tables, rules and defines; and what it must not do."""

    def __init__(self, text):
        self.tables = []
        self.rules = []
        # "family table set" -> the words of its block, if it is declared inside of its table.
        self.sets = {}
        # Sets are declared by statements of their own as well; those are not read.
        self.flat_sets = False
        self.defines = {}
        self.refused = []
        self._used = []
        for statement in statements(words_of(text)):
            self._take(statement)
        for table, word in self._used:
            if table not in self.tables:
                self.refused.append(
                    (
                        word.line,
                        "changes the table %s, expected only tables that this ruleset declares "
                        "itself" % table,
                    )
                )

    def value_of(self, word):
        """What a word stands for: a define's words, or itself."""
        if word.text.startswith("$") and not word.quoted:
            return self.defines.get(word.text[1:], [word])
        return [word]

    def _take(self, words):
        verb = words[0].text
        if verb in ("define", "redefine") and len(words) > 3 and words[2].text == "=":
            self.defines[words[1].text] = [
                value for word in words[3:] for value in self.value_of(word)
            ]
        elif verb == "include":
            self.refused.append(
                (
                    words[0].line,
                    "includes a file of the node, expected a ruleset that is complete by itself",
                )
            )
        elif verb == "flush" and len(words) > 1 and words[1].text == "ruleset":
            self.refused.append(
                (
                    words[0].line,
                    "says `flush ruleset`, which removes the tables of other software as well, "
                    "expected only tables: they are replaced as a whole without it",
                )
            )
        elif verb == "table":
            self._table(words[1:])
        elif verb in ("add", "create", "insert", "replace") and len(words) > 1:
            if words[1].text == "table":
                self._table(words[2:])
            elif words[1].text in OBJECTS:
                self._flat(words)
        elif verb in ("delete", "flush", "destroy", "reset", "rename") and len(words) > 2:
            self._undo(words)

    def _table(self, words):
        family, name, rest = family_and_name(words)
        if name is None:
            return
        table = "%s %s" % (family, name.text)
        if table == RESERVED_TABLE:
            self.refused.append(
                (
                    name.line,
                    "declares table %s, which is the agent's own, expected another name" % table,
                )
            )
        if table not in self.tables:
            self.tables.append(table)
        for statement in statements(inside(rest)):
            if statement[0].text == "chain" and len(statement) > 2:
                for rule in statements(inside(statement[2:])):
                    self.rules.append(Rule(family, name.text, statement[1].text, rule))
            elif statement[0].text == "set" and len(statement) > 2:
                self.sets["%s %s" % (table, statement[1].text)] = inside(statement[2:])

    def _flat(self, words):
        rest = words[2:]
        if words[1].text == "ct" and rest:
            rest = rest[1:]
        family, name, rest = family_and_name(rest)
        if name is None:
            return
        self._used.append(("%s %s" % (family, name.text), words[0]))
        self.flat_sets |= words[1].text == "set"
        if words[1].text == "rule" and len(rest) > 1:
            self.rules.append(Rule(family, name.text, rest[0].text, rest[1:]))

    def _undo(self, words):
        family, name, dummy = family_and_name(words[2:])
        if name is None or words[1].text in ("handle",):
            return
        self._used.append(("%s %s" % (family, name.text), words[0]))


def words_of(text):
    """The words of a text; the end of a statement is a Word with the text ';'."""
    words = []
    line = 1
    for match in TOKEN.finditer(text):
        if match.group("end"):
            words.append(Word(";", line))
        elif match.group("text"):
            words.append(Word(match.group("text"), line))
        line += match.group().count("\n")
    return words


def statements(words):
    """Lists of words between ends; what is in braces belongs to its statement."""
    depth = 0
    statement = []
    for word in words:
        brace = word.text if not word.quoted else ""
        if brace == ";" and depth == 0:
            if statement:
                yield statement
            statement = []
            continue
        if brace == "{":
            depth += 1
        elif brace == "}":
            depth = max(0, depth - 1)
        statement.append(word)
        if brace == "}" and depth == 0 and statement[0].text in BLOCKS:
            yield statement
            statement = []
    if statement:
        yield statement


# Statements that end with their closing brace, without a ';' or a line's end after it.
BLOCKS = (
    "table",
    "chain",
    "set",
    "map",
    "flowtable",
    "counter",
    "quota",
    "limit",
    "ct",
    "secmark",
    "synproxy",
)


def inside(words):
    """The words within the first pair of braces."""
    depth = 0
    found = []
    for word in words:
        if word.text == "}" and not word.quoted:
            depth -= 1
            if depth == 0:
                return found
        if depth > 0:
            found.append(word)
        if word.text == "{" and not word.quoted:
            depth += 1
    return found


def family_and_name(words):
    """(family, the name's Word or None, the words after it); `ip` is nft's default family."""
    words = (
        [word for word in words if word.text != ";"] if words and words[0].text == ";" else words
    )
    if words and words[0].text in FAMILIES and len(words) > 1 and words[1].text not in (";", "{"):
        return words[0].text, words[1], words[2:]
    if words and words[0].text not in (";", "{", "}"):
        return "ip", words[0], words[1:]
    return "ip", None, []
