# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator's tool makes of a status: figures for monitoring, and the last drill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amaranten_ha.cli import last_drill, performance
from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.settings import key_ring

STATUS: dict[str, Any] = {
    "epoch": 4,
    "held_s": None,
    "replica": {"share_permille": 998, "lag_ms": 3, "entries": 100},
    "margin": {"near_misses": 2, "nodes": {"fw-a": {"late_ms": 0.3}, "fw-b": {"late_ms": 12.5}}},
}


def test_figures_are_label_value_warning_critical_min_max() -> None:
    assert performance(STATUS) == (
        " | share=99.8%;99.9:;;0;100 lag=3ms;1000;;0 entries=100;;;0 near_misses=2c"
        " late=12.5ms;;;0 held=0s;;;0 epoch=4c"
    )


def test_the_last_drill_is_read_or_there_was_none(tmp_path: Path) -> None:
    path = tmp_path / "drill.json"
    assert last_drill(path, 1000.0) is None
    path.write_text('{"drill": "switchover", "ok": true, "time": 400}')
    assert last_drill(path, 1000.0) == {"drill": "switchover", "ok": True, "age_s": 600}
    for broken in ("", "[]", '{"drill": "switchover"}', '{"drill": 1, "ok": 1, "time": "soon"}'):
        path.write_text(broken)
        assert last_drill(path, 1000.0) is None


@pytest.mark.parametrize("value", ["c2VjcmV0", "not base64!", 7])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(ConfigurationError) as refused:
        key_ring({"1": value}, 1)
    assert "c2Vj" not in str(refused.value) and "secret" not in str(refused.value)
