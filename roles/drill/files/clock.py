# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer every line of standard input with the monotonic clock, so that its offset can be measured.

A drill enters over an SSH session of its own and keeps the answer with the shortest way there and
back. Nothing is installed and nothing is kept.
"""

import json
import os
import sys
import time


def main():
    """Answer until standard input is closed."""
    while os.read(sys.stdin.fileno(), 4096):
        print(json.dumps({"clock_ns": time.monotonic_ns()}), flush=True)


if __name__ == "__main__":
    main()
