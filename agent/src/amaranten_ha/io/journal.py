# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what happened, with an id that stays the same for ever, for alarms to match.

Heart enters with an event. Under systemd it goes to the journal's own socket, with fields beside
the text; without it, to standard error as a line. Nothing waits: a journal that does not read
loses the line, the trace has it all the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

PATH = "/run/systemd/journal/socket"
MESSAGE_IDS = {
    "role": "4171f81e79584e40a4a084c9723342e3",
    "claim": "b3a88b3167514abcbd7e3f4aae0d9b27",
    "dual-active": "1015ea6d30d54e8da76d08384a7bce58",
    "ready": "05d672d5284b4fc89aa847ec27db6746",
    "replica": "b5be1d9f00694ab8aabd2574304816c7",
    "gate": "1fecbb0f25b74f86a8285a5863439d43",
    "held": "2568586f2e8a4c6d849f9ebea0271ef2",
    "damping": "934f057a42fd4df68662d6f2cff80e45",
    "target": "b148b38914da4b2ca47ece1480823ce3",
    "wiring": "0516833bb436414ea5efe43a8a89da30",
    "forwarding": "0d64be9adc154896ad61c8750aa8b932",
    "conflict": "2dd241660aad43de8106107f8606e74f",
}
"""By kind of event; never changed and never used again for another kind. A note has none."""
_PRIORITIES = {"role": 5, "claim": 5, "dual-active": 3, "target": 4}
_PRIORITIES |= dict.fromkeys(("wiring", "forwarding", "conflict"), 4)
_PRIORITY = 6


class Journal:
    """Where heart says what happened."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        os.set_blocking(sys.stderr.fileno(), False)
        # Set by systemd where standard error is the journal (systemd.exec(5)).
        if "JOURNAL_STREAM" in os.environ:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )

    def say(self, kind: str, text: str, fields: dict[str, str]) -> None:
        """Send one event; a line break in the text becomes a space."""
        text = " ".join(text.splitlines())
        if self._socket is not None and kind in MESSAGE_IDS:
            with contextlib.suppress(OSError):
                # By its name each time: a journal that was restarted listens on another socket.
                self._socket.sendto(packet(kind, text, fields), PATH)
                return
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"{text}\n".encode())


def packet(kind: str, text: str, fields: dict[str, str]) -> bytes:
    """Return a datagram of the journal's native protocol; values are of one line each."""
    said = {
        "MESSAGE": text,
        "MESSAGE_ID": MESSAGE_IDS[kind],
        "PRIORITY": str(_PRIORITIES.get(kind, _PRIORITY)),
        "SYSLOG_IDENTIFIER": "amaranten-ha",
        "AMARANTEN_HA_EVENT": kind,
        **{f"AMARANTEN_HA_{name.upper()}": value for name, value in fields.items()},
    }
    return "".join(f"{name}={value}\n" for name, value in said.items()).encode()
