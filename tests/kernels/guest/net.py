# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces, links and commands, as short as the checks would like to say them.

A ``Net`` is one machine on the test bench. ``with net:`` makes the process (its sockets and its
commands) part of that machine until the block ends. Everything vanishes with the process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Self, TypeVar

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFHWADDR = 0x8913, 0x8914, 0x8927
_IFF_UP, _IFF_RUNNING = 0x1, 0x40

T = TypeVar("T")


def enter_new() -> None:
    """Leave the present network namespace for a fresh one with its loopback up."""
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    _ask_device("lo", _SIOCSIFFLAGS, struct.pack("H14x", _IFF_UP))


def _ask_device(device: str, question: int, value: bytes = bytes(16)) -> bytes:
    """An old-style device request: cheaper than starting a program in an emulated machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, question, device.encode().ljust(16, b"\0") + value.ljust(24))
    return answer[16:]


def _enter(handle: int) -> None:
    if _libc.setns(handle, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def command(*words: str, given: str | None = None, refused: bool = False) -> str:
    """Run a command where the process is; it must succeed, or fail if ``refused`` says so."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if (done.returncode != 0) != refused:
        expected = "a refusal" if refused else "success"
        raise AssertionError(f"{' '.join(words)}: exit {done.returncode}, not {expected}: {said}")
    return said


def until(what: str, found: Callable[[], T], timeout_s: float = 10.0) -> T:
    """Ask again until the answer is true-like; the emulated machine may be slow."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.02)


class Net:
    """One machine of the test bench; ``Net.here()`` is the one the check started in."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._before: list[int] = []

    @classmethod
    def here(cls) -> Net:
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def new(cls) -> Net:
        before = cls.here()
        enter_new()
        fresh = cls.here()
        _enter(before._handle)
        return fresh

    @property
    def path(self) -> str:
        """A name that ``ip`` takes where it wants a network namespace."""
        return f"/proc/{os.getpid()}/fd/{self._handle}"

    def __enter__(self) -> Self:
        self._before.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        _enter(self._handle)
        return self

    def __exit__(self, *_raised: object) -> None:
        before = self._before.pop()
        _enter(before)
        os.close(before)

    def run(self, *words: str, given: str | None = None, refused: bool = False) -> str:
        with self:
            return command(*words, given=given, refused=refused)

    def ip(self, *lines: str) -> None:
        """Several ``ip`` commands in one go."""
        self.run("ip", "-batch", "-", given="\n".join(lines) + "\n")

    def nft(self, rules: str, refused: bool = False) -> str:
        return self.run("nft", "-f", "-", given=rules, refused=refused)

    @classmethod
    def of_process(cls, process: int) -> Net:
        """The machine that a process is on; 1 stands for the guest itself."""
        return cls(os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    def get(self, name: str) -> str:
        with self, open("/proc/sys/" + name) as knob:
            return knob.read().strip()

    def set(self, name: str, value: str | int) -> None:
        """Write a sysctl of this machine."""
        with self, open("/proc/sys/" + name, "w") as knob:
            knob.write(str(value))

    def mac(self, device: str) -> str:
        with self:
            return _ask_device(device, _SIOCGIFHWADDR)[2:8].hex(":")

    def running(self, device: str) -> bool:
        """Whether the device is up and has carrier, in the kernel's own opinion."""
        with self:
            flags: int = struct.unpack_from("H", _ask_device(device, _SIOCGIFFLAGS))[0]
        return flags & (_IFF_UP | _IFF_RUNNING) == _IFF_UP | _IFF_RUNNING

    def link_local(self, device: str) -> str:
        """The device's own link-local address, once the kernel has made it."""

        def found() -> str:
            shown = self.run("ip", "-6", "-brief", "addr", "show", "dev", device, "scope", "link")
            return next((word[:-3] for word in shown.split() if word.startswith("fe80:")), "")

        return until(f"{device} has a link-local address", found)

    def link(self, device: str, other: Net, other_device: str) -> None:
        """A cable between two machines; both ends are up."""
        peer = f"peer name {other_device} netns {other.path}"
        self.ip(f"link add {device} type veth {peer}", f"link set {device} up")
        other.ip(f"link set {other_device} up")
