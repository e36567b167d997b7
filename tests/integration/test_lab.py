# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab proves that it is a lab: bare nodes, true faults, no trace left, nobody else's touched.

Two labs of names of their own are made here; the default one and any other are left alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Direction, Lab, LabError, Way, after
from tests.lab.plan import ROOT, Plan, node_wires, own_prefix
from tests.lab.watch import HEARTBEAT
from tests.probes import driver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")

FIRST, SECOND = own_prefix("labt"), own_prefix("labu")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab that was just made."""
    made = Lab(FIRST)
    made.down()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def second() -> Iterator[Lab]:
    """The name of another lab, not yet up."""
    made = Lab(SECOND)
    made.down()
    try:
        yield made
    finally:
        made.down()


def machine_traces(name: str) -> list[str]:
    """Everything on this machine that carries the name of a lab."""
    plan = Plan(name)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    mounts = Path("/proc/self/mounts").read_text()
    found = [path.name for path in Path("/run/netns").glob(f"{plan.name}-*")]
    found += [str(path) for path in (plan.disks, plan.build) if path.exists()]
    found += [line for line in (links.stdout + mounts).splitlines() if plan.name in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        keeper = b"tests.lab.keeper" in words and name.encode() in words
        if keeper or f"--machine={plan.name}-fw-a".encode() in words:
            found.append(f"process {process.name}")
    return found


def until(test: Callable[[], bool], seconds: float = 10) -> bool:
    """Poll until a test holds; whether it did."""
    deadline = time.monotonic() + seconds
    while not test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def dead(process: int) -> bool:
    """Whether a process is gone, or waits only for its parent to take note."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True


def put_on_the_network(lab: Lab, name: str, network: str, address: str) -> None:
    """An address on a node's otherwise unconfigured device."""
    device = lab.device(name, network)
    for words in (f"link set {device} up", f"address replace {address} dev {device}"):
        assert lab.node(name).run(["ip", *words.split()]).returncode == 0


def forward_by_hand(lab: Lab, name: str) -> None:
    """Make a bare node a plain router with NAT; the machine's nft works in its namespace."""
    put_on_the_network(lab, name, "lan", "10.20.1.1/24")
    put_on_the_network(lab, name, "wan", "198.51.100.1/24")
    rules = "table ip t { chain c { type nat hook postrouting priority 100; "
    rules += f'oifname "{lab.device(name, "wan")}" snat to 198.51.100.1; }}; }}'
    enter = ["ip", "netns", "exec", lab.plan.namespace(name)]
    for words in (["sysctl", "-qw", "net.ipv4.ip_forward=1"], ["nft", rules]):
        subprocess.run([*enter, *words], check=True)


def test_nodes_are_bare_and_reachable_as_operators_do(lab: Lab) -> None:
    for name in ("fw-a", "fw-b"):
        shown = lab.ssh(name, ["hostname; cat /proc/sys/net/ipv4/ip_forward; command -v nft"])
        assert shown.stdout.split() == [name, "0"], shown.stderr
        crypto = lab.ssh(name, ["python3", "-c", "'import apt; import cryptography'"])
        assert "No module named 'cryptography'" in crypto.stderr
        lab.node(name).wait_for(["systemctl", "is-system-running", "--wait"])
        devices = {
            Path(p).name for p in lab.node(name).run(["ls", "/sys/class/net"]).stdout.split()
        }
        assert devices == {"lo", *(wire.device for wire in node_wires(name))}


def test_real_time_and_locked_memory_work_in_a_service(lab: Lab) -> None:
    program = "import ctypes,os;assert ctypes.CDLL(None).mlockall(3)==0;"
    program += "os.sched_setscheduler(0,os.SCHED_FIFO,os.sched_param(50));print('fifo')"
    service = ["systemd-run", "--wait", "--pipe", "--quiet", "-p", "LimitMEMLOCK=infinity"]
    done = lab.node("fw-a").run([*service, "python3", "-c", program])
    assert done.stdout == "fifo\n", done.stderr


def test_nodes_cannot_reach_the_machine(lab: Lab) -> None:
    node = lab.node("fw-a")
    assert node.run(["sh", "-c", "echo h > /proc/sysrq-trigger"]).returncode != 0
    assert node.run(["sysctl", "-w", "kernel.panic=1"]).returncode != 0
    assert node.run(["ping", "-c1", "-W1", "192.0.2.1"]).returncode != 0


def test_up_again_changes_nothing(lab: Lab) -> None:
    before = [lab.node(name).leader() for name in ("fw-a", "fw-b")]
    key = (lab.plan.build / "cluster_key").read_text()
    lab.up()
    assert [lab.node(name).leader() for name in ("fw-a", "fw-b")] == before
    assert (lab.plan.build / "cluster_key").read_text() == key


def test_secrets_are_for_their_owner_only(lab: Lab) -> None:
    for name in ("ssh_key", "cluster_key"):
        assert (lab.plan.build / name).stat().st_mode & 0o777 == 0o600
    inventory = lab.inventory.read_text()
    assert (lab.plan.build / "cluster_key").read_text().strip() not in inventory


