# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest's first process: mount, load modules, run the checks, power the guest off.

Started by the guest's kernel and by nobody else: anything that is not process 1 of a kernel
booted with our own word on its command line is refused before the first system call, because
the last one switches a machine off.
"""

import ctypes
import os
import sys
import termios
import traceback
import tty

WORD = "amaranten_ha.kernels"
RESULTS = "/dev/ttyS1"
PROJECT = "/project"

_libc = ctypes.CDLL(None, use_errno=True)
_RB_POWER_OFF = 0x4321FEDC
_FINIT_MODULE = 313  # x86-64


def mount(kind, where):
    os.makedirs(where, exist_ok=True)
    if _libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {kind} on {where}")


def load_modules(folder="/modules"):
    for name in sorted(os.listdir(folder)):
        handle = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.syscall(_FINIT_MODULE, handle, b"", 0) != 0:
                raise OSError(ctypes.get_errno(), f"cannot load {name}")
        finally:
            os.close(handle)


def run_checks():
    """In a process of its own, so that nothing a check does can take process 1 along."""
    worker = os.fork()
    if worker == 0:
        sys.path[:0] = [PROJECT, os.path.join(PROJECT, "agent", "src")]
        line = os.open(RESULTS, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        tty.setraw(line, termios.TCSANOW)
        from tests.kernels.guest import runner

        runner.run(line)
        termios.tcdrain(line)
        os._exit(0)
    while os.waitpid(-1, 0)[0] != worker:  # orphans of checks end here too
        pass


def main():
    if os.getpid() != 1:
        sys.exit("init: this is the first process of a guest and is started by its kernel only")
    mount("proc", "/proc")
    with open("/proc/cmdline") as words:
        if WORD not in words.read().split():
            sys.exit("init: not a guest of the kernel tests")
    try:
        mount("sysfs", "/sys")
        mount("devtmpfs", "/dev")
        mount("tmpfs", "/run")
        mount("tmpfs", "/tmp")
        os.environ["PATH"] = "/usr/sbin:/usr/bin"
        load_modules()
        run_checks()
    except BaseException:  # noqa: BLE001  process 1 must reach the power switch, whatever happened
        traceback.print_exc()
    _libc.reboot(_RB_POWER_OFF)


if __name__ == "__main__":
    main()
