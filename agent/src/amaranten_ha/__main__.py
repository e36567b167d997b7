# SPDX-License-Identifier: GPL-3.0-or-later
"""The one door of the archive: `__main__.py gate|stage|heart|sync`, or `operator COMMAND`.

The word `operator` keeps a person at a shell from starting a second heart by mistake. The door puts
its own archive first on the path, imports only the service that was asked for, and turns an error
of ours into one sentence on standard error.
"""

from __future__ import annotations

import importlib
import os
import sys

SERVICES = ("gate", "stage", "heart", "sync")
OPERATOR = "operator"


def main(arguments: list[str]) -> int:
    """Run a service or a command; return its exit code (2 for bad input)."""
    if not arguments or arguments[0] not in (*SERVICES, OPERATOR):
        print(f"expected one of: {', '.join((*SERVICES, OPERATOR))}", file=sys.stderr)
        return 2
    if arguments[0] == OPERATOR:
        from amaranten_ha.cli import main as command

        return command(arguments[1:])
    from amaranten_ha.core.errors import ConfigurationError, HaError

    if arguments[0] == "heart":
        from amaranten_ha.io.urgent import take_precedence

        take_precedence()
    service = importlib.import_module(f"amaranten_ha.{arguments[0]}")
    try:
        code: int = service.main(arguments[1:])
        return code
    except HaError as error:
        print(error, file=sys.stderr, flush=True)
        return 2 if isinstance(error, ConfigurationError) else 1


if __name__ == "__main__":
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main(sys.argv[1:]))
