# SPDX-License-Identifier: GPL-3.0-or-later
"""Who notices what changed beside the role: readiness, replica, the guard of the gate, alarms.

Heart enters once a second and says what comes out as events. What was seen last is remembered here;
nothing is decided, and the first look tells nothing but what is wrong.
"""

from __future__ import annotations

from amaranten_ha.core.node import Node
from amaranten_ha.io.gate import GateState


class Observer:
    """What was seen at the last look."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ready: bool | None = None
        self._replica = ""
        self._owned = True

    def look(self, gate: GateState, now_ns: int) -> list[tuple[str, str]]:
        """Return (kind, sentence) of each change since the last look."""
        found = []
        reasons = self._node.ready_reasons(now_ns)
        if (ready := not reasons) is not self._ready:
            text = "ready: the spare would take over now" if ready else "not ready: "
            found.append(("ready", text + "; ".join(reasons)))
            self._ready = ready
        if (state := self._node.replica.state.name.lower()) != self._replica:
            found.append(("replica", f"replica: {self._replica or 'unknown'} -> {state}"))
            self._replica = state
        if gate.intact and gate.owned is not self._owned:
            word = "protected again" if gate.owned else "NOT PROTECTED, its service is away"
            found.append(("gate", f"gate: {word}"))
            self._owned = gate.owned
        return found + self._node.alarms.look(self._node, now_ns)
