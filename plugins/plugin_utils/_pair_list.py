# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A list of pairs as an inventory file has it: which hosts, which name, which `ha_cluster`.

The inventory plugin enters.  Values inside of `ha_cluster` may still be templates here, so only
what makes hosts and groups is judged; the rest is for `_cluster`.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems

NAME = re.compile(r"[A-Za-z0-9_]{1,32}")
PAIR_KEYS = ("hosts", "cluster", "vars")
NAMED = ("name", "primary", "backup")


@dataclasses.dataclass(frozen=True, slots=True)
class ListedPair:
    """One pair: its hosts with their variables, the primary first."""

    name: str
    hosts: dict[str, dict[str, t.Any]]
    cluster: dict[str, t.Any]
    variables: dict[str, t.Any]


class PairList:
    """Reads the pairs; `problems` holds what was wrong with them."""

    def __init__(self, pairs: t.Mapping[t.Any, t.Any], common: t.Mapping[str, t.Any]) -> None:
        """`common` is what every `ha_cluster` has unless its pair says otherwise."""
        self._pairs = pairs
        self._common = common
        self._pair_of_host: dict[str, str] = {}
        self._pair_of_id: dict[t.Any, str] = {}
        self.problems = Problems()

    def read(self) -> list[ListedPair]:
        """Return the pairs that are right."""
        self._not_twice("cluster", self._common)
        if not self._pairs:
            self.problems.missing("pairs", "at least one pair by its name")
        found = (self._pair(name, given) for name, given in self._pairs.items())
        return [pair for pair in found if pair is not None]

    def _pair(self, name: object, given: object) -> ListedPair | None:
        path = f"pairs.{name}"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self.problems.say(f"{path} is not a name, expected at most 32 letters, digits and _.")
            return None
        if not isinstance(given, dict):
            self.problems.add(path, given, "a dict with " + ", ".join(PAIR_KEYS))
            return None
        for key in given:
            if key not in PAIR_KEYS:
                self.problems.say(f"{path}.{key} is not known, expected {', '.join(PAIR_KEYS)}.")
        hosts = self._hosts(f"{path}.hosts", given.get("hosts"), name)
        cluster = self._dict(f"{path}.cluster", given.get("cluster", {}))
        variables = self._dict(f"{path}.vars", given.get("vars", {}))
        if hosts is None or cluster is None or variables is None:
            return None
        self._own_id(f"{path}.cluster.id", cluster.get("id"), name)
        self._not_twice(f"{path}.cluster", cluster)
        primary, backup = hosts
        named = {"name": name, "primary": primary, "backup": backup}
        return ListedPair(name, hosts, {**self._common, **cluster, **named}, variables)

    def _hosts(self, path: str, given: object, pair: str) -> dict[str, dict[str, t.Any]] | None:
        if not isinstance(given, dict) or len(given) != 2:
            self.problems.add(path, given, "exactly two hosts by name: this product is a pair")
            return None
        for host in given:
            other = self._pair_of_host.setdefault(str(host), pair)
            if other != pair:
                self.problems.say(
                    f"{path} has {host}, which is in pairs.{other} too, "
                    "expected each host in one pair."
                )
        found = {
            str(host): self._dict(f"{path}.{host}", {} if variables is None else variables)
            for host, variables in given.items()
        }
        return None if None in found.values() else t.cast("dict[str, dict[str, t.Any]]", found)

    def _own_id(self, path: str, number: object, pair: str) -> None:
        if number is None:
            self.problems.missing(path, "a whole number that no other pair has")
            return
        other = self._pair_of_id.setdefault(str(number), pair)
        if other != pair:
            self.problems.add(path, number, f"another than that of pairs.{other}")

    def _not_twice(self, path: str, cluster: t.Mapping[str, t.Any]) -> None:
        for key in NAMED:
            if key in cluster:
                self.problems.add(
                    f"{path}.{key}", cluster[key], "nothing: the pair's name and hosts say it"
                )

    def _dict(self, path: str, value: object) -> dict[str, t.Any] | None:
        if isinstance(value, dict):
            return value
        self.problems.add(path, value, "a dict")
        return None
