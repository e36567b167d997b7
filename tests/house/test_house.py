# SPDX-License-Identifier: GPL-3.0-or-later
"""The house test: the rules of checks.py over the whole tree, and proof that each can fail.

Enter with `make test-fast`. A rule without a control case fails here by itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from amaranten_ha.core.role import RULES
from tests.house import checks
from tests.house.checks import Check, Source

ROOT = Path(__file__).resolve().parents[2]
HEAD = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
PARAGRAPH = '"""A module for a control case, which says enough about itself to pass."""\n'


def core(body: str) -> Source:
    """A module of core/ that breaks no rule but by its body."""
    return Source("agent/src/amaranten_ha/core/sample.py", HEAD + PARAGRAPH + body)


def plain(body: str, name: str = "plugins/action/sample.py") -> Source:
    """A file anywhere else."""
    return Source(name, body)


BREAKS: dict[Check, tuple[Source, ...]] = {
    checks.core_is_pure: (
        core("import time\n"),
        core("def now():\n    from time import monotonic\n    return monotonic()\n"),
        core("import os.path\n"),
        core("from amaranten_ha.io import frames\n"),
        core("from amaranten_ha import io\n"),
        core("from ..io import frames\n"),
        core("text = open('x').read()\n"),
    ),
    checks.agent_is_free_of_ansible: (
        plain("from ansible.module_utils.basic import AnsibleModule\n", "agent/src/a.py"),
        plain("import ansible_collections.amaranten.ha\n", "agent/tests/test_a.py"),
    ),
    checks.module_opens_with_a_paragraph: (
        plain(HEAD + "import os\n"),
        plain(HEAD + '"""Helpers."""\n'),
    ),
    checks.file_is_short: (plain("pass\n" * (checks.FILE_LINES_MAX + 1)),),
    checks.functions_are_short: (
        plain("def f():\n" + "    pass\n" * checks.FUNCTION_LINES_MAX),
        plain("class A:\n    async def f(self):\n" + "        pass\n" * checks.FUNCTION_LINES_MAX),
    ),
    checks.lines_are_narrow: (plain("# " + "x" * (checks.COLUMNS_MAX - 1) + "\n"),),
    checks.licence_is_named: (
        plain(PARAGRAPH),
        plain("#!/usr/bin/env bash\ntrue\n", "tools/sample"),
    ),
    checks.names_are_accepted_by_ansible_test: (
        plain("for _ in (): pass\n"),
        plain("a, _ = 1, 2\n"),
        plain("def f(_): pass\n"),
        plain("def _(): pass\n"),
    ),
    checks.no_machine_is_named: (
        plain("see /" + "work/main/notes\n", "docs/sample.md"),
        plain("x = '/" + "home/someone/.cache'\n"),
        plain("x = '/" + "root/.pyenv/versions'\n"),
    ),
    checks.pins_are_at_home: (
        plain("run: pip install 'pytest=" + "=9.2.0'\n", "Makefile"),
        plain("dependencies = ['a[b]=" + "=1']\n", "pyproject.toml"),
    ),
}

PASSES: tuple[Source, ...] = (
    core("import struct\nfrom amaranten_ha.core import beat\nfrom . import seal\n"),
    plain(HEAD + PARAGRAPH + "def f(_index):\n" + "    pass\n" * (checks.FUNCTION_LINES_MAX - 1)),
    plain("a node's /root/.ssh/config and /usr/lib/amaranten-ha; a == 1\n", "docs/sample.md"),
    plain("pytest=" + "=9.2.0\n", "requirements/dev.txt"),
    plain("", "tests/unit/__init__.py"),
)


def house() -> list[Source]:
    """Every text file that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = []
    for name in sorted(set(listed.stdout.split("\0")) - {""}):
        path = ROOT / name
        if path.is_file():
            data = path.read_bytes()
            if b"\0" not in data:
                found.append(Source(name, data.decode()))
    return found


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """The tree, read once."""
    return house()


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_house(check: Check, sources: list[Source]) -> None:
    complaints = [complaint for source in sources for complaint in check(source)]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_house_rule_can_fail(check: Check) -> None:
    assert BREAKS[check]
    for number, broken in enumerate(BREAKS[check]):
        assert list(check(broken)), f"control case {number} does not break {check.__name__}"
    for fine in PASSES:
        assert not list(check(fine)), f"{check.__name__} complains about a file that is fine"


def test_the_tree_is_really_looked_at(sources: list[Source]) -> None:
    names = {source.name for source in sources}
    assert {"Makefile", "galaxy.yml", "agent/src/amaranten_ha/core/role.py"} <= names


def test_versions_are_equal() -> None:
    collection = checks.collection_version((ROOT / "galaxy.yml").read_text())
    agent = checks.agent_version((ROOT / "agent/src/amaranten_ha/__init__.py").read_text())
    assert collection
    assert collection == agent


def test_versions_differ_in_a_control_case() -> None:
    assert checks.collection_version("name: ha\nversion: 1.2.3\n") == "1.2.3"
    assert checks.agent_version('__version__ = "1.2.4"\n') == "1.2.4"
    assert not checks.collection_version("name: ha\n")
    assert not checks.agent_version("version = 1\n")


def test_every_reason_of_the_role_table_is_in_the_docs() -> None:
    page = ROOT / "docs/roles.md"
    if not page.is_file():
        pytest.skip("docs/roles.md is not written yet")
    assert not checks.missing_reasons(RULES, page.read_text())


def test_a_missing_reason_is_noticed() -> None:
    page = " ".join(f"`{rule.reason}`" for rule in RULES[1:])
    assert checks.missing_reasons(RULES, page) == [RULES[0].reason] or (
        RULES[0].reason in {rule.reason for rule in RULES[1:]}
    )
    assert checks.missing_reasons(RULES, "") == sorted({rule.reason for rule in RULES})
