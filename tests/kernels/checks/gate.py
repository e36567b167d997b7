# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate as the agent makes it: installed, read back, opened and closed by heart's frames.

Everything is judged from outside, by packets that get through or do not, and by the agent's own
reader. What must not arrive is always followed by something that must, on the same path, so that
nothing is concluded from a pause.
"""

from __future__ import annotations

from amaranten_ha.core.beat import Kind

from ..guest.bench import (
    HOST,
    HOST6,
    MGMT,
    MGMT_HOST,
    NODE_MAC,
    OWN,
    OWN6,
    SHARED,
    SHARED6,
    WAN_HOST,
    WAN_HOST6,
    Asker,
    Bench,
    Shape,
)
from ..guest.net import Net, until
from ..guest.talk import Ear, Mouth


def check_installs_and_is_read_back() -> str:
    bench = Bench()
    keeper = bench.keeper()
    first = bench.ensure(keeper)
    assert len(first) == 1 and "no table" in first[0], first
    assert bench.ensure(keeper) == [], "the second look found something to mend"
    state = bench.look(bench.reader())
    assert state.intact and state.owned, state
    assert not state.open_lease and not state.open_voice, state
    shown = bench.node.run("nft", "list", "table", "netdev", "amaranten_ha")
    assert "flags owner" in shown, shown
    return f"persists: {keeper.persists}"


def check_closed_gate_answers_for_own_addresses_only() -> None:
    bench = Bench()
    bench.gate()
    bench.take_over()
    for asked, shared, own in ((HOST, SHARED, OWN), (HOST6, SHARED6, OWN6)):
        found = Asker(bench.lan, asked).who_has(shared, own)
        assert found == {own: NODE_MAC}, found
    bench.beat()
    for asked, shared, own in ((HOST, SHARED, OWN), (HOST6, SHARED6, OWN6)):
        bench.beat()
        found = Asker(bench.lan, asked).who_has(shared, own)
        assert set(found) == {shared, own}, f"open, but {found}"


def _forwards(bench: Bench, opened: bool) -> None:
    """A datagram from lan to wan, v4 and v6, from a host that is pinned to this node."""
    for host, target, own in ((HOST, WAN_HOST, OWN), (HOST6, WAN_HOST6, OWN6)):
        family = 10 if ":" in host else 2
        far, near = Ear(bench.wan, family), Ear(bench.node, family)
        mouth = Mouth(bench.lan, host)
        if opened:
            mouth.says(b"warm up", own)  # neighbours between node and wan are resolved meanwhile
            bench.beat()
            mouth.says(b"through", target)
            far.hears(b"through")
        else:
            mouth.says(b"through", target)
            mouth.says(b"to the node", own)
            near.hears(b"to the node")
            assert not far.heard(b"through"), f"{host} was forwarded by a closed gate"


def check_closed_gate_forwards_nothing() -> None:
    bench = Bench()
    _forwards(bench, opened=True)  # without any gate, as a proof of the bench itself
    bench.gate()
    _forwards(bench, opened=False)


def _opens_and_closes(bench: Bench) -> None:
    reader = bench.gate()
    bench.take_over()
    _forwards(bench, opened=False)
    bench.beat()
    state = bench.look(reader)
    assert state.open_lease and state.open_voice, state
    _forwards(bench, opened=True)
    until("the lease has ended", lambda: not bench.look(reader).open_lease)
    assert not bench.look(reader).open_voice
    _forwards(bench, opened=False)
    bench.beat()
    assert bench.look(reader).open_lease, "the next beat did not open it again"


def check_beat_opens_and_lease_closes() -> None:
    _opens_and_closes(Bench())


def check_beat_opens_and_lease_closes_on_vlan() -> None:
    _opens_and_closes(Bench(Shape.VLAN))


def check_beat_opens_and_lease_closes_on_bond() -> None:
    _opens_and_closes(Bench(Shape.BOND))


def check_management_vlan_passes_a_gated_trunk() -> None:
    """A gate on the trunk itself must not lock out a VLAN on the same port."""
    bench = Bench(Shape.VLAN)
    bench.gate_on("trunk0")
    _management(bench)


def check_management_vlan_beside_a_gated_vlan() -> None:
    bench = Bench(Shape.VLAN)
    bench.gate()
    _management(bench)
    _forwards(bench, opened=False)


def _management(bench: Bench) -> None:
    """An operator's connection over the VLAN that no gate knows, both ways."""
    near, far = Ear(bench.node), Ear(bench.lan)
    Mouth(bench.lan, MGMT_HOST).says(b"login", MGMT)
    near.hears(b"login")
    Mouth(bench.node, MGMT).says(b"welcome", MGMT_HOST)
    far.hears(b"welcome")


