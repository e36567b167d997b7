# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What two wire probes would see on networks that a test lays out: a switch on paper.

A test says in which network each port is and what is dropped; this makes the observations.
"""

from __future__ import annotations

LINKS = {"dmz": 1, "lan": 2, "sync": 3, "wan": 4}
NODES = {"fw-a": 1, "fw-b": 2}
KINDS = ("probe", "beat", "arp", "ip", "ip6")
NETWORK = {
    "dmz": "10.20.3.0/24",
    "lan": "10.20.1.0/24",
    "sync": "10.20.4.0/24",
    "wan": "198.51.100.0/24",
}
MTU = 1500


def mac(node, name):
    """The hardware address of a port."""
    return f"02:00:00:00:{LINKS[name]:02x}:{NODES[node]:02x}"


class Paper(object):
    """Two nodes, right by default; change what is public and take `seen()`."""

    def __init__(self):
        self.network = {(n, i): i for n in NODES for i in LINKS}
        """Port to the network that it is plugged into."""
        self.joined = {}
        """A network to another one that it is bridged to."""
        self.extra = {}
        """(node, device beside the pair's) to the network that it is in."""
        self.down = set()
        """Ports without carrier."""
        self.drops = lambda sender, receiver, kind, size: False
        self.vlan = {}
        """(sender, receiver) to the tag with which frames arrive."""
        self.state = {}
        """Port to what is different about its device."""
        self.answers = {}
        """Port to address to hardware addresses."""
        self.more = {}
        """Node to other keys of its observation."""

    def segment(self, port):
        """The network in which a port really is."""
        found = self.network.get(port) or self.extra[port]
        return self.joined.get(found, found)

    def heard(self, node):
        """What arrives at a node."""
        ports = [(node, i) for i in LINKS if (node, i) not in self.down]
        for receiver in ports + [port for port in self.extra if port[0] == node]:
            for sender in ((n, i) for n in NODES for i in LINKS):
                if sender in self.down or sender == receiver:
                    continue
                if self.segment(sender) != self.segment(receiver):
                    continue
                for kind in KINDS:
                    sizes = [0, 1000, MTU] if kind in ("probe", "ip") else [0]
                    passed = [s for s in sizes if not self.drops(sender, receiver, kind, s)]
                    if passed:
                        yield {
                            "at": receiver[1] if receiver in self.network else "",
                            "device": receiver[1], "node": NODES[sender[0]],
                            "link": LINKS[sender[1]], "kind": kind, "mac": mac(*sender),
                            "vlan": self.vlan.get((sender, receiver), 0), "size": max(passed),
                        }  # fmt: skip

    def interface(self, node, name):
        """A node's own view of an interface."""
        number = NODES[node] + 1
        network = NETWORK[name].rsplit(".", 1)[0]
        own, shared = f"{network}.{number}", f"{network}.1"
        answers = {own: [], shared: []}
        answers.update(self.answers.get((node, name), {}))
        return {
            "device": name + "0", "present": True, "ethernet": True, "up": True, "mtu": MTU,
            "carrier": (node, name) not in self.down, "mac": mac(node, name), "wanted_mtu": 0,
            "sent_mtu": MTU, "networks": [NETWORK[name]], "own": [own], "pair": [own, shared],
            "declared": [], "answers": answers, "speed": 10000, "duplex": "full", "echoes": 0,
            "asked": dict.fromkeys(answers, True), "speakers": [],
            **self.state.get((node, name), {}),
        }  # fmt: skip

    def seen(self):
        """Both nodes' observations."""
        return {
            node: {
                "run": "0123456789abcdef", "cluster": 7, "number": NODES[node], "links": LINKS,
                "interfaces": {name: self.interface(node, name) for name in LINKS},
                "heard": list(self.heard(node)), "beats": [], "others": [],
                "skew_ns": {"lan": 200_000}, "began": 100.0, "ended": 107.0, "ran_s": 5.0,
                **self.more.get(node, {}),
            }
            for node in NODES
        }  # fmt: skip
