# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.kernels`` builds the guest images ahead of the tests, and says what it does.

With names of figures (``bulk.half_a_million``) it measures them in one guest, one after the other,
and writes them to build/bench/kernels.json. Exit codes: 0 done, 1 a figure could not be had, 2 no
guest could be made or there is no such figure.
"""

from __future__ import annotations

import json
import sys

from tools.aptroot import HostError

from . import boot, image, recipe

GUEST = recipe.GUESTS[0]
RESULTS = recipe.ROOT / "build" / "bench" / "kernels.json"


def say(line: str) -> None:
    print(f"kernels: {line}", flush=True)


def measure(names: list[str]) -> int:
    """Measure some figures on one kernel, and keep what they say."""
    work = recipe.ROOT / "build" / "kernels" / boot.FIGURES.folder
    say(f"measuring {', '.join(names)} in an emulated machine, for minutes; see {work}/console.txt")
    made = image.image_of(GUEST, say)
    session = boot.boot(made, names, work, boot.FIGURES)
    results = {name: session.result(name) for name in names}
    for name, result in results.items():
        say(f"{name}: {result.text.strip()}")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    figures = {name: json.loads(each.text) for name, each in results.items() if each.passed}
    RESULTS.write_text(json.dumps({"kernel": session.kernel, "figures": figures}, indent=1) + "\n")
    return 0 if len(figures) == len(names) else 1


def main(names: list[str]) -> int:
    known = boot.functions(boot.FIGURES.folder)
    for name in names:
        if name not in known:
            print(f"kernels: {name}: expected one of {', '.join(known)}", file=sys.stderr)
            return 2
    try:
        image.need_emulator(say)
        if names:
            return measure(names)
        for guest in recipe.GUESTS:
            built = image.image_of(guest, say)
            say(f"{guest.name}: ready ({built.versions[recipe.KERNEL_PACKAGE]})")
    except HostError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
