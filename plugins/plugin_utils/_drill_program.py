# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A program of the drill that runs on some host and tells what it sees, line by line, as JSON.

The drill enters with a session; nothing is installed on the host: the program's text goes through
its standard input, and what follows it there is the program's own.  Reading happens in a thread of
the controller, which only stores what came and when.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
import typing as t

PROGRAMS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    "roles", "drill", "files",
)  # fmt: skip
# Reads exactly the program's text, so that the rest of standard input is left to the program.
LOADER = (
    "import os,sys\n"
    "size=int(sys.argv.pop(1));name=sys.argv.pop(1);text=b''\n"
    "while len(text)<size:\n"
    " part=os.read(0,size-len(text))\n"
    " if not part: sys.exit('the program did not arrive')\n"
    " text+=part\n"
    "sys.argv[0]=name\n"
    "exec(compile(text,name,'exec'),{'__name__':'__main__','__doc__':''})\n"
)


class DrillError(Exception):
    """The drill cannot go on; the sentence says why."""


class BrokenOffError(Exception):
    """The drill is being ended from outside; no DrillError, so that no retry takes it for one."""


def under_way(holder: str) -> DrillError:
    """The refusal of a second drill."""
    return DrillError(
        f"Another drill of this pair is under way ({holder or 'of unknown origin'}), "
        "expected one at a time."
    )


class Channel(t.Protocol):
    """A running command somewhere: an SSH channel or a process of this machine."""

    def lines(self) -> t.Iterator[str]:
        """What it prints, until it ends."""

    def send(self, data: bytes) -> None:
        """Write to its standard input."""

    def close_input(self) -> None:
        """Close its standard input."""

    def complaint(self) -> str:
        """What it said on standard error."""

    def close(self) -> None:
        """Let go of it, whether it has ended or not."""


class Session(t.Protocol):
    """A way to run commands on a host."""

    name: str

    def start(self, command: str) -> Channel:
        """Start a command line of a shell."""


def command_of(program: str, words: t.Sequence[str], python: str) -> tuple[str, bytes]:
    """The shell's command line for a program, and the text to feed it first."""
    with open(os.path.join(PROGRAMS, program), "rb") as file:
        text = file.read()
    line = [python, "-I", "-u", "-c", LOADER, str(len(text)), program, *words]
    return " ".join(shlex.quote(word) for word in line), text


class Program:
    """One running program of the drill."""

    def __init__(
        self, session: Session, program: str, *words: str, python: str = "python3"
    ) -> None:
        self.host = session.name
        self.program = program
        self.said: list[dict[str, t.Any]] = []
        self.progress: dict[str, t.Any] = {}
        self.result: dict[str, t.Any] = {}
        self.ended = False
        self._ready = threading.Event()
        line, text = command_of(program, words, python)
        self._channel = session.start(line)
        self._channel.send(text)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._channel.lines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            said["heard_ns"] = time.monotonic_ns()
            if "progress" in said:
                self.progress = said["progress"]
            elif "result" in said:
                self.result = said["result"]
            else:
                self.said.append(said)
            self._ready.set()
        self.ended = True
        self._ready.set()

    def wait_ready(self, timeout_s: float = 30) -> None:
        """Wait until it is at work, or say in its own words why it is not."""
        self._ready.wait(timeout_s)
        for said in self.said:
            if "locked" in said:
                raise under_way(said["locked"])
        if self.ended or not (self.said or self.progress or self.result):
            raise DrillError(f"{self.program} on {self.host} is not at work: {self._complaint()}.")

    def keep_telling(self, every_s: float) -> None:
        """Write a line to it now and then, as a sign of life, until it or this process ends."""

        def tell() -> None:
            while not self.ended:
                self.ask()
                time.sleep(every_s)

        threading.Thread(target=tell, daemon=True).start()

    def ask(self, line: bytes = b"\n") -> None:
        """Write a line to it."""
        self._channel.send(line)

    def let_end(self) -> None:
        """Ask it to end, without waiting for what it found."""
        self._channel.close_input()

    def finish(self, timeout_s: float = 60) -> dict[str, t.Any]:
        """Ask it to end; what it found, or nothing if it did not tell."""
        self.let_end()
        self._reader.join(timeout_s)
        return self.result

    def close(self) -> None:
        """Let go of it."""
        self._channel.close()

    def _complaint(self) -> str:
        lines = self._channel.complaint().strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def clock_offset_ns(session: Session, python: str, rounds: int = 15) -> tuple[int, int]:
    """(what to add to the host's monotonic clock to get ours, how far off that may be), in ns.

    Half of the shortest way there and back bounds the error.
    """
    clock = Program(session, "clock.py", python=python)
    best = (0, 1 << 62)
    try:
        for number in range(rounds):
            sent_ns = time.monotonic_ns()
            clock.ask()
            deadline = time.monotonic() + 10
            while len(clock.said) <= number:
                if time.monotonic() > deadline or clock.ended:
                    raise DrillError(f"The clock of {session.name} cannot be read.")
                time.sleep(0.0005)
            said = clock.said[number]
            trip_ns = said["heard_ns"] - sent_ns
            if trip_ns < best[1]:
                best = (sent_ns + trip_ns // 2 - said["clock_ns"], trip_ns)
    finally:
        clock.close()
    return best[0], best[1] // 2
