# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sentences in which bad input is refused.

Every check of the controller enters its findings here: the variable, its value and what was
expected, one sentence each.  Nothing is raised and nothing is printed in this room, and a secret
never enters it: a key is named by its id.
"""

from __future__ import annotations

import typing as t

VALUE_LENGTH_MAX = 80


def shown(value: object) -> str:
    """The value as a person wrote it, on one line and not longer than a line."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    if len(text) > VALUE_LENGTH_MAX:
        return text[: VALUE_LENGTH_MAX - 3] + "..."
    return text


class Problems:
    """Collects what is wrong, in the order in which it was found, each thing once."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, path: str, value: object, expected: str) -> None:
        """Value at path is not what was expected."""
        self.say(f"{path} is {shown(value)}, expected {expected}.")

    def missing(self, path: str, expected: str) -> None:
        """There is nothing at path."""
        self.say(f"{path} is missing, expected {expected}.")

    def say(self, sentence: str) -> None:
        """A sentence that does not fit the pattern of the others."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def __bool__(self) -> bool:
        return bool(self.sentences)

    def text(self) -> str:
        """All sentences, a line each."""
        return "\n".join(self.sentences)


def plain(value: t.Any) -> t.Any:
    """A deep copy in Python's own types: the controller's variables carry tags and templates."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
