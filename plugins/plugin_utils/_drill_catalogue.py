# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The faults that a drill can cause, as data: what each does, how it is undone, what is expected.

Pure: commands are made here as text and run elsewhere.  Each fault that lasts is undone by a timer
on the node that was armed before the fault, so that it ends also when the controller or its way to
the node is gone.  Where the undoing must come from outside the node (power), it says so.
"""

from __future__ import annotations

import shlex
import typing as t
from dataclasses import dataclass, field

HEART = "amaranten-ha-heart.service"
UNDO_UNIT = "amaranten-ha-drill-undo"
TABLE = "netdev amaranten_ha_drill"
ROUTES = "/run/amaranten-ha-drill-routes"
HEARTBEAT_ETHERTYPE = "0x88b5"
# Behind the gate's own chains, so that a beat renews the lease as ever and only then is dropped.
PRIORITY = 1000


@dataclass(frozen=True, slots=True)
class Device:
    """One interface of a node: its logical name, its device, and the peer's hardware address."""

    name: str
    device: str
    peer_mac: str
    is_sync: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a fault's commands are made from, for one node."""

    devices: tuple[Device, ...]
    interface: str = ""

    def device(self) -> Device:
        """The interface that the fault is about."""
        return next(each for each in self.devices if each.name == self.interface)


Commands = t.Callable[[Target], str]


@dataclass(frozen=True, slots=True)
class Drill:
    """One kind of drill."""

    name: str
    does: str
    """What happens, for people: continues "The drill ..."."""
    lasts_s: float
    """How long the fault stays before it is healed."""
    moves: bool
    """Whether the active role is expected to move to the other node."""
    budget: t.Mapping[str, float]
    """The limits unless the operator sets others; a missing one is not judged."""
    inject: Commands | None = None
    undo: Commands | None = None
    proof: Commands | None = None
    """Fails, and says why, unless the fault is there and did something; asked before it is undone.
    Where the role moves that is the proof."""
    both_nodes: bool = False
    confirm: str = ""
    """The variable that must be true, for what interrupts more than a failover does."""
    interrupts: bool = False
    """Whether the flows through the node are expected to be interrupted for as long as it lasts."""
    on: str = field(default="active")


def _kill(signal: str) -> Commands:
    return lambda _target: f"systemctl kill --kill-whom=main --signal={signal} {HEART}"


def _go_on(_target: Target) -> str:
    """Nothing is to be undone where the stopped heart is gone already."""
    gone = f"systemctl show --property=MainPID --value {HEART} | grep -qx 0"
    return f"{{ {gone} || {_kill('CONT')(_target)}; }}"


def _link_down(target: Target) -> str:
    """The kernel forgets the routes of a device that goes down, and nobody else may know them."""
    device = shlex.quote(target.device().device)
    saved = " && ".join(
        f"ip -{version} route save table all type unicast dev {device} > {ROUTES}{version}"
        for version in (4, 6)
    )
    return f"{saved} && ip link set dev {device} down"


def _link_up(target: Target) -> str:
    """IPv6 routes can come back only behind the addresses, which heart adds again."""
    restored = " && ".join(
        f"{{ [ ! -e {ROUTES}{version} ] || "
        f"ip -{version} route restore < {ROUTES}{version} 2> /dev/null; }}"
        for version in (4, 6)
    )
    again = (
        "tries=$((tries + 1)); sleep 0.1; "
        "[ $tries -lt 100 ] || { echo no way back for its routes; exit 1; }"
    )
    return (
        f"ip link set dev {shlex.quote(target.device().device)} up && "
        f"( tries=0; until {restored}; do {again}; done ) && rm -f {ROUTES}4 {ROUTES}6"
    )


def _is_down(target: Target) -> str:
    device = shlex.quote(target.device().device)
    return (
        f"state=$(cat /sys/class/net/{device}/operstate); [ $state = down ] || "
        f"{{ echo {device} is $state; false; }}"
    )


def _table(rules: t.Iterable[tuple[str, str]]) -> str:
    """An own nftables table that drops on the way out; removed as a whole."""
    chains = "".join(
        f"chain out_{number} {{ type filter hook egress device {device} priority {PRIORITY}; "
        f"policy accept; {rule} counter drop; }}; "
        for number, (device, rule) in enumerate(rules)
    )
    return f"nft {shlex.quote(f'table {TABLE} {{ {chains}}}')}"


