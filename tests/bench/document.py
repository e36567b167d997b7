# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/benchmarks.md: the part between the marks is written from the merged files, by ``write``.

What stands outside the marks is written by people and explains; what stands inside is written by
the command alone. The section of a bench of which nothing is left to merge stays as it was written.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.lab.plan import ROOT

from . import failover_table, sync_table
from .cells import BUILD
from .figures import Record

DOCUMENT = ROOT / "docs/benchmarks.md"
BEGIN = "<!-- written by make bench-tables: begin -->"
END = "<!-- written by make bench-tables: end -->"


class DocumentError(Exception):
    """The document cannot be written; the sentence says why."""


def heading(merged: Record) -> str:
    """Where a section's figures come from."""
    on = merged["machine"]
    loads = [
        cell["result"]["load_before"]
        for cell in merged["cells"]
        if cell.get("result") and "load_before" in cell["result"]
    ]
    load = f"{min(loads):g} to {max(loads):g}" if loads else "unknown"
    days = sorted({cell["at"][:10] for cell in merged["cells"]})
    called = ", then ".join(f"`{command}`" for command in merged["commands"])
    return (
        f"{called}, commit {merged['commit']}, {', '.join(days) or 'no day'}; "
        f"{on['cores']} cores ({on['processor']}), kernel {on['kernel']}, "
        f"load before a cell {load}."
    )


def section(title: str, merged: Record | None, text: str, page: str) -> str:
    """One bench with its heading; else as the page has it, or the word that it was not run."""
    if merged is None:
        earlier = re.search(rf"^## {title}\n.*?(?=^## |^<!-- )", page, re.DOTALL | re.MULTILINE)
        return earlier[0].rstrip() + "\n" if earlier else f"## {title}\n\nNot measured yet.\n"
    return f"## {title}\n\n{heading(merged)}\n\n{text}\n"


def merged_file(path: Path) -> Record | None:
    """What a bench has merged, or nothing."""
    try:
        found: Record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise DocumentError(f"{path}: not whole; run the bench again, its cells are kept") from None
    return found


def inside(page: str, build: Path = BUILD) -> str:
    """Everything that is to stand between the marks of a page."""
    failover = merged_file(build / "failover.json")
    written = failover_table.text(failover) if failover else ""
    sync = merged_file(build / "sync.json")
    return "\n".join(
        (
            section("Failover and switchover", failover, written, page),
            section("Replication", sync, sync_table.text(sync) if sync else "", page),
        )
    )


def replaced(document: str, text: str) -> str:
    """The document with another text between its marks."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise DocumentError(f"the marks '{BEGIN}' and '{END}' are expected once each")
    return pattern.sub(lambda _found: f"{BEGIN}\n\n{text}\n{END}", document)


def write(path: Path = DOCUMENT, build: Path = BUILD) -> int:
    """Write the tables into the document."""
    page = path.read_text()
    path.write_text(replaced(page, inside(page, build)))
    return 0
