# SPDX-License-Identifier: GPL-3.0-or-later
"""The ground that all contenders stand on: a lab, the product deployed, the others installed.

Enter with ``Ground``. One ruleset for everybody: the example ruleset of the product with what the
others need let in, and with one port whose packets pass only as part of a connection that exists.
A ground that no longer works is torn down and made again; nothing is repaired by hand.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.integration import deployment
from tests.lab import Lab, LabError
from tests.lab.machine import Machine
from tests.lab.plan import NODES, ROOT, address
from tests.lab.shell import say

from .contenders import OUR_UNITS, THEIR_UNITS, BenchError, clean, must, on_both
from .rival import SYNC_PORT

PACKAGES = ROOT / "build/packages-bench"
TEMPLATE = ROOT / "roles/firewall/templates/edge.nft.j2"
STATEFUL_PORT = 7009
FORWARD_PORT = 8000
OPEN_SET = "bench_open"

# In the example's text -> what stands there in the bench.
ADDITIONS = {
    "\tchain input {\n": f"""\tset {OPEN_SET} {{
\t\ttype inet_service
\t\tflags timeout
\t}}

\tchain input {{
""",
    "\t\tct state invalid drop\n\t\tmeta l4proto { icmp": f"""\t\tmeta l4proto vrrp accept
\t\tiifname $sync udp dport {SYNC_PORT} accept
\t\tct state invalid drop
\t\tmeta l4proto {{ icmp""",
    "\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n": f"""\
\tchain forward {{
\t\ttype filter hook forward priority filter; policy drop;

\t\tct state new udp dport {STATEFUL_PORT} udp dport != @{OPEN_SET} drop
""",
}


def ruleset() -> str:
    """The template of the bench: the example, with the additions."""
    text = TEMPLATE.read_text()
    for there, wanted in ADDITIONS.items():
        if text.count(there) != 1:
            raise BenchError(f"{TEMPLATE.name} has changed: {there!r} is not there exactly once")
        text = text.replace(there, wanted)
    return text


def forwards() -> list[dict[str, Any]]:
    """The port forwards of the bench: UDP for the probes, TCP for connections."""
    target = address("dmzhost", "dmz").partition("/")[0]
    return [
        {"protocol": "udp", "port": FORWARD_PORT, "to": target, "to_port": 7000},
        {"protocol": "tcp", "port": 8001, "to": target, "to_port": 7001},
    ]


class Ground:
    """A lab in which every contender can be started."""

    def __init__(self, prefix: str) -> None:
        self.lab = Lab(prefix)
        self.made = False

    def make(self) -> None:
        """A lab with everything installed and nothing running; a sound one is kept."""
        if self.made:
            return
        if not self._whole():
            say("bench: making the ground: a new lab, site.yml, keepalived and conntrackd")
            self.lab.down()
            self.lab.up()
            self._deploy()
            on_both(self.lab, self._install)
        self.lab.up()
        clean(self.lab)
        self.made = True

    def spoil(self) -> None:
        """What is there is not trusted any more: the next ``make`` begins with nothing."""
        self.made = False
        self.lab.down()

    def down(self) -> None:
        """Remove it."""
        self.made = False
        self.lab.down()

    def _whole(self) -> bool:
        """Whether both nodes run and have all that is to be measured, of this very tree."""
        try:
            if not all(self.lab.node(name).leader() for name in NODES):
                return False
            wanted = self._agent_digest()
            return all(
                self.lab.node(name).run(["cat", "/etc/bench-ground"]).stdout == wanted
                for name in NODES
            )
        except LabError:
            return False

    def _agent_digest(self) -> str:
        archive = ROOT / "roles/agent/files/amaranten-ha-agent.tar.gz"
        return deployment_digest(archive.read_bytes(), ruleset().encode())

    def _deploy(self) -> None:
        folder = self.lab.inventory.with_name("templates")
        folder.mkdir(exist_ok=True)
        (folder / "bench.nft.j2").write_text(ruleset())

        def change(_hosts: dict[str, Any], cluster: dict[str, Any]) -> None:
            cluster["ruleset"] = "bench.nft.j2"

        inventory = deployment.varied(self.lab, "bench", change)
        more = json.dumps({"edge_port_forwards": forwards()})
        done = deployment.deploy(self.lab, "-e", more, inventory=inventory)
        if done.code != 0:
            raise BenchError(f"site.yml exited with {done.code}:\n{done.end()}")

    def _install(self, node: Machine) -> None:
        node.deliver(PACKAGES, "/root/bench-packages")
        names = sorted(f"/root/bench-packages/{path.name}" for path in PACKAGES.glob("*.deb"))
        if not names:
            raise BenchError(f"{PACKAGES.relative_to(ROOT)} is empty; 'make bench-packages'")
        must(
            node,
            *("env", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=0"),
            *("dpkg", "--install", "--force-confold", *names),
            timeout_s=180,
        )
        must(node, "systemctl", "disable", "--now", *OUR_UNITS, *THEIR_UNITS, timeout_s=60)
        digest = self._agent_digest()
        must(node, "sh", "-c", f"printf %s '{digest}' >/etc/bench-ground")


def deployment_digest(*parts: bytes) -> str:
    """What tells one ground from another."""
    seen = hashlib.sha256()
    for part in parts:
        seen.update(hashlib.sha256(part).digest())
    return seen.hexdigest()
