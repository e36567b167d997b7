# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verdict on the wiring of a pair, from what its two nodes have observed.

Pure: observations of `wire_probe` by host come in, a verdict for each interface and the findings go
out.  What is wrong with a cable is judged first, and only on interfaces that have nothing wrong
with their cable is asked what passes on them and who answers there.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.amaranten.ha.plugins.plugin_utils import (
    _wiring_neighbours,
    _wiring_quality,
    _wiring_segments,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._finding import (
    FAILED,
    INCONCLUSIVE,
    WARNING,
    Finding,
    listed,
)
from ansible_collections.amaranten.ha.plugins.plugin_utils._wiring_view import View, Wiring

CHECKS = ("wiring", "mtu", "heartbeat", "speed", "addresses", "reach", "clock", "cluster_id")
SAME = "same network"
CLOCK_S_MAX = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was concluded; `figures` has a line for each check that was made."""

    interfaces: dict[str, dict[str, t.Any]]
    findings: tuple[Finding, ...]
    figures: dict[str, str]


def judge(observations: t.Mapping[str, Wiring], cluster: int) -> Verdict:
    """The verdict on the pair."""
    view = View(observations)
    alone = view.alone()
    if alone:
        return nothing(view, alone)
    findings = _wiring_segments.judge(view)
    faulty = {name for finding in findings for name in finding.interfaces}
    clean = [name for name in view.links if name not in faulty]
    for name in clean:
        findings += _wiring_quality.kinds(view, name)
        findings += _wiring_quality.sizes(view, name)
        findings += _wiring_quality.speeds(view, name)
        findings += _wiring_neighbours.duplicates(view, name)
        findings += _wiring_neighbours.reach(view, name)
    findings += _wiring_quality.heartbeats(view, clean)
    findings += same_id(view, cluster)
    findings += clocks(view)
    return Verdict(
        {name: described(view, name, findings) for name in view.links},
        tuple(findings),
        figures(view, clean),
    )


def nothing(view: View, why: str) -> Verdict:
    """The verdict if there is none."""
    finding = Finding(
        "wiring", INCONCLUSIVE, "inconclusive", tuple(view.links), view.nodes, why,
        "run both nodes in one play, with at least 2 forks, no `serial`, and the linear strategy",
    )  # fmt: skip
    interfaces = {name: {"verdict": "inconclusive"} for name in view.links}
    return Verdict(interfaces, (finding,), {})


def described(view: View, name: str, findings: t.Iterable[Finding]) -> dict[str, t.Any]:
    """One interface for people and programs."""
    wiring = [f for f in findings if f.check == "wiring" and name in f.interfaces]
    found: dict[str, t.Any] = {"verdict": wiring[0].verdict if wiring else SAME}
    found["with"] = [n for f in wiring if f.verdict == "swapped" for n in f.interfaces if n != name]
    found["nodes"] = {}
    keys = ("device", "mac", "mtu", "carrier", "speed", "duplex", "driver", "brought_up")
    for port in view.ports(name):
        state = view.state(port)
        node = {key: state[key] for key in keys if key in state}
        heard = view.between(view.twin(port), port)
        node["hears"] = sorted({edge.kind for edge in heard})
        node["mtu_proved"] = _wiring_quality.largest(view, view.twin(port), port)
        found["nodes"][port.node] = node
    return found


def figures(view: View, clean: t.Sequence[str]) -> dict[str, str]:
    """What to say of the checks that found nothing."""
    if not clean:
        return {}
    mtus = {n: str(view.state(view.ports(n)[0]).get("sent_mtu", 0)) for n in clean}
    neighbours = sum(
        bool(macs) for name in clean for macs in view.foreign(view.ports(name)[0]).values()
    )
    speed = {n: view.state(view.ports(n)[0]).get("speed") or 0 for n in clean}
    pair = sum(len(view.state(port).get("pair", [])) for name in clean for port in view.ports(name))
    return {
        "wiring": f"{listed(clean)}: same network on both nodes",
        "mtu": listed(
            f"{listed(n for n in mtus if mtus[n] == m)} {m}" for m in dict.fromkeys(mtus.values())
        ),
        "heartbeat": f"EtherType 0x88B5 passes on {listed(clean)}",
        "speed": listed(f"{n} {s} Mbit/s" for n, s in speed.items() if s) or "not known",
        "addresses": f"{pair} questions, no stranger answered",
        "reach": f"{neighbours} neighbours answer both nodes" if neighbours else "none known",
        "clock": difference(view),
        "cluster_id": "no other pair with this id was heard",
    }


def same_id(view: View, cluster: int) -> t.Iterator[Finding]:
    """Another pair on these networks that has our number."""
    known = view.every_mac()
    heard: dict[str, set[str]] = {}
    for node in view.nodes:
        seen = view.observations[node]
        for item in [*seen.get("beats", []), *seen.get("others", [])]:
            if item["cluster"] == cluster and item["mac"] not in known:
                heard.setdefault(item["mac"], set()).add(item["at"] or item["device"])
    for mac, names in sorted(heard.items()):
        where = tuple(sorted(names))
        yield Finding(
            "cluster_id", FAILED, "same cluster id", where, (),
            f"another pair with the id {cluster} speaks on {listed(where)}, from {mac}",
            "give one of the two another ha_cluster.id",
        )  # fmt: skip


def offset_s(view: View) -> float | None:
    """How far the second node's clock is ahead of the first one's, if both ways were heard.

    Each way measures the difference and the time on the way; half their difference is the former.
    """
    skews = [view.observations[node].get("skew_ns", {}) for node in view.nodes]
    if not all(skews):
        return None
    there, back = (min(skew.values()) for skew in (skews[1], skews[0]))
    return (there - back) / 2e9


def difference(view: View) -> str:
    """The clocks' difference in words."""
    found = offset_s(view)
    return "not measured" if found is None else f"{abs(found) * 1000:.1f} ms apart"


def clocks(view: View) -> t.Iterator[Finding]:
    """Clocks that are too far apart for the two nodes' logs to be read together."""
    found = offset_s(view)
    if found is not None and abs(found) > CLOCK_S_MAX:
        first, second = view.nodes
        ahead = f"{second} is {abs(found):.1f} s {'ahead of' if found > 0 else 'behind'} {first}"
        yield Finding(
            "clock", WARNING, "clocks differ", (), view.nodes, ahead,
            "have both ask the same time servers, as by systemd-timesyncd or chrony",
        )  # fmt: skip
