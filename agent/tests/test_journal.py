# SPDX-License-Identifier: GPL-3.0-or-later
"""Message ids: one for each kind of event, for ever, documented; a datagram that journald reads."""

from __future__ import annotations

from pathlib import Path

from amaranten_ha.io.journal import MESSAGE_IDS, packet

DOCS = Path(__file__).resolve().parents[2] / "docs/status.md"


def test_every_id_is_its_own_and_documented() -> None:
    text = DOCS.read_text()
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    for kind, number in MESSAGE_IDS.items():
        assert len(bytes.fromhex(number)) == 16
        assert f"| `{kind}` | `{number}` |" in text


def test_a_packet_is_lines_of_name_and_value() -> None:
    said = packet("role", "passive -> active: elected (epoch 2)", {"role": "active"}).decode()
    fields = dict(line.split("=", 1) for line in said.splitlines())
    assert fields == {
        "MESSAGE": "passive -> active: elected (epoch 2)",
        "MESSAGE_ID": MESSAGE_IDS["role"],
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "amaranten-ha",
        "AMARANTEN_HA_EVENT": "role",
        "AMARANTEN_HA_ROLE": "active",
    }
    assert said.endswith("\n")