def test_power_off_is_silence_first_and_then_death(lab: Lab) -> None:
    put_on_the_network(lab, "fw-a", "lan", "10.20.1.2/24")
    lab.node("fw-a").run(["sh", "-c", "echo kept > /root/kept"])
    client = lab.host("client")
    assert until(lambda: client.run(["ping", "-c1", "-W1", "10.20.1.2"]).returncode == 0)
    leader = lab.node("fw-a").leader()
    silent_ns = lab.power_off("fw-a")
    assert silent_ns < time.monotonic_ns()
    assert dead(leader)
    assert lab.status()["nodes"]["fw-a"] == {
        "running": False,
        "broken": dict.fromkeys(("lan", "wan", "dmz", "sync", "mgmt"), "silent"),
    }
    port = lab.switch.run(["ip", "-br", "link", "show", lab.port("fw-a", "lan")]).stdout
    assert "LOWER_UP" in port
    assert client.run(["ping", "-c1", "-W1", "10.20.1.2"]).returncode != 0
    with pytest.raises(LabError, match="powered off"):
        lab.node("fw-a").run(["true"])
    with pytest.raises(LabError, match="silent until it boots"):
        lab.restore("fw-a", "lan")

    lab.boot("fw-a")
    assert lab.node("fw-a").run(["cat", "/root/kept"]).stdout == "kept\n"
    assert "10.20.1.2" not in lab.node("fw-a").run(["ip", "address"]).stdout
    assert lab.status()["nodes"]["fw-a"] == {"running": True, "broken": {}}
    assert lab.ssh("fw-a", ["true"]).returncode == 0


def test_a_reboot_from_inside_is_a_new_kernels_network(lab: Lab) -> None:
    node = lab.node("fw-b")
    put_on_the_network(lab, "fw-b", "lan", "10.20.1.3/24")
    before, boot_id = node.leader(), node.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    node.run(["systemctl", "reboot"])
    assert until(lambda: node.leader() not in (0, before), 60)
    lab.wait_ssh("fw-b")
    assert node.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != boot_id
    assert "10.20.1.3" not in node.run(["ip", "address"]).stdout


def test_cut_loses_the_carrier_and_silence_does_not(lab: Lab) -> None:
    put_on_the_network(lab, "fw-a", "dmz", "10.20.3.2/24")
    host, node = lab.host("dmzhost"), lab.node("fw-a")
    carrier = ["cat", f"/sys/class/net/{lab.device('fw-a', 'dmz')}/carrier"]

    def answers() -> bool:
        return host.run(["ping", "-c1", "-W1", "10.20.3.2"]).returncode == 0

    assert until(answers)
    lab.cut("fw-a", "dmz")
    assert node.run(carrier).stdout == "0\n"
    lab.restore("fw-a", "dmz")
    assert node.run(carrier).stdout == "1\n"
    assert until(answers)
    lab.silence("fw-a", "dmz")
    assert node.run(carrier).stdout == "1\n"
    assert not answers()
    assert lab.status()["nodes"]["fw-a"]["broken"] == {"dmz": "silent"}
    lab.restore("fw-a", "dmz")
    assert until(answers)


def test_one_way_silence_hears_and_is_not_heard(lab: Lab) -> None:
    put_on_the_network(lab, "fw-a", "dmz", "10.20.3.2/24")
    shout = "import socket;s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW);"
    shout += "s.bind(('{}',0));s.send(b'\\xff'*6+b'\\2\\0\\0\\0\\0\\1\\x88\\xb5'+b'x'*50)"
    device = lab.device("fw-a", "dmz")
    lab.silence("fw-a", "dmz", Direction.FROM_NODE)
    ports = ("dmzhost-dmz", lab.port("fw-a", "dmz"))
    with lab.watch(*ports, ethertypes=(HEARTBEAT,)) as watch:
        lab.node("fw-a").run(["python3", "-c", shout.format(device)])
        lab.host("dmzhost").run(["python3", "-c", shout.format("eth0")])
    lab.restore("fw-a", "dmz")
    seen = [(frame.port, frame.way) for frame in watch.frames]
    assert seen == [(ports[1], Way.IN), (ports[0], Way.IN), (ports[1], Way.OUT)]


def test_a_device_that_is_pulled_out_comes_back_the_same(lab: Lab) -> None:
    lab.unplug("fw-b", "sync")
    devices = lab.node("fw-b").run(["ls", "/sys/class/net"]).stdout.split()
    assert lab.device("fw-b", "sync") not in devices
    assert lab.status()["nodes"]["fw-b"]["broken"] == {"sync": "unplugged"}
    lab.plug("fw-b", "sync")
    shown = lab.node("fw-b").run(["cat", f"/sys/class/net/{lab.device('fw-b', 'sync')}/address"])
    assert shown.stdout.strip() == lab.mac("fw-b", "sync")


