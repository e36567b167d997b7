# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of the gate's service: crash, adoption, a lost socket, an end, a second one.

The test is the service's supervisor: it keeps the descriptor that the service gives away, as
systemd's descriptor store does, and hands it to the next one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from gate_bench import LAN, SOURCE, WAN, Bench, inside, until

from amaranten_ha.core.errors import KernelRefused
from amaranten_ha.core.gate_compare import FLAG_DORMANT
from amaranten_ha.io import nft
from amaranten_ha.io.gate import GateKeeper, GateReader, GateState, plan_of
from amaranten_ha.io.nft_channel import Channel
from amaranten_ha.settings import load

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        made.up()
        yield made
    finally:
        made.down()


def look(bench: Bench) -> GateState:
    with inside(bench.node):
        reader = GateReader(bench.settings)
        state = reader.check()
        reader.close()
    return state


def made(bench: Bench) -> list[str]:
    """The numbers that the kernel gave to the table and to the lease when they were made."""
    listing = bench.shell("nft -a list table netdev amaranten_ha").stdout
    found = re.findall(r"(?:table netdev amaranten_ha|set lease) \{.*# handle (\d+)", listing)
    assert len(found) == 2, listing
    return found


def refused(bench: Bench) -> bool:
    """A stranger cannot delete the table."""
    bounced = bench.shell("nft delete table netdev amaranten_ha", check=False).returncode != 0
    state = look(bench)
    return bounced and state.intact and state.owned


def unowned(bench: Bench) -> bool:
    return not look(bench).owned


def test_a_killed_service_leaves_no_gap_and_the_next_one_adopts_its_socket(bench: Bench) -> None:
    first = bench.service().ready()
    before = made(bench)
    bench.announce()
    first.stop(kill=True)
    state = look(bench)
    assert state.intact and state.owned and state.open_lease and state.open_voice
    assert refused(bench)
    second = bench.service(first.descriptor).ready()
    assert "adopted the socket" in second.log.read_text()
    assert refused(bench) and made(bench) == before
    assert second.descriptor is None, "the store has this socket already"


def test_a_stored_descriptor_of_another_kind_is_replaced(bench: Bench) -> None:
    other = os.open("/dev/null", os.O_RDONLY)
    service = bench.service(other).ready()
    os.close(other)
    assert service.descriptor is not None
    assert "is no nf_tables socket" in service.log.read_text()
    assert refused(bench)


def test_an_orphan_is_adopted_with_its_lease(bench: Bench) -> None:
    """Both the process and its socket are gone; this kernel keeps a table that persists."""
    first = bench.service().ready()
    before = made(bench)
    bench.announce()
    first.stop(kill=True)
    first.forget()
    until(lambda: unowned(bench), "the kernel notices that the owner is gone")
    assert look(bench).open_lease
    bench.service().ready()
    assert refused(bench) and made(bench) == before


def test_an_orphan_that_was_changed_is_noticed_and_mended(bench: Bench) -> None:
    first = bench.service().ready()
    first.stop(kill=True)
    first.forget()
    until(lambda: unowned(bench), "the kernel notices that the owner is gone")
    bench.shell("nft insert rule netdev amaranten_ha arriving accept")
    state = look(bench)
    assert not state.intact and "chain arriving holds other rules than ours" in state.problem
    with inside(bench.node):
        stranger = Channel()
    stranger.transact([nft.new_table(nft.FLAG_PERSIST | FLAG_DORMANT)])
    stranger.close()
    assert "is dormant" in look(bench).problem
    second = bench.service().ready()
    assert "put right: " in second.log.read_text()
    assert look(bench) == GateState(True, False, False, "", True)


def test_a_stopped_service_leaves_the_gate_closed(bench: Bench) -> None:
    service = bench.service().ready()
    assert service.stop() == 0
    service.forget()
    until(lambda: unowned(bench), "the kernel notices that the owner is gone")
    assert look(bench) == GateState(True, False, False, "", False)
    bench.beat()
    assert look(bench).open_lease, "heart needs no gate service to be active"


def test_a_table_that_is_gone_is_told_and_made_again(bench: Bench) -> None:
    service = bench.service().ready()
    service.stop()
    service.forget()
    until(lambda: unowned(bench), "the kernel notices that the owner is gone")
    bench.shell("nft flush ruleset")
    assert look(bench).problem == "there is no table netdev amaranten_ha"
    bench.service().ready()
    assert look(bench).intact


def test_a_second_service_is_refused(bench: Bench) -> None:
    bench.service().ready()
    second = bench.service()
    assert second.process.wait(10) == 1
    assert re.search(
        r"table netdev amaranten_ha belongs to another socket \(netlink port \d+\)",
        second.log.read_text(),
    )
    assert refused(bench)


