# SPDX-License-Identifier: GPL-3.0-or-later
"""Each transcript says what happens today, and together they show every row of the role table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from simulator.transcripts import FOLDER, drawn

from amaranten_ha.core.role import RULES

FILES = sorted(FOLDER.glob("*.txt"))
_BECAME = re.compile(r" -> [a-z ]+: (.*) \(epoch \d+\)(?: \[(.*)\])?$", re.MULTILINE)
_STAYED = re.compile(r" fw-[ab]  [a-z ]+: (.*)$", re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_transcript_says_is_what_happens(path: Path) -> None:
    text = path.read_text()
    assert text == drawn(text), "make transcripts draws them anew: read the diff"


def test_the_transcripts_show_every_row_of_the_role_table() -> None:
    text = "".join(path.read_text() for path in FILES)
    fired = {rule or reason for reason, rule in _BECAME.findall(text)}
    assert {rule.reason for rule in RULES} <= fired | set(_STAYED.findall(text))
