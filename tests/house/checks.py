# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the house, as functions from a file to complaints about it.

Each rule looks at one `Source` and returns sentences; none reads the disk, so that a control case
can hand in a file that breaks it. Which files a rule is about, it says itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
COLUMNS_MAX = 100
PARAGRAPH_WORDS_MIN = 8

CORE = PurePosixPath("agent/src/amaranten_ha/core")
IMPURE = frozenset(
    "asyncio concurrent ctypes cryptography datetime fcntl io logging mmap multiprocessing os"
    " pathlib pyroute2 random secrets select selectors shutil signal socket subprocess tempfile"
    " threading time uuid".split()
)
IMPURE_CALLS = frozenset({"open", "print", "input"})
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"


@dataclass(frozen=True)
class Source:
    """One file of the tree: where it is, relative to the root, and its text."""

    name: str
    text: str

    @property
    def path(self) -> PurePosixPath:
        """The name, in parts."""
        return PurePosixPath(self.name)

    @property
    def is_python(self) -> bool:
        """A module, or a script without a suffix that Python runs."""
        first = self.text.split("\n", 1)[0]
        return self.path.suffix == ".py" or (not self.path.suffix and "python" in first[:40])

    @property
    def is_code(self) -> bool:
        """Python, a script of any kind, or the Makefile."""
        return self.is_python or self.text.startswith("#!") or self.path.name == "Makefile"

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed module."""
        return ast.parse(self.text, self.name)


Check = Callable[[Source], Iterator[str]]


def _imports(tree: ast.Module) -> Iterator[tuple[int, int, str]]:
    """Line, level (number of leading dots) and dotted name of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, node.module or ""


def core_is_pure(source: Source) -> Iterator[str]:
    """core/ knows no clock, socket, file, thread, randomness or log, and nothing outside core."""
    if not (source.is_python and source.path.is_relative_to(CORE)):
        return
    for line, level, name in _imports(source.tree):
        top = name.split(".")[0]
        stranger = top == "amaranten_ha" and not name.startswith("amaranten_ha.core")
        if level > 1 or stranger or (level == 0 and top in IMPURE):
            yield f"{source.name}:{line}: core must not import {'.' * level}{name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield f"{source.name}:{node.lineno}: core must not call {node.func.id}()"


def agent_is_free_of_ansible(source: Source) -> Iterator[str]:
    """The agent runs where no Ansible is, so nothing below agent/ imports it."""
    if source.is_python and source.path.is_relative_to("agent"):
        for line, _level, name in _imports(source.tree):
            if name.split(".")[0] in ("ansible", "ansible_collections"):
                yield f"{source.name}:{line}: the agent must not import {name}"


def module_opens_with_a_paragraph(source: Source) -> Iterator[str]:
    """What room is this, who enters, what never happens here; modules have DOCUMENTATION."""
    documented = ("plugins/modules", "plugins/doc_fragments")
    if not source.is_python or any(source.path.is_relative_to(room) for room in documented):
        return
    if source.path.name == "__init__.py" and not source.text.strip():
        return
    words = (ast.get_docstring(source.tree) or "").split()
    if len(words) < PARAGRAPH_WORDS_MIN:
        yield f"{source.name}:1: the module does not open with a paragraph that says what it is"


def file_is_short(source: Source) -> Iterator[str]:
    """A file that is longer than this holds two nouns."""
    lines = source.text.count("\n")
    if source.is_code and lines > FILE_LINES_MAX:
        yield f"{source.name}: {lines} lines, at most {FILE_LINES_MAX}"


def functions_are_short(source: Source) -> Iterator[str]:
    """Counted from its first line to its last, docstring included."""
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    f"{source.name}:{node.lineno}: {node.name} has {lines} lines,"
                    f" at most {FUNCTION_LINES_MAX}"
                )


def lines_are_narrow(source: Source) -> Iterator[str]:
    """Two files fit side by side."""
    if source.is_python:
        for number, line in enumerate(source.text.splitlines(), 1):
            if len(line) > COLUMNS_MAX:
                yield f"{source.name}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"


def licence_is_named(source: Source) -> Iterator[str]:
    """Each source file says under which licence it is."""
    top = "\n".join(source.text.split("\n")[:4])
    if source.is_code and source.text.strip() and SPDX not in top:
        yield f"{source.name}:1: no line with: {SPDX}"


def names_are_accepted_by_ansible_test(source: Source) -> Iterator[str]:
    """ansible-test refuses `_` as a name, in a run of a minute; here it takes a moment."""
    if not source.is_python:
        return
    for node in ast.walk(source.tree):
        stored = isinstance(node, ast.Name) and node.id == "_"
        argument = isinstance(node, ast.arg) and node.arg == "_"
        function = isinstance(node, ast.FunctionDef) and node.name == "_"
        if stored or argument or function:
            yield f"{source.name}:{node.lineno}: `_` as a name; say what it is, as in _index"


def no_machine_is_named(source: Source) -> Iterator[str]:
    """No path of the machine that a file was written on."""
    homes = r"work|home/\w+|root/\.(?:ansible|cache|config|local|pyenv)"
    pattern = re.compile(rf"(?<![\w.$}}\-])/(?:{homes})/[\w.]+")
    for number, line in enumerate(source.text.splitlines(), 1):
        for found in pattern.findall(line):
            yield f"{source.name}:{number}: a path of one machine: {found}"


def pins_are_at_home(source: Source) -> Iterator[str]:
    """Exact versions of tools stand in requirements/, nowhere else."""
    if source.path.parts[0] in ("requirements", "changelogs"):
        return
    pattern = re.compile(r"(?<![\w=!<>])[A-Za-z][\w.\-]*(?:\[[\w,]+\])?==\d[\w.]*")
    for number, line in enumerate(source.text.splitlines(), 1):
        for found in pattern.findall(line):
            yield f"{source.name}:{number}: a pin outside requirements/: {found}"


CHECKS: tuple[Check, ...] = (
    core_is_pure,
    agent_is_free_of_ansible,
    module_opens_with_a_paragraph,
    file_is_short,
    functions_are_short,
    lines_are_narrow,
    licence_is_named,
    names_are_accepted_by_ansible_test,
    no_machine_is_named,
    pins_are_at_home,
)


def collection_version(galaxy: str) -> str:
    """The version in the text of galaxy.yml."""
    found = re.search(r"^version: *['\"]?([^'\"\s]+)", galaxy, re.MULTILINE)
    return found.group(1) if found else ""


def agent_version(module: str) -> str:
    """The version in the text of the agent's __init__.py."""
    found = re.search(r"^__version__(?:: \w+)? = ['\"]([^'\"]+)['\"]$", module, re.MULTILINE)
    return found.group(1) if found else ""


def missing_reasons(rules: tuple[object, ...], page: str) -> list[str]:
    """The reasons of the role table that the page does not show as `reason`."""
    return sorted({rule.reason for rule in rules if f"`{rule.reason}`" not in page})