def test_bad_configuration_ends_with_one_sentence_and_code_2(bench: Bench) -> None:
    path = bench.directory / "agent.toml"
    path.write_text(path.read_text().replace('profile = "relaxed"', 'profile = "hasty"'))
    service = bench.service()
    assert service.process.wait(10) == 2
    lines = service.log.read_text().splitlines()
    assert len(lines) == 1 and "cluster.profile is 'hasty'" in lines[0]
    assert look(bench).problem == "there is no table netdev amaranten_ha"


def test_devices_may_come_later_and_go(bench: Bench) -> None:
    bench.unplug(LAN)
    bench.unplug(WAN)
    service = bench.service().ready()
    assert "missing: lan (lan0), wan (wan0)" in service.log.read_text()
    assert look(bench).intact
    for name in (LAN, WAN):
        bench.plug(name)
        until(lambda: look(bench).intact, f"{name} is gated")
    until(lambda: "in place on lan (lan0), wan (wan0)" in service.log.read_text(), "it is said")
    bench.shell("ip link set lan0 down; ip link set lan0 name other0")
    bench.shell("ip link add lan0 type veth peer name lan9")
    until(lambda: look(bench).intact, "the new lan0 is gated")


def test_a_wrongly_hooked_chain_is_told_by_name(bench: Bench) -> None:
    bench.service().ready()
    path = bench.directory / "agent.toml"
    path.write_text(path.read_text().replace('device = "wan0"', 'device = "mgmt0"'))
    other = load(path, bench.directory / "keys.toml")
    with inside(bench.node):
        problem = GateReader(other).check().problem
    assert "device mgmt0: chain arriving_wan is not hooked where it should be" in problem


@pytest.fixture
def old_kernel(bench: Bench) -> Iterator[tuple[Bench, Channel, GateKeeper]]:
    """A keeper that does not ask for `persist`, as on a kernel that does not know it."""
    with inside(bench.node):
        channel = Channel()
    keeper = GateKeeper(channel)
    keeper._flags = nft.FLAG_OWNER
    yield bench, channel, keeper
    channel.close()


def test_without_persist_the_table_dies_with_its_socket_unless_released(
    old_kernel: tuple[Bench, Channel, GateKeeper],
) -> None:
    bench, channel, keeper = old_kernel
    plan = plan_of(bench.settings)
    with inside(bench.node):
        keeper.ensure(plan)
    assert not keeper.persists and look(bench).owned
    keeper.release()
    assert unowned(bench) and look(bench).intact
    channel.close()
    assert look(bench) == GateState(True, False, False, "", False)
    bench.beat()
    assert look(bench).open_lease
    with inside(bench.node):
        channel = Channel()
        GateKeeper(channel).ensure(plan)
    assert look(bench).owned and refused(bench)
    channel.close()


def test_without_persist_and_without_release_the_reader_tells_that_it_is_gone(
    old_kernel: tuple[Bench, Channel, GateKeeper],
) -> None:
    bench, channel, keeper = old_kernel
    with inside(bench.node):
        keeper.ensure(plan_of(bench.settings))
        reader = GateReader(bench.settings)
        assert reader.check().intact
        channel.close()
        until(lambda: not reader.check().intact, "the reader sees it at the next check")
        assert reader.check().problem == "there is no table netdev amaranten_ha"


def test_a_changed_configuration_is_applied_without_closing_the_gate(bench: Bench) -> None:
    with inside(bench.node):
        channel = Channel()
        keeper = GateKeeper(channel)
        keeper.ensure(plan_of(bench.settings))
        bench.announce()
        wrong = keeper.ensure(plan_of(bench.settings, [ip_address("192.0.2.7")]))
        assert wrong == ["set own4 holds other addresses than configured"]
        assert look(bench).open_lease and look(bench).intact
        with pytest.raises(KernelRefused, match="belongs to another socket"):
            GateKeeper(Channel()).ensure(plan_of(bench.settings))
        channel.close()


def test_a_reader_whose_socket_broke_opens_another(bench: Bench) -> None:
    bench.service().ready()
    with inside(bench.node):
        reader = GateReader(bench.settings)
        assert reader.check().intact
        assert reader._channel is not None
        reader._channel.close()
        assert reader.check() == GateState(True, False, False, "", True)


def test_without_the_right_to_ask_the_reader_says_so(bench: Bench) -> None:
    script = (
        "import os, sys; from pathlib import Path; from amaranten_ha.io.gate import GateReader;"
        "from amaranten_ha.settings import load;"
        "settings = load(Path(sys.argv[1]), Path(sys.argv[2])); os.setuid(65534);"
        "state = GateReader(settings).check(); print(state.intact, state.problem)"
    )
    done = subprocess.run(
        (sys.executable, "-c", script, bench.options[1], bench.options[3]),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("False the gate cannot be read back: nf_tables cannot be reached")
