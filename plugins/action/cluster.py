# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gate before everything: the pair in the inventory is right, or nothing is touched.

Every play enters here first, on the controller and without a connection, for the whole pair even if
the play is limited to one node.  A group of more than two hosts is several pairs, told apart by
their ids.  It gathers `ha_cluster` as both hosts see it, has it read and
checked, renders the ruleset for both nodes and looks for what must not be in it.  It changes
nothing, and returns no key.
"""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible_collections.amaranten.ha.plugins.module_utils._keys import hashed
from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import RulesetText
from ansible_collections.amaranten.ha.plugins.plugin_utils import _cluster_files as files
from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster import Reader
from ansible_collections.amaranten.ha.plugins.plugin_utils._cluster_checks import check
from ansible_collections.amaranten.ha.plugins.plugin_utils._masquerade import findings, source_line
from ansible_collections.amaranten.ha.plugins.plugin_utils._named_sets import set_findings
from ansible_collections.amaranten.ha.plugins.plugin_utils._node_checks import (
    check_keys,
    check_node,
    check_timers,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Cluster
from ansible_collections.amaranten.ha.plugins.plugin_utils._problems import Problems, plain, shown
from ansible_collections.amaranten.ha.plugins.plugin_utils._together import together

COLLECTION_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GROUP = "firewalls"


class Refused(Exception):
    """The pair is refused; the arguments are the sentences."""


class ActionModule(ActionBase):
    """Validates and normalises the pair; see the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Return the pair as facts, or fail with every sentence."""
        result = super().run(tmp, task_vars)
        _valid, arguments = self.validate_argument_spec(
            argument_spec={
                "nodes": {"type": "dict", "default": {}},
                "force_timers": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        nodes = plain(arguments["nodes"])
        node = str(variables.get("inventory_hostname", ""))
        try:
            cluster, rulesets = self.pair(variables, node)
            self.judge(variables, cluster, nodes, arguments["force_timers"])
        except Refused as refusal:
            result.update(failed=True, msg="\n".join(refusal.args))
            return result
        result.update(changed=False, pair=files.facts(cluster, node), order=order(cluster, nodes))
        result["together"] = together(cluster, nodes)
        if node in rulesets:
            result["ruleset"] = rulesets[node]
            result["ruleset_template"] = self.template_path(variables, cluster)
            result["ruleset_digest"] = files.ruleset_digest(cluster, rulesets)
            result["agent_toml"] = files.agent_toml(cluster, node)
            result["digests_toml"] = files.digests_toml(cluster, rulesets)
            keys = self.raw_cluster(variables, node)["keys"]
            result["key_ring"] = {
                "ids": {str(number): hashed(key) for number, key in sorted(keys.items())},
                "send_key": cluster.send_key,
            }
        return result

    def pair(self, variables: dict[str, t.Any], host: str) -> tuple[Cluster, dict[str, str]]:
        """The checked pair of a host, and for each node its rendered ruleset.

        A host that is no node, as the controller itself, stands for all pairs: each is checked, and
        the first one returned.
        """
        hosts = [str(each) for each in variables.get("groups", {}).get(GROUP, [])]
        found = None
        for pair in self.pairs(variables, hosts):
            if host not in hosts or host in pair:
                checked = self.checked(variables, pair)
                found = found or checked
        if found is None:
            raise Refused(f"{host} is in no pair of the group {GROUP}, expected one.")
        return found

    def pairs(self, variables: dict[str, t.Any], hosts: list[str]) -> list[list[str]]:
        """The hosts of the group by their cluster's id, two and two.

        Up to two hosts are one pair, whatever they say, so that a difference between them is named.
        """
        if len(hosts) == 2:
            return [hosts]
        by_id: dict[str, list[str]] = {}
        for host in hosts:
            by_id.setdefault(shown(self.cluster_id(variables, host)), []).append(host)
        if len(by_id) <= 1:
            raise Refused(
                f"The group {GROUP} has {count(hosts)}, "
                "expected exactly two: this product is a pair."
            )
        wrong = {number: pair for number, pair in by_id.items() if len(pair) != 2}
        if wrong:
            raise Refused(
                *(
                    f"ha_cluster.id {number} is that of {count(pair)} in the group {GROUP}, "
                    "expected exactly two: this product is a pair."
                    for number, pair in wrong.items()
                )
            )
        return list(by_id.values())

    def cluster_id(self, variables: dict[str, t.Any], host: str) -> object:
        """The id that a host says its pair has; without templating the rest if it is a number."""
        raw = variables["hostvars"].raw_get(host).get("ha_cluster")
        number = raw.get("id") if isinstance(raw, dict) else None
        if isinstance(number, int):
            return int(number)
        return self.raw_cluster(variables, host).get("id")

    def checked(
        self, variables: dict[str, t.Any], hosts: list[str]
    ) -> tuple[Cluster, dict[str, str]]:
        """One pair, read and judged."""
        raw = {host: self.raw_cluster(variables, host) for host in hosts}
        first, second = hosts
        if raw[first] != raw[second]:
            keys = sorted(
                str(k)
                for k in set(raw[first] or {}) | set(raw[second] or {})
                if (raw[first] or {}).get(k) != (raw[second] or {}).get(k)
            )
            raise Refused(
                f"ha_cluster.{keys[0]} differs between {first} and {second}, expected one dict for "
                "both, as in the vars of their group."
            )
        reader = Reader(raw[first], hosts)
        cluster = reader.read()
        if cluster is not None:
            check(cluster, reader.problems)
        if cluster is None or reader.problems:
            raise Refused(*reader.problems.sentences)
        return cluster, self.rulesets(variables, cluster)

    def raw_cluster(self, variables: dict[str, t.Any], host: str) -> t.Any:
        """`ha_cluster` of a host, all templates in it resolved, in Python's own types."""
        hostvars = variables["hostvars"][host]
        try:
            if "ha_cluster" in hostvars:
                found = plain(hostvars["ha_cluster"])
            elif "ha_cluster" in variables:
                found = plain(self._templar.template(variables["ha_cluster"]))
            else:
                raise Refused(
                    f"ha_cluster is missing for {host}, expected the dict that describes the pair, "
                    f"as in the vars of the group {GROUP}."
                )
        except AnsibleError as error:
            raise Refused(f"ha_cluster of {host} cannot be templated: {one_line(error)}") from error
        if not isinstance(found, dict):
            raise Refused(
                f"ha_cluster of {host} is a {type(found).__name__}, expected a dict that "
                "describes the pair."
            )
        return found

    def judge(
        self,
        variables: dict[str, t.Any],
        cluster: Cluster,
        nodes: dict[str, t.Any],
        force_timers: bool,
    ) -> None:
        """Refuse the pair if the nodes that were looked at are not what it says."""
        problems = Problems()
        for node in cluster.nodes:
            if node in nodes:
                check_node(cluster, node, nodes[node], problems)
                if not force_timers:
                    check_timers(cluster, node, nodes[node], problems)
        if nodes:
            keys = self.raw_cluster(variables, cluster.primary)["keys"]
            check_keys(cluster, {str(i): hashed(key) for i, key in keys.items()}, nodes, problems)
        if problems:
            raise Refused(*problems.sentences)

    # The ruleset -----------------------------------------------------------------------------

    def rulesets(self, variables: dict[str, t.Any], cluster: Cluster) -> dict[str, str]:
        """The operator's template for both nodes, looked through for what must not be in it."""
        path = self.template_path(variables, cluster)
        with open(path, encoding="utf-8") as file:
            source = file.read()
        problems = Problems()
        found = {}
        for node in cluster.nodes:
            rendered = self.render(variables, cluster, node, path)
            name = os.path.basename(path)
            inspect(name, source, rendered, cluster, node, problems)
            if problems:
                raise Refused(*problems.sentences)
            found[node] = files.defines(cluster, node) + rendered
        return found

    def template_path(self, variables: dict[str, t.Any], cluster: Cluster) -> str:
        """The template of the ruleset: that of this run, or that of the inventory."""
        # On the controller's own host there is no inventory_dir: that of a node is meant anyway.
        theirs = variables["hostvars"].raw_get(cluster.primary)
        places = [theirs.get("inventory_dir"), variables.get("playbook_dir")]
        asked = variables.get("ha_ruleset")
        if asked:
            name = str(plain(self._templar.template(asked)))
            return self.find_template("ha_ruleset", [os.getcwd(), *places], name)
        return self.find_template("ha_cluster.ruleset", places, cluster.ruleset)

    def find_template(self, variable: str, beside: t.Sequence[object], name: str) -> str:
        """The operator's own template first, the one that ships with the collection last."""
        places = []
        for place in beside:
            if place:
                places += [os.path.join(str(place), "templates"), str(place)]
        places.append(os.path.join(COLLECTION_ROOT, "roles", "firewall", "templates"))
        for place in [""] if os.path.isabs(name) else places:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                return path
        raise Refused(
            f"{variable} is {shown(name)}, expected a file"
            + ("." if os.path.isabs(name) else " in " + " or ".join(places) + ".")
        )

    def render(self, variables: dict[str, t.Any], cluster: Cluster, node: str, path: str) -> str:
        """The template with the node's variables and `ha`."""
        theirs = dict(variables["hostvars"].raw_get(node))
        theirs["hostvars"] = variables["hostvars"]
        theirs["ansible_search_path"] = [os.path.dirname(path)]
        lookup = lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        try:
            return str(
                lookup.run([path], theirs, template_vars={"ha": files.context(cluster, node)})[0]
            )
        except AnsibleError as error:
            raise Refused(
                f"The ruleset is {shown(path)}, expected a template that can be rendered for "
                f"{node}: {one_line(error)}"
            ) from error


