# SPDX-License-Identifier: GPL-3.0-or-later
"""How properties are tested here: an example may take as long as the machine makes it.

Every test of the agent enters through this file. A deadline for each example would fail on a
machine that does other work, and say nothing about the code.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