def check_closed_gate_does_not_speak_as_shared() -> None:
    bench = Bench()
    bench.gate()
    bench.take_over()
    for own, shared, host in ((OWN, SHARED, HOST), (OWN6, SHARED6, HOST6)):
        ear = Ear(bench.lan, 10 if ":" in host else 2)
        as_shared, as_own = Mouth(bench.node, shared), Mouth(bench.node, own)
        bench.beat(Kind.CLOSE)
        as_shared.says(b"as shared", host)
        as_own.says(b"as own", host)
        ear.hears(b"as own")
        assert not ear.heard(b"as shared"), f"{shared} spoke through a closed gate"
        bench.beat()
        as_shared.says(b"as shared, open", host)
        ear.hears(b"as shared, open")


def check_closed_gate_takes_nothing_for_shared() -> None:
    """Hosts with a stale neighbour entry still send here what is meant for the active node."""
    bench = Bench()
    bench.gate()
    bench.take_over()
    for host, own, shared in ((HOST, OWN, SHARED), (HOST6, OWN6, SHARED6)):
        ear, mouth = Ear(bench.node, 10 if ":" in host else 2), Mouth(bench.lan, host)
        bench.beat(Kind.CLOSE)
        mouth.says(b"to the shared", shared)
        mouth.says(b"to the own", own)
        ear.hears(b"to the own")
        assert not ear.heard(b"to the shared"), f"{shared} was served by a closed gate"
        bench.beat()
        mouth.says(b"to the shared, open", shared)
        ear.hears(b"to the shared, open")


def check_ungated_device_is_no_way_out() -> None:
    """What comes in on a gated port is not forwarded to a port without a gate."""
    bench = Bench()
    bench.gate()
    target = Net.new()
    bench.node.link("office", target, "eth0")
    bench.node.ip("addr add 10.20.8.2/24 dev office")
    target.ip("addr add 10.20.8.100/24 dev eth0")
    far, near = Ear(target), Ear(bench.node)
    mouth = Mouth(bench.lan, HOST)
    mouth.says(b"through", "10.20.8.100")
    mouth.says(b"to the node", OWN)
    near.hears(b"to the node")
    assert not far.heard(b"through")
    bench.beat()
    mouth.says(b"through, open", "10.20.8.100")
    far.hears(b"through, open")


def check_ungated_device_is_no_way_in() -> None:
    """What comes in on a port without a gate (management) is not forwarded either."""
    bench = Bench(Shape.VLAN)
    bench.gate()
    bench.lan.ip(f"route add {WAN_HOST}/32 via {MGMT} dev mgmt")
    far, near = Ear(bench.wan), Ear(bench.node)
    mouth = Mouth(bench.lan, MGMT_HOST)
    mouth.says(b"through", WAN_HOST)
    mouth.says(b"to the node", MGMT)
    near.hears(b"to the node")
    assert not far.heard(b"through")
    bench.wan.ip("route add 10.20.9.0/24 via 198.51.100.2")
    bench.beat()
    mouth.says(b"through, open", WAN_HOST)
    far.hears(b"through, open")


def check_multicast_and_broadcast_reach_a_closed_gate() -> None:
    """VRRP's neighbours, DHCP, mDNS and routing daemons of the node itself go on."""
    bench = Bench()
    bench.gate()
    ear = Ear(bench.node)
    with bench.node:
        ear.join("224.0.0.251", OWN)
    mouth = Mouth(bench.lan, HOST)
    for target in ("224.0.0.251", "255.255.255.255", "10.20.1.255"):
        mouth.says(target.encode(), target)
        ear.hears(target.encode())


def check_link_local_works_through_a_closed_gate() -> None:
    bench = Bench()
    bench.gate()
    local = bench.node.link_local(bench.device)
    found = Asker(bench.lan, HOST6).who_has(local)
    assert found == {local: NODE_MAC}, found
    ear = Ear(bench.node, 10)
    Mouth(bench.lan, "::").says(b"link-local", f"{local}%eth0")
    ear.hears(b"link-local")
