# SPDX-License-Identifier: GPL-3.0-or-later
"""The gatekeepers of our Python, each as one test: ruff on the tree, mypy --strict on the agent.

The tools print what they found; a control case proves that mypy is strict.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MYPY = ("-m", "mypy", "--config-file", "agent/pyproject.toml")


def gate(*arguments: str | Path) -> None:
    """Run one tool of the venv from the root; its own output is the failure."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def test_ruff() -> None:
    gate("-m", "ruff", "check", "--quiet", ".")


def test_mypy_strict_on_the_agent() -> None:
    gate(*MYPY)


@pytest.mark.parametrize(
    "line", ["def f(x): return x", "x: list = []", "import absent_library", "def f() -> int: ..."]
)
def test_mypy_can_fail(tmp_path: Path, line: str) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(f"{line}\n")
    with pytest.raises(pytest.fail.Exception):
        gate(*MYPY, sample)
