# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else is out there: gateways and neighbours that answer on the service links.

The engine enters with every answer that is not the peer's, sync with the neighbours that the kernel
knows (on the passive these are the active's), and the prober asks who should be asked. What a
third party answers is the only evidence that two nodes have of which of them is cut off: it
gives a claim its standing, and lets a node that reaches nobody wait longer. Nothing is decided
here, and an answer is forgotten as fast as it can be asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from amaranten_ha.core.ether import IPAddress
from amaranten_ha.core.plan import LinkPlan, NodePlan
from amaranten_ha.core.timing import MS_NS

NEIGHBOURS_PER_LINK_MAX = 4


class ThirdParties:
    """The gateways of the plan, and the neighbours that have answered lately."""

    def __init__(self, plan: NodePlan) -> None:
        self._lasts_ns = 2 * plan.timing.alone_ms * MS_NS
        self._gateways = plan.gateways
        self._hops = {link.number: link.gateways for link in plan.links if link.gateways}
        self._hop_ns: dict[IPAddress, int] = {}
        self._service = frozenset(link.number for link in plan.links if link.service)
        self._neighbours: dict[int, dict[IPAddress, int]] = {}
        self._known: dict[int, tuple[IPAddress, ...]] = {}
        self._gateway_ns: int | None = None
        self._since_ns = 0
        self._answer_ns: int | None = None

    def answered(self, link: int, address: IPAddress, at_ns: int) -> None:
        """Take in that somebody who is neither of the two nodes has an address on a link."""
        if address in self._gateways:
            self._gateway_ns = max(at_ns, self._gateway_ns or at_ns)
            self._hop_ns[address] = max(at_ns, self._hop_ns.get(address, at_ns))
        if link not in self._service:
            return
        if self._answer_ns is None or at_ns - self._answer_ns >= self._lasts_ns:
            self._since_ns = at_ns
        self._answer_ns = max(at_ns, self._answer_ns or at_ns)
        known = self._neighbours.setdefault(link, {})
        known.pop(address, None)
        known[address] = at_ns
        if len(known) > NEIGHBOURS_PER_LINK_MAX:
            del known[next(iter(known))]

    def know(self, known: Mapping[int, Iterable[IPAddress]]) -> None:
        """Take in whom to ask on each link, for they may answer; it is no answer yet."""
        self._known = {
            link: tuple(islice(addresses, NEIGHBOURS_PER_LINK_MAX))
            for link, addresses in known.items()
            if link in self._service
        }

    @property
    def gateway_known(self) -> bool:
        """Say whether a gateway has answered since our start: only then its silence means much."""
        return self._gateway_ns is not None

    def gateway_answers(self, now_ns: int, since_ns: int = 0) -> bool | None:
        """Say whether a gateway answered lately and since a time; None if there is none to ask."""
        if not self._gateways:
            return None
        return self._is_fresh(self._gateway_ns, now_ns, since_ns)

    def hops(self, now_ns: int) -> dict[IPAddress, bool]:
        """Return every next hop, and whether it has answered lately."""
        every = dict.fromkeys(hop for hops in self._hops.values() for hop in hops)
        return {hop: self._is_fresh(self._hop_ns.get(hop), now_ns, 0) for hop in every}

    def silent_hops(self, now_ns: int) -> int:
        """Return the links, bit link - 1, on which there are next hops and none answers."""
        answers = self.hops(now_ns)
        silent = (number for number, hops in self._hops.items() if not any(map(answers.get, hops)))
        return sum(1 << (number - 1) for number in silent)

    def answer(self, now_ns: int, since_ns: int = 0) -> bool:
        """Say whether any third party answered lately and since a time."""
        return self._is_fresh(self._answer_ns, now_ns, since_ns)

    @property
    def answered_ns(self) -> int:
        """When any third party answered last; 0 if none ever did."""
        return self._answer_ns or 0

    def answering_ns(self, now_ns: int, since_ns: int = 0) -> int | None:
        """For how long they have been answering without a break; None if none does, as `answer`.

        Counted to the last answer, not to now: a single one is no time at all.
        """
        if self._answer_ns is None or not self.answer(now_ns, since_ns):
            return None
        return self._answer_ns - self._since_ns

    def _is_fresh(self, answer_ns: int | None, now_ns: int, since_ns: int) -> bool:
        return answer_ns is not None and answer_ns >= max(since_ns, now_ns - self._lasts_ns + 1)

    def to_ask(self, link: LinkPlan) -> list[IPAddress]:
        """Return whom to ask on a link: its gateways, who has answered, and who may answer."""
        answered, known = self._neighbours.get(link.number, ()), self._known.get(link.number, ())
        return list(dict.fromkeys([*link.gateways, *answered, *known]))
