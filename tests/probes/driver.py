# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the probes in a host of the lab and hearing what they say while they run.

Tests and the demo enter here; the probes themselves know nothing of a lab. A probe that is left
behind is killed when its ``with`` block ends.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

PROGRAMS = Path(__file__).resolve().parents[2] / "roles/drill/files"
UDP_PORT, TCP_PORT = 7000, 7001


class Place(Protocol):
    """Where a probe can be started: a host of the lab."""

    def popen(self, words: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program there."""


class ProbeError(Exception):
    """A probe did not do what it was started for; the sentence holds its own words."""


class Probe:
    """One running probe; what it prints is read as it comes."""

    def __init__(self, place: Place, program: str, *words: str) -> None:
        self.program = program
        self.progress: dict[str, Any] = {}
        self.result: dict[str, Any] = {}
        self._ready = threading.Event()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the probe)
        self._process = place.popen(
            ["/usr/bin/python3", "-I", str(PROGRAMS / program), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.progress = said.get("progress", self.progress)
            self.result = said.get("result", self.result)
            if "ready" in said or "progress" in said:
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_details: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        self._errors.close()

    def wait_ready(self, timeout_s: float = 30) -> None:
        """Wait until it says that it is at work."""
        if not self._ready.wait(timeout_s) or self._process.poll() is not None:
            raise ProbeError(f"{self.program} is not at work: {self._complaint()}")

    def pause(self, seconds: float) -> None:
        """Stop it for a while, as a busy machine does."""
        self._process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    def finish(self, timeout_s: float = 60) -> dict[str, Any]:
        """Ask it to end, and return what it found."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 60) -> dict[str, Any]:
        """Let it come to its own end, and return what it found."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProbeError(f"{self.program} did not end within {timeout_s:g} s") from None
        self._reader.join(timeout_s)
        if not self.result:
            raise ProbeError(f"{self.program} ended without a result: {self._complaint()}")
        return self.result

    def _complaint(self) -> str:
        self._errors.seek(0)
        return self._errors.read().strip()[-500:] or "it said nothing"


def echo(
    place: Place, seconds: float = 600, *, udp_port: int = UDP_PORT, tcp_port: int = TCP_PORT
) -> Probe:
    """A server for both kinds of probe; port 0 leaves a kind out."""
    words = ["--udp", str(udp_port), "--tcp", str(tcp_port), "--seconds", str(seconds)]
    probe = Probe(place, "echo.py", *words)
    probe.wait_ready()
    return probe


def udp(
    place: Place,
    target: str,
    *,
    rate: float = 1000,
    seconds: float = 600,
    port: int = UDP_PORT,
    packets: Path | None = None,
) -> Probe:
    """Requests at a steady rate from one flow."""
    words = [target, str(port), "--rate", str(rate), "--seconds", str(seconds)]
    if packets is not None:
        words += ["--packets", str(packets)]
    probe = Probe(place, "udp_probe.py", *words)
    probe.wait_ready()
    return probe


def tcp(
    place: Place,
    target: str,
    *,
    connections: int = 200,
    every_ms: int = 200,
    seconds: float = 600,
    port: int = TCP_PORT,
) -> Probe:
    """Long-lived connections that ping-pong; established when this returns."""
    words = ["--connections", str(connections), "--every-ms", str(every_ms)]
    probe = Probe(place, "tcp_pingpong.py", target, str(port), *words, "--seconds", str(seconds))
    probe.wait_ready(60)
    return probe
