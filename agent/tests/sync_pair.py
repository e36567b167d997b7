# SPDX-License-Identifier: GPL-3.0-or-later
"""Two routers, a client and a server in network namespaces, and the real sync service on both.

Tests of replication enter. Heart is played by the test, at its socket: it says who is active.
Everything is made with the prefix `sy` and this process's id, and removed also when a test fails.
The client and the server reach the shared addresses through pinned neighbour entries, so a switch
is one change of two entries and nothing is left to chance.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sync_heart import Heart
from sync_netns import Namespace, wait_for

SOURCE = Path(__file__).resolve().parents[1] / "src"
KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
CLIENT, CLIENT6 = "10.71.1.100", "fd71:1::100"
SERVER, SERVER6 = "192.0.2.100", "2001:db8:71::100"
SHARED_WAN, SHARED_WAN6 = "192.0.2.1", "2001:db8:71::1"
NOBODY = "192.0.2.200"
PORT = 6780

RULESET = f"""
table inet fw {{
    set paths {{
        type ifname
        elements = {{ sync }}
    }}
    chain input {{
        type filter hook input priority 0;
        tcp dport {PORT} iifname != @paths drop
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state invalid counter drop
        meta l4proto tcp ct state new tcp flags & (fin|syn|rst|ack) != syn counter drop
        ct state established,related counter accept
        iifname lan ct state new accept
        ct status dnat accept
    }}
    chain output {{
        type filter hook output priority 0;
        ct state invalid drop
    }}
    chain leak {{
        type filter hook postrouting priority 200;
        oifname wan ip saddr 10.71.1.0/24 counter
    }}
    chain before {{
        type nat hook prerouting priority dstnat;
        iifname wan ip daddr {SHARED_WAN} tcp dport 8080 dnat ip to {CLIENT}:80
        iifname wan ip6 daddr {SHARED_WAN6} tcp dport 8080 dnat ip6 to [{CLIENT6}]:80
    }}
    chain after {{
        type nat hook postrouting priority srcnat;
        iifname lan oifname wan ip saddr 10.71.1.0/24 udp dport 99 masquerade
        iifname lan oifname wan ip saddr 10.71.1.0/24 snat ip to {SHARED_WAN}
        iifname lan oifname wan ip6 saddr fd71:1::/64 snat ip6 to {SHARED_WAN6}
    }}
}}
"""


class Node(Namespace):
    """One router: its namespace, its sync service, and the heart that the test plays."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        super().__init__(name)
        self.number, self.folder = number, folder
        folder.mkdir(parents=True)
        self.heart = Heart(folder / "heart.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self.mac: dict[str, str] = {}
        self.ports: list[str] = []
        self.extra = ""
        """More lines of the section on replication."""
        self.altered = ""
        """Python that alters the service before it starts: a kernel or a clock that is not here."""
        self.key(KEY)

    def key(self, value: str, key_id: int = 1) -> None:
        """Write the key file."""
        text = f'send_key = {key_id}\n[keys]\n{key_id} = "{value}"\n'
        (self.folder / "keys.toml").write_text(text)

    def configure(self, text: str) -> None:
        """Write the configuration."""
        text = text.replace(f"port = {PORT}\n", f"port = {PORT}\n{self.extra}\n")
        (self.folder / "agent.toml").write_text(text)

    def start(self) -> None:
        """Start the service in the namespace."""
        log = (self.folder / "sync.log").open("ab")
        arguments = [
            "--config", "agent.toml", "--keys", "keys.toml",
            "--heart", "heart.sock", "--epoch", "epoch.json", "--socket", "sync.sock",
        ]  # fmt: skip
        program = [str(SOURCE / "amaranten_ha" / "__main__.py")]
        if self.altered:
            begin = f"import sys; sys.path.insert(0, {str(SOURCE)!r})"
            door = "from amaranten_ha.__main__ import main; sys.exit(main(sys.argv[1:]))"
            program = ["-c", f"{begin}\n{self.altered}\n{door}"]
        with self.inside():
            self.process = subprocess.Popen(
                [sys.executable, "-I", *program, "sync", *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the service."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(timeout=5)
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the service."""
        assert self.process is not None
        self.process.send_signal(number)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Let the service mend nothing meanwhile; for less than the silence that ends a session."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @property
    def report(self) -> dict[str, object]:
        """The newest report to heart."""
        self.heart.poll()
        return self.heart.reports[-1] if self.heart.reports else {}

    def forget_reports(self) -> None:
        """What was reported so far is of no interest."""
        self.heart.poll()
        self.heart.reports.clear()

    def said(self, **wanted: object) -> bool:
        """Whether it has reported this, if only for a moment."""
        self.heart.poll()
        return any(wanted.items() <= each.items() for each in self.heart.reports)

    def wait_report(self, timeout_s: float = 20, **wanted: object) -> None:
        """Wait until a new report says so."""
        self.forget_reports()

        def so() -> bool:
            assert self.process is None or self.process.poll() is None, self.log
            return all(self.report.get(name) == value for name, value in wanted.items())

        try:
            wait_for(so, timeout_s, "")
        except AssertionError:
            raise AssertionError(
                f"{self.name} not {wanted} within {timeout_s} s: {self.report}; {self.log}"
            ) from None

    @property
    def log(self) -> str:
        """What the service said."""
        return (self.folder / "sync.log").read_text()

    def entries(self, *filters: str) -> list[str]:
        """The connection table, as conntrack-tools see it."""
        return (
            self.run("conntrack", "-L", *filters, check=False).splitlines()
            + self.run("conntrack", "-L", "-f", "ipv6", *filters, check=False).splitlines()
        )

    def entries_to(self, *ports: int) -> list[str]:
        """Those to one of these ports: a line's second dport is the port that the client drew."""
        lines = [line for line in self.entries() if " dport=" in line]
        return [line for line in lines if int(line.split(" dport=")[1].split()[0]) in ports]

    def translate_to(self, port: int, *, of: int) -> None:
        """From now on give new connections to the port `of` this one."""
        rule = f"iifname lan oifname wan tcp dport {of} snat ip to {SHARED_WAN}:{port}"
        self.run("nft", "insert", "rule", "inet", "fw", "after", *rule.split())

    def leaked(self) -> int:
        """How many packets left towards the server without being translated."""
        text = self.run("nft", "list", "chain", "inet", "fw", "leak")
        return int(text.split("packets ")[1].split()[0])

    def drops(self) -> list[str]:
        """The rules that dropped forwarded packets: invalid ones, and new ones without SYN."""
        lines = self.run("nft", "list", "chain", "inet", "fw", "forward").splitlines()
        counted = [line.strip() for line in lines if "packets" in line and line.endswith("drop")]
        return [line for line in counted if "packets 0 " not in line]


class Pair:
    """Everything together."""

    def __init__(self, folder: Path) -> None:
        prefix = f"sy{os.getpid()}"
        self._namespaces: list[Namespace] = []
        self._made = 0
        self._barrier = 0
        try:
            self.client = self._keep(Namespace(f"{prefix}c"))
            self.server = self._keep(Namespace(f"{prefix}v"))
            self.switch = self._keep(Namespace(f"{prefix}w"))
            self.a = Node(f"{prefix}a", 1, folder / "a")
            self._namespaces.append(self.a)
            self.b = Node(f"{prefix}b", 2, folder / "b")
            self._namespaces.append(self.b)
            self._wire()
        except BaseException:
            self.remove()
            raise

    def _keep(self, made: Namespace) -> Namespace:
        self._namespaces.append(made)
        return made

    def _wire(self) -> None:
        for bridge in ("lan", "wan", "sync", "mgmt"):
            self.switch.run("ip", "link", "add", bridge, "type", "bridge")
            self.switch.run("ip", "link", "set", bridge, "up")
        self._port("lan", self.client, f"{CLIENT}/24", f"{CLIENT6}/64")
        self._port("wan", self.server, f"{SERVER}/24", f"{SERVER6}/64")
        for node in (self.a, self.b):
            own = node.number + 1
            self._port("lan", node, f"10.71.1.{own}/24", f"fd71:1::{own}/64")
            self._port("wan", node, f"192.0.2.{own}/24", f"2001:db8:71::{own}/64")
            self._port("mgmt", node, f"10.71.9.{own}/24")
            self._port("sync", node, f"10.71.4.{own}/24", f"fd71:4::{own}/64")
            for name, value in (
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv6.conf.all.forwarding", "1"),
                ("net.ipv4.conf.all.send_redirects", "0"),
                ("net.ipv4.conf.lan.send_redirects", "0"),
                ("net.netfilter.nf_conntrack_tcp_loose", "0"),
                ("net.netfilter.nf_conntrack_events", "1"),
            ):
                node.run("sysctl", "-qw", f"{name}={value}")
            node.run("nft", "-f", "-", stdin=RULESET)
            node.configure(_configuration(node.number))
            # Packets to nobody leave the router, and nothing comes back.
            node.run(
                "ip", "neigh", "replace", NOBODY, "lladdr", "02:00:00:00:00:99",
                "dev", "wan", "nud", "permanent",
            )  # fmt: skip
        self.client.run("ip", "route", "add", "default", "via", "10.71.1.1")
        self.client.run("ip", "-6", "route", "add", "default", "via", "fd71:1::1")

    def _port(self, network: str, end: Namespace, *addresses: str) -> None:
        self._made += 1
        port = f"p{self._made}"
        self.switch.run(
            "ip", "link", "add", port, "type", "veth", "peer", "name", network, "netns", end.name
        )
        self.switch.run("ip", "link", "set", port, "master", network, "up")
        end.run("ip", "link", "set", network, "up")
        for address in addresses:
            end.run("ip", "address", "add", address, "dev", network, "nodad")
        if isinstance(end, Node):
            link = json.loads(end.run("ip", "-j", "link", "show", "dev", network))
            end.mac[network] = link[0]["address"]
            end.ports.append(port)

    def power(self, node: Node, *, on: bool) -> None:
        """Silence all ports of a node at once, or bring them back."""
        orders = "".join(f"link set {port} {'up' if on else 'down'}\n" for port in node.ports)
        self.switch.run("ip", "-batch", "-", stdin=orders)

    def activate(self, node: Node) -> None:
        """Move the traffic: the shared addresses are at this node's MAC from now on."""
        for host, network, shared in (
            (self.client, "lan", ("10.71.1.1", "fd71:1::1")),
            (self.server, "wan", (SHARED_WAN, SHARED_WAN6)),
        ):
            for address in shared:
                host.run(
                    "ip", "neigh", "replace", address, "lladdr", node.mac[network],
                    "dev", network, "nud", "permanent",
                )  # fmt: skip

    def begin(self) -> None:
        """Both services run, A is active, B is its copy, the tables are empty."""
        for node in (self.a, self.b):
            node.kill()
            node.key(KEY)
            node.configure(_configuration(node.number))
            node.run("conntrack", "-F", check=False)
            node.run("nft", "-f", "-", stdin=f"delete table inet fw\n{RULESET}")
            node.heart.reports.clear()
            node.start()
        self.activate(self.a)
        self.roles("active", "passive")
        self.b.wait_report(state="synced")
        self.a.wait_report(state="synced")

    def roles(self, a: str, b: str, epoch: int = 1) -> None:
        """Say both roles."""
        self.a.heart.role(a, epoch)
        self.b.heart.role(b, epoch)

    def hand_over(self, old: Node, new: Node, epoch: int) -> None:
        """Switch as heart does: barrier, claim, announcement, and only then silence."""
        old.heart.role("handing over", epoch - 1)
        self.settle()
        new.heart.role("active", epoch)
        self.activate(new)
        old.heart.role("passive", epoch)

    def settle(self, timeout_s: float = 20) -> None:
        """Wait until all that happened so far is at the passive too: a barrier says so."""
        self._barrier += 1

        def synced() -> bool:
            return all(each.report.get("state") == "synced" for each in (self.a, self.b))

        def told() -> bool:
            return synced() and self._barrier in (
                self.a.report["barrier"],
                self.b.report["barrier"],
            )

        try:
            for node in (self.a, self.b):
                node.forget_reports()
            wait_for(synced, timeout_s, "synced")
            for node in (self.a, self.b):
                node.heart.say({"push": "barrier", "id": self._barrier})
            wait_for(told, timeout_s, "told")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {self.a.report} {self.b.report} {self.a.log} {self.b.log}"
            ) from None

    def remove(self) -> None:
        """Remove everything."""
        for each in self._namespaces:
            if isinstance(each, Node):
                each.kill()
                each.heart.close()
            each.remove()


def _configuration(number: int) -> str:
    own, peer = number + 1, 4 - number
    text = f"""
[cluster]
id = 71
name = "sy"
profile = "virtual"
[node]
name = "fw-{"ab"[number - 1]}"
number = {number}
[peer]
name = "fw-{"ba"[number - 1]}"
number = {3 - number}
[replication]
port = {PORT}
[network]
gateways = []
"""
    networks = {
        "lan": ("10.71.1.{}/24", "fd71:1::{}/64"),
        "sync": ("10.71.4.{}/24", "fd71:4::{}/64"),
        "wan": ("192.0.2.{}/24", "2001:db8:71::{}/64"),
    }
    for link, (name, forms) in enumerate(networks.items(), 1):
        role = "sync" if name == "sync" else "service"
        shared = [] if name == "sync" else [form.format(1) for form in forms]
        text += f"""
[[interface]]
name = "{name}"
link = {link}
role = "{role}"
device = "{name}"
own = {json.dumps([form.format(own) for form in forms])}
peer_own = {json.dumps([form.format(peer) for form in forms])}
shared = {json.dumps(shared)}
"""
    return text
