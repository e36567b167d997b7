# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Finds `masquerade` where it would lose connections, and says what to write instead.

On an interface with a shared address `masquerade` picks the node's own one, so that no connection
outlives its node.  The check enters here with a rendered ruleset and the node's interfaces; a rule
of which it cannot tell the interface counts as one for all of them.
"""

from __future__ import annotations

import fnmatch
import re
import typing as t

from ansible_collections.amaranten.ha.plugins.module_utils._ruleset_text import (
    Rule,
    RulesetText,
    Word,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._pair import Address, Cluster, Interface

OUTSIDE_WORDS = ("oifname", "oif")


def findings(text: RulesetText, cluster: Cluster, node: str) -> t.Iterator[tuple[Rule, str]]:
    """Each `masquerade` that is refused, with the sentence's part after the line number."""
    for rule in text.rules:
        if not any(word.text == "masquerade" and not word.quoted for word in rule.words):
            continue
        for interface in cluster.interfaces:
            if interface.role != "service" or not leaves_by(
                text, rule, interface.sides[node].device
            ):
                continue
            shared = replacement_addresses(rule, interface)
            if shared:
                yield rule, sentence(rule, interface, shared)
                break


def leaves_by(text: RulesetText, rule: Rule, device: str) -> bool:
    """Whether the rule may match packets that leave by this device."""
    words = [word for word in rule.words if word.text != "meta"]
    for index, word in enumerate(words[:-1]):
        if word.quoted or word.text not in OUTSIDE_WORDS:
            continue
        rest = words[index + 1 :]
        negated = rest[0].text == "!="
        if rest[0].text in ("!=", "=="):
            rest = rest[1:]
        if not rest or rest[0].text == ".":
            return True
        listed = any(fnmatch.fnmatchcase(device, name) for name in names_in(text, rest))
        return listed != negated
    return True


def names_in(text: RulesetText, words: t.Sequence[Word]) -> list[str]:
    """The device names of one match: a name, a define or a set of both."""
    if words[0].text == "{" and not words[0].quoted:
        end = next((i for i, w in enumerate(words) if w.text == "}" and not w.quoted), len(words))
        listed: t.Sequence[Word] = words[1:end]
    elif words[0].text.startswith("@"):
        return ["*"]
    else:
        listed = words[:1]
    names = [value for word in listed for value in text.value_of(word)]
    return [name.text for name in names if name.quoted or name.text not in ("{", "}", ",")]


def replacement_addresses(rule: Rule, interface: Interface) -> list[Address]:
    """The shared addresses that stand in for the interface, one of each family of the rule."""
    families = rule_families(rule)
    found = []
    for version in families:
        address = next(
            (a for a in interface.shared if a.version == version and not a.ip.is_link_local), None
        )
        if address is not None:
            found.append(address)
    return found


def rule_families(rule: Rule) -> tuple[int, ...]:
    """Whether the rule sees IPv4, IPv6 or both."""
    if rule.family in ("ip", "ip6"):
        return (4,) if rule.family == "ip" else (6,)
    texts = rule.texts()
    if "ip6" in texts or ("nfproto" in texts and "ipv6" in texts):
        return (6,)
    if "ip" in texts or ("nfproto" in texts and "ipv4" in texts):
        return (4,)
    return (4, 6)


def sentence(rule: Rule, interface: Interface, shared: t.Sequence[Address]) -> str:
    """Why it is refused, and the rule that replaces it."""
    wanted = " and ".join(f"`{replacement(rule, interface, address)}`" for address in shared)
    return (
        f"masquerades on {interface.name}, which has a shared address, "
        f"so that its connections would end with their node, expected {wanted}"
    )


def replacement(rule: Rule, interface: Interface, address: Address) -> str:
    """The rule with `snat to` the shared address in the place of `masquerade`."""
    target = (
        "snat to"
        if rule.family in ("ip", "ip6")
        else f"snat {'ip' if address.version == 4 else 'ip6'} to"
    )
    texts = []
    for word in rule.words:
        texts.append(f'"{word.text}"' if word.quoted else word.text)
    line = " ".join(texts)
    ports = re.search(r"\bmasquerade to (:[0-9-]+)", line)
    value = str(address.ip)
    if ports:
        line = line.replace(ports.group(0), "masquerade", 1)
        value = (f"[{value}]" if address.version == 6 else value) + ports.group(1)
    if not any(word in OUTSIDE_WORDS for word in rule.texts()):
        line = f"oifname ${interface.name} {line}"
    return re.sub(r"\bmasquerade\b", f"{target} {value}", line, count=1).replace(" , ", ", ")


def source_line(source: str, rendered: str, line: int) -> int | None:
    """The line of the template that gave a rendered line, if it can be told."""
    wanted = " ".join(rendered.splitlines()[line - 1].split())
    candidates = [
        number
        for number, text in enumerate(source.splitlines(), start=1)
        if " ".join(text.split()) == wanted
    ]
    if len(candidates) == 1:
        return candidates[0]
    words = [word for word in ("masquerade", "include", "flush", "table") if word in wanted]
    for word in words:
        close = [
            number
            for number, text in enumerate(source.splitlines(), start=1)
            if re.search(rf"\b{word}\b", text.split("#", 1)[0])
        ]
        if len(close) == 1:
            return close[0]
    return None
