#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make agent`: builds the agent's archive when it is absent or not of its sources.

The work is done by the collection's own plugin_utils, which the role's action plugin uses as well.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILDER = ROOT / "plugins/plugin_utils/_agent_archive.py"


def load_builder():
    """The builder as a module, without Ansible's import machinery."""
    spec = importlib.util.spec_from_file_location("_agent_archive", BUILDER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    builder = load_builder()
    try:
        archive = builder.ensure(ROOT)
    except builder.ArchiveError as error:
        print(f"make agent: {error}", file=sys.stderr)
        return 2
    where = archive.path.relative_to(ROOT)
    print(f"{where}  version {archive.version}  sha256 {archive.sha256[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
