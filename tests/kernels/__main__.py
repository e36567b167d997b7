# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.kernels`` builds the guest images ahead of the tests, and says what it does."""

from __future__ import annotations

import sys

from tools.aptroot import HostError

from . import image, recipe


def main() -> int:
    def say(line: str) -> None:
        print(f"kernels: {line}", flush=True)

    try:
        image.need_emulator(say)
        for guest in recipe.GUESTS:
            built = image.image_of(guest, say)
            say(f"{guest.name}: ready ({built.versions[recipe.KERNEL_PACKAGE]})")
    except HostError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