def count(hosts: t.Sequence[str]) -> str:
    """How many hosts, and which."""
    noun = "host" if len(hosts) == 1 else "hosts"
    return f"{len(hosts)} {noun} ({', '.join(hosts)})" if hosts else "no hosts"


def order(cluster: Cluster, nodes: t.Mapping[str, t.Any]) -> list[str]:
    """The nodes that were looked at in the order of a change: whoever is active comes last."""
    found = [node for node in (cluster.backup, cluster.primary) if node in nodes]
    return sorted(found, key=lambda node: nodes[node].get("role") == "active")


def inspect(
    name: str, source: str, rendered: str, cluster: Cluster, node: str, problems: Problems
) -> None:
    """Say what the rendered ruleset must not contain, with the line of the template."""

    def place(line: int) -> str:
        found = source_line(source, rendered, line)
        return f"{name} line {found}" if found else f"{name} line {line} as rendered for {node}"

    text = RulesetText(files.defines(cluster, node) + rendered)
    offset = len(cluster.interfaces)
    for line, sentence in text.refused:
        problems.say(f"{place(line - offset)} {sentence}.")
    for rule, sentence in findings(text, cluster, node):
        problems.say(f"{place(rule.line - offset)} {sentence}.")
    for sentence in set_findings(text, cluster.replicate_sets, node):
        problems.say(f"{sentence}.")
    if not text.tables:
        problems.say(f"{name} declares no table for {node}, expected at least one.")


def one_line(error: Exception) -> str:
    """The gist of Ansible's message, without its line breaks."""
    return " ".join(str(error).split())