def _isolate(target: Target) -> str:
    rules = []
    for each in target.devices:
        match = f"ether type {HEARTBEAT_ETHERTYPE}"
        rules.append((each.device, match))
        rules.append((each.device, f"ether daddr {each.peer_mac}"))
    return _table(rules)


def _cut_sync(target: Target) -> str:
    return _table(
        (each.device, f"ether type != {HEARTBEAT_ETHERTYPE}")
        for each in target.devices
        if each.is_sync
    )


def _has_dropped(_target: Target) -> str:
    """Whether the table is there and each rule about heartbeats' type has dropped something."""
    return (
        f"rules=$(nft list table {TABLE}) && ! echo \"$rules\" | "
        "grep 'ether type .* packets 0 '"
    )  # fmt: skip


def _remove_table(_target: Target) -> str:
    """Right also if it is gone: nft has it made first, in the same transaction."""
    return f"nft {shlex.quote(f'add table {TABLE}; delete table {TABLE}')}"


def _command(text: str) -> Commands:
    return lambda _target: text


_ALL_GOES_ON = {"connections_lost": 0, "dual_active_ms": 0}

DRILLS: tuple[Drill, ...] = (
    Drill(
        "switchover",
        "asks the active node to hand over",
        lasts_s=1.0,
        moves=True,
        budget={"silence_ms": 100, "lost": 0, **_ALL_GOES_ON},
        inject=_command("amaranten-ha switchover --reason drill"),
    ),
    Drill(
        "crash",
        "kills the heart of the active node (SIGKILL)",
        lasts_s=1.0,
        moves=True,
        budget={"silence_ms": 1000, **_ALL_GOES_ON},
        inject=_kill("KILL"),
    ),
    Drill(
        "hang",
        "stops the heart of the active node (SIGSTOP) and lets it go on again",
        lasts_s=3.0,
        moves=True,
        budget={"silence_ms": 1000, **_ALL_GOES_ON},
        inject=_kill("STOP"),
        undo=_go_on,
    ),
    Drill(
        "power",
        "cuts the power of the active node and gives it back",
        lasts_s=3.0,
        moves=True,
        budget={"silence_ms": 1000, **_ALL_GOES_ON},
        confirm="drill_confirm_power",
    ),
    Drill(
        "link",
        "takes one interface of the active node down and up again",
        lasts_s=3.0,
        moves=False,
        budget={"connections_lost": 0, "dual_active_ms": 0},
        inject=_link_down,
        undo=_link_up,
        proof=_is_down,
        interrupts=True,
    ),
    Drill(
        "isolate",
        "lets the nodes not hear each other on any interface, so that both become active",
        lasts_s=3.0,
        moves=False,
        budget={},
        inject=_isolate,
        undo=_remove_table,
        proof=_has_dropped,
        both_nodes=True,
        confirm="drill_confirm_isolate",
        interrupts=True,
    ),
    Drill(
        "sync_cut",
        "lets nothing but heartbeats pass on the sync interface",
        lasts_s=3.0,
        moves=False,
        budget={"silence_ms": 100, "lost": 0, **_ALL_GOES_ON},
        inject=_cut_sync,
        undo=_remove_table,
        proof=_has_dropped,
        on="passive",
    ),
)
BY_NAME = {drill.name: drill for drill in DRILLS}
BUDGETS = ("silence_ms", "lost", "connections_lost", "dual_active_ms")


def armed(undo: str, seconds: int) -> str:
    """The command that arms the timer which undoes a fault, whatever becomes of the controller.

    A timer of an earlier drill that is still armed is an error: its fault is not undone yet.
    """
    return (
        f"systemd-run --quiet --collect --unit={UNDO_UNIT} --on-active={seconds} "
        f"--timer-property=AccuracySec=100ms /bin/sh -c {shlex.quote(undo)}"
    )


def healed(undo: str) -> str:
    """The command that undoes a fault now; fails if that failed, and then leaves the timer armed.

    The undoing is right also if the timer had fired.
    """
    return f"{undo} && {{ systemctl stop {UNDO_UNIT}.timer 2>/dev/null || true; }}"