def test_probes_and_the_recording_agree_on_who_forwarded(lab: Lab) -> None:
    forward_by_hand(lab, "fw-a")
    client, server = lab.host("client"), lab.host("server")
    with driver.echo(server), lab.watch() as watch:
        with (
            driver.udp(client, "198.51.100.100", rate=200) as requests,
            driver.tcp(client, "198.51.100.100", connections=20, every_ms=20) as talk,
        ):
            assert until(lambda: talk.progress.get("exchanges", 0) > 40)
            lab.silence("fw-a", "wan")
            assert until(lambda: requests.progress["waiting_ms"] > 500)
            lab.restore("fw-a", "wan")
            assert until(lambda: requests.progress["waiting_ms"] < 100)
            asked, talked = requests.finish(), talk.finish()
    assert asked["silence_ms"] > 200
    assert 20 <= asked["packets_lost"] < asked["sent"]
    assert (talked["connections_survived"], talked["lost"]) == (20, [])
    delivered = watch.delivered()
    assert {frame.node for frame in delivered} == {"fw-a"}
    assert after(delivered, "fw-a", "fw-b") == []
    questions = [f for f in delivered if f.port == "server-wan" and f.payload[:8] == b"ha-probe"]
    assert {frame.source for frame in questions} == {"198.51.100.1"}
    assert asked["answered"] <= len(questions) <= asked["sent"]


def test_a_late_probe_is_no_silence_and_a_late_echo_loses_nothing(lab: Lab) -> None:
    client, server = lab.host("client"), lab.host("server")
    forward_by_hand(lab, "fw-a")
    with driver.echo(server) as echo:
        with driver.udp(client, "198.51.100.100") as late:
            late.pause(1.0)
            # Only the next request shows how late it was, and one told of may be an earlier one.
            asked = late.progress["sent"]
            assert until(lambda: late.progress["sent"] > asked + 200)
            found = late.finish()
        with driver.udp(client, "198.51.100.100") as lossless:
            echo.pause(0.4)
            assert lossless.finish()["packets_lost"] == 0
        answered = echo.finish()
    assert found["late_ms"] > 200
    assert found["silence_ms"] < found["late_ms"]
    assert answered["late_ms"] > 200


def test_a_pinned_neighbour_follows_nobody(lab: Lab) -> None:
    client = lab.host("client")
    client.pin_neighbour("10.20.1.1", lab.mac("fw-b", "lan"))
    assert client.neighbour("10.20.1.1") == lab.mac("fw-b", "lan")
    announce = ["ping", "-c1", "-W1", "10.20.1.100"]
    forward_by_hand(lab, "fw-a")
    lab.node("fw-a").run([*announce, "-I", "10.20.1.1"])
    assert client.neighbour("10.20.1.1") == lab.mac("fw-b", "lan")
    client.unpin_neighbour("10.20.1.1")


def test_a_second_lab_stands_beside_and_goes_without_a_trace(lab: Lab, second: Lab) -> None:
    before = lab.node("fw-a").leader()
    second.up()
    put_on_the_network(lab, "fw-a", "lan", "10.20.1.2/24")
    put_on_the_network(second, "fw-a", "lan", "10.20.1.2/24")
    second.power_off("fw-a")
    ping = ["ping", "-c1", "-W1", "10.20.1.2"]
    assert until(lambda: lab.host("client").run(ping).returncode == 0)
    second.down()
    assert machine_traces(SECOND) == []
    assert lab.node("fw-a").leader() == before
    assert until(lambda: lab.host("client").run(ping).returncode == 0)


def test_up_mends_what_a_crash_left(second: Lab) -> None:
    command = [sys.executable, "-m", "tests.lab", "up", "--prefix", SECOND]
    dying = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    assert until(lambda: second.plan.namespace_path("client").exists(), 60)
    dying.kill()
    dying.wait()
    second.up()
    assert second.ssh("fw-b", ["true"]).returncode == 0

    subprocess.run(["ip", "netns", "delete", second.plan.namespace("server")], check=True)
    second.node("fw-a").kill_everything()
    second.up()
    assert second.ssh("fw-a", ["true"]).returncode == 0
    assert second.host("server").run(["ip", "route"]).stdout.startswith("198.51.100.0/24")

    subprocess.run(["ip", "netns", "delete", second.plan.namespace("switch")], check=True)
    second.down()
    assert machine_traces(SECOND) == []


def test_a_lab_of_another_working_copy_is_left_alone(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.lab.plan.ROOT", tmp_path)
    for command in (Lab(FIRST).up, Lab(FIRST).down):
        with pytest.raises(LabError, match=f"made from another working copy, {ROOT}"):
            command()
    assert lab.node("fw-a").leader()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["up", "--prefix", "Not-OK"], 2, "prefix 'Not-OK': expected at most 10"),
        (["cut", "fw-c", "lan"], 2, "invalid choice: 'fw-c'"),
        (["cut", "fw-a", "lan", "--prefix", "nosuchlab"], 1, "is not up"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    words: list[str], code: int, sentence: str
) -> None:
    command = [sys.executable, "-m", "tests.lab", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
