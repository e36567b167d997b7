# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads the text of keepalived.conf and conntrackd.conf into blocks with their lines.

Both files are words, braces and comments.  This room knows no keyword: what a block means is said
in `_migration`.  It opens no file and judges nothing; a brace that is missing ends its block with
the file.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

WORD = re.compile(r'"([^"]*)"|([{}])|([^\s{}"]+)')


@dataclasses.dataclass(slots=True)
class Statement:
    """A line's words, and the block that follows them, if any."""

    line: int
    words: list[str]
    block: list[Statement] | None = None

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0] if self.words else ""

    @property
    def value(self) -> str:
        """The second word, or nothing."""
        return self.words[1] if len(self.words) > 1 else ""

    def children(self, *names: str) -> t.Iterator[Statement]:
        """Statements of the block with one of these names, whatever their case."""
        for child in self.block or ():
            if child.name.lower() in names:
                yield child


def parse(text: str, comments: str = "#!") -> list[Statement]:
    """The statements of a file; `comments` are the characters that begin a comment."""
    top: list[Statement] = []
    stack = [top]
    for number, line in enumerate(text.splitlines(), start=1):
        current = Statement(number, [])
        for quoted, brace, word in WORD.findall(without_comment(line, comments)):
            if brace == "{":
                if not current.words and stack[-1] and stack[-1][-1].block is None:
                    # The brace of the line before stands on a line of its own.
                    current = stack[-1].pop()
                current.block = []
                stack[-1].append(current)
                stack.append(current.block)
                current = Statement(number, [])
            elif brace == "}":
                if current.words:
                    stack[-1].append(current)
                if len(stack) > 1:
                    stack.pop()
                current = Statement(number, [])
            else:
                current.words.append(word or quoted)
        if current.words:
            stack[-1].append(current)
    return top


def without_comment(line: str, comments: str) -> str:
    """A line up to its comment; one within quotes begins none."""
    inside = False
    for index, sign in enumerate(line):
        if sign == '"':
            inside = not inside
        elif sign in comments and not inside and (index == 0 or line[index - 1].isspace()):
            return line[:index]
    return line
