# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`ha_cluster.replicate_sets`: named sets of the ruleset whose elements both nodes have.

The reader enters with the value, and the check of a rendered ruleset with the names: each must be
a set that the ruleset declares, and one that can be replicated.  A set that is declared in another
way than inside its table's block cannot be told, and is left to the agent, which says so itself.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

PATH = "ha_cluster.replicate_sets"
COUNT_MAX = 32
FAMILIES = ("inet", "ip", "ip6", "bridge", "netdev")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_/\\.-]{0,127}")
EXPECTED = "a family (inet, ip, ip6, bridge or netdev), a table and a set, as 'inet filter banned'"


def named_sets(raw: object, problems: Problems) -> tuple[str, ...]:
    """The names, each once."""
    if not isinstance(raw, list) or len(raw) > COUNT_MAX:
        problems.add(PATH, raw, f"a list of at most {COUNT_MAX} names of sets")
        return ()
    for index, value in enumerate(raw):
        words = value.split(" ") if isinstance(value, str) else []
        if len(words) != 3 or words[0] not in FAMILIES or not all(map(WORD.fullmatch, words[1:])):
            problems.add(f"{PATH}[{index}]", value, EXPECTED)
        elif value in raw[:index]:
            problems.add(f"{PATH}[{index}]", value, "each set once")
    return tuple(str(value) for value in raw)


def set_findings(text: RulesetText, names: t.Sequence[str], node: str) -> t.Iterator[str]:
    """Say which of the names are no set of this ruleset, or one that cannot be replicated."""
    for index, name in enumerate(names):
        family, table, made = name.split(" ")
        place = f"{PATH}[{index}] is '{name}', expected a set that"
        if f"{family} {table}" not in text.tables:
            yield f"{place} the ruleset declares; it declares no table {family} {table} for {node}"
        elif name in text.sets:
            flags = {word.text for word in text.sets[name] if not word.quoted}
            if flags & {"interval", "constant"}:
                kind = "interval" if "interval" in flags else "constant"
                yield f"{place} does not say `flags {kind}`: such sets are not replicated"
        elif not text.flat_sets:
            yield f"{place} the ruleset declares in its table {family} {table}"
