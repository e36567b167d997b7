# SPDX-License-Identifier: GPL-3.0-or-later
"""Who serves heart's control socket: the operator's tool asks, sync reports and follows the role.

Heart enters once a turn. The clerk reads the engine and hands it requests; it decides nothing, and
a client that is slow or wrong costs heart nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import time
from typing import Any

from amaranten_ha import report
from amaranten_ha.core import orders
from amaranten_ha.core.beat import Kind, Replica, ReplicaState, Role
from amaranten_ha.core.errors import ConfigurationError
from amaranten_ha.core.health import Trial
from amaranten_ha.core.node import Node
from amaranten_ha.core.role import Rule
from amaranten_ha.core.timing import HELD_S_MAX, MS_NS
from amaranten_ha.core.trace import Trace
from amaranten_ha.io.desk import Client, Desk
from amaranten_ha.io.gate import GateState
from amaranten_ha.io.ports import Port
from amaranten_ha.io.targets import Targets
from amaranten_ha.settings import Digests, Settings, key_ring

WORDS_MAX = 200
_REPLICA_STALE_NS = 1500 * MS_NS


class Clerk:
    """The clients of heart, and what was promised to them."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        ports: list[Port],
        trace: Trace,
        epoll: select.epoll,
        desk: Desk,
        targets: Targets,
    ) -> None:
        self._node = node
        self._settings = settings
        self._ports = ports
        self._trace = trace
        self._epoll = epoll
        self._desk = desk
        self._epoll.register(self._desk.fileno(), select.EPOLLIN)
        self._clients: list[Client] = []
        self._targets = targets
        self.restart_asked = False
        """An announced restart was granted; heart begins anew after this turn's answers."""
        self._waiting: Client | None = None
        self._told: dict[str, Any] = {}
        self._gate: dict[str, Any] = {}
        self._started_ns = self._replica_ns = time.monotonic_ns()
        self._replica_reason = "sync has not reported yet"
        self.notes: list[str] = []
        """What the status says beside the rest: what the kernel refused at the start."""

    def serve(self, gate: GateState) -> None:
        """Answer everybody who has asked something since the last turn."""
        self._gate = {
            "intact": gate.intact,
            "open": gate.open_lease,
            "owned": gate.owned,
            "problem": gate.problem,
        }
        client = self._desk.accept(len(self._clients))
        if client:
            self._clients.append(client)
            self._epoll.register(client.fileno(), select.EPOLLIN)
        for client in self._clients:
            while client.open and (request := client.hear()):
                self._answer(client, request)
        if self._waiting and not self._waiting.open:
            self._waiting = None
        self._clients = [client for client in self._clients if client.open]

    def push(self, news: dict[str, Any]) -> None:
        """Tell the clients that follow."""
        for client in self._clients:
            if client.follows and client.open:
                client.say(news)

    def tell_followers(self, now_ns: int) -> None:
        """Tell those who follow what has changed; notice that sync has fallen silent."""
        if now_ns - self._replica_ns > _REPLICA_STALE_NS:
            self._node.replica = Replica(ReplicaState.STALE)
            self._replica_reason = "sync does not report"
        role = {
            "push": "role",
            "role": self._node.role.word,
            "epoch": self._node.epoch,
            "last_active": self._node.last_active,
        } | report.peer(self._node, now_ns)
        if role != self._told:
            self._told = role
            self.push(role)

    def switchover_ended(self, rule: Rule) -> None:
        """Tell who asked for a switchover how it ended."""
        if self._waiting:
            done = rule.to is Role.PASSIVE
            self._waiting.say({"ok": done, "reasons": [] if done else [rule.reason]})
            self._waiting = None

    def take_digests(self, digests: Digests) -> None:
        """Compare these fingerprints with the peer's from now on."""
        self._node.config_digest = digests.config[:8]
        self._node.ruleset_digest = digests.ruleset[:8]

    def _answer(self, client: Client, request: dict[str, Any]) -> None:
        now_ns = time.monotonic_ns()
        operation = request.get("op")
        if operation == "replica":
            self._take_replica(request, now_ns)
        elif operation == "neighbours":
            self._take_neighbours(request)
        elif operation == "follow":
            client.follows = True
            self._told = {}
        elif operation == "status":
            client.say({"ok": True, **self._status(now_ns)})
        elif operation == "events":
            found = report.events(self._trace.newest(), now_ns, time.time_ns())
            client.say({"ok": True, "events": found})
        elif operation == "reload":
            self._reload(client, request)
        elif operation == "switchover":
            reason = _words(request.get("reason")) or "operator"
            force = request.get("force") is True
            catching_up = orders.catching_up(self._node, now_ns)
            refusals = orders.switchover(self._node, reason, force, now_ns)
            self._promise(client, refusals, catching_up=catching_up)
        elif operation == "maintenance":
            self._ask_maintenance(client, request, now_ns)
        elif operation == "restart":
            self._ask_restart(client, now_ns)
        else:
            client.say({"ok": False, "reasons": [f"unknown request {operation!r}"]})

    def _reload(self, client: Client, request: dict[str, Any]) -> None:
        try:
            config, ruleset = (bytes.fromhex(request[key]) for key in ("config", "ruleset"))
            ring = key_ring(request["keys"], request["send_key"]) if "keys" in request else None
        except (AttributeError, KeyError, TypeError, ValueError, ConfigurationError):
            expected = "expected config and ruleset in hexadecimal, keys in base64"
            client.say({"ok": False, "reasons": [expected]})
            return
        self.take_digests(Digests(config, ruleset))
        if ring is not None:
            self._node.take_keys(ring)
        client.say({"ok": True, "reasons": []})

    def _promise(self, client: Client, refusals: list[str], *, catching_up: bool = False) -> None:
        """Refuse in words, or answer when the switchover that was granted has ended."""
        if refusals:
            client.say({"ok": False, "reasons": refusals, "catching_up": catching_up})
            return
        self._waiting = client

    def _ask_maintenance(self, client: Client, request: dict[str, Any], now_ns: int) -> None:
        node = self._node
        if request.get("until") is None:
            was_held = node.held
            orders.release(node)
            if was_held:
                node.news.append(("held", "maintenance is over: the operator ended it"))
            client.say({"ok": True, "reasons": []})
            return
        try:
            left_s = float(request["until"]) - time.time()
        except (TypeError, ValueError):
            left_s = 0.0
        if not 0 < left_s <= HELD_S_MAX:
            expected = f"expected until within the next {HELD_S_MAX} s"
            client.say({"ok": False, "reasons": [expected]})
            return
        until_ns = now_ns + round(left_s * 1e9)
        refusals = orders.hold(node, until_ns, bool(request.get("force")), now_ns)
        if not refusals and node.held:
            node.news.append(("held", f"in maintenance for {left_s:.0f} s"))
            client.say({"ok": True, "reasons": []})
        else:
            self._promise(client, refusals)

    def _ask_restart(self, client: Client, now_ns: int) -> None:
        node = self._node
        if node.role is Role.HANDING_OVER or node.switchover:
            client.say({"ok": False, "reasons": ["a switchover is under way"]})
        elif node.kind(now_ns) is Kind.UNSURE:
            reason = "this node has just woken up and is not sure that it is still active"
            client.say({"ok": False, "reasons": [reason]})
        else:
            self.restart_asked = True
            client.say({"ok": True, "reasons": []})

    def _take_replica(self, request: dict[str, Any], now_ns: int) -> None:
        try:
            self._node.replica = Replica(
                state=ReplicaState[str(request["state"]).upper()],
                barrier=_number(request["barrier"], 64),
                entries=_number(request["entries"], 64),
                lag_ms=_number(request["lag_ms"], 64),
                share_permille=_number(request["share_permille"], 16),
            )
        except (KeyError, ValueError):
            self._replica_reason = "sync sent a report that cannot be read"
            return
        self._replica_reason = _words(request.get("reason"))
        with contextlib.suppress(KeyError, ValueError):
            self._node.condition.disk_permille = _number(request["disk_permille"], 16)
            self._node.condition.trial = Trial[str(request["trial"]).upper() or "NONE"]
        self._replica_ns = now_ns

    def _take_neighbours(self, request: dict[str, Any]) -> None:
        """Note whom the kernel knows; what cannot be read changes nothing."""
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            self._node.third_parties.know(
                {
                    int(link): [ipaddress.ip_address(each) for each in addresses]
                    for link, addresses in request["known"].items()
                }
            )

    def _status(self, now_ns: int) -> dict[str, Any]:
        return report.status(
            self._node,
            self._settings,
            self._ports,
            self._gate,
            self._replica_reason,
            self.notes,
            now_ns,
        ) | {
            "heart_s": round((now_ns - self._started_ns) / 1e9, 3),
            "target": {"name": self._targets.name, "result": self._targets.result},
        }


def _number(value: object, bits: int) -> int:
    if not isinstance(value, int) or not 0 <= value < 1 << bits:
        raise ValueError
    return value


def _words(value: object) -> str:
    """A text of one line and a bounded length, whatever was sent."""
    return " ".join(value.split())[:WORDS_MAX] if isinstance(value, str) else ""
