#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What passes between the two nodes now, tried and not inferred.

Runs on both nodes, before and after a ruleset was loaded on one of them.  A heartbeat counts when
it arrived, a way of the replication when a new connection brought a byte of the peer.  It changes
nothing, and says nothing about what had not passed before either.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: paths_info
short_description: What passes between the nodes, and what a change has cut
description:
  - Watches the heartbeats of each interface arrive, in both directions, and opens a new connection
    to the peer's replication port on each way.
  - With O(before) it names what had passed then and does not any more.
version_added: 0.1.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing.
options:
  ways:
    description:
      - The ways of the replication, each with C(own) and C(peer) address.
      - The backup connects and the primary listens, whatever their roles, so that for the primary
        it is an empty list.
    type: list
    elements: dict
    default: []
    suboptions:
      own:
        description: This node's address.
        type: str
        required: true
      peer:
        description: The peer's address.
        type: str
        required: true
  port:
    description: The TCP port of the replication.
    type: int
    default: 6780
  before:
    description: What this module returned before the change.
    type: dict
  wait_s:
    description: For how many seconds something may be missing until it counts as cut.
    type: int
    default: 4
seealso:
  - module: amaranten.ha.ruleset
"""

EXAMPLES = r"""
- name: Note what passes between the nodes
  amaranten.ha.paths_info:
    ways: [{own: 10.20.4.3, peer: 10.20.4.2}]
  register: before

- name: Name what the new ruleset has cut
  amaranten.ha.paths_info:
    ways: [{own: 10.20.4.3, peer: 10.20.4.2}]
    before: "{{ before }}"
"""

RETURN = r"""
heartbeats:
  description: Interface to whether heartbeats arrive here (C(in)) and at the peer (C(out)).
  returned: always
  type: dict
  sample: {lan: {in: true, out: true}}
replication:
  description: Peer's address to what is wrong with the way there, empty if nothing is.
  returned: always
  type: dict
  sample: {10.20.4.2: ""}
cut:
  description: A sentence for each thing that has passed O(before) and does not now.
  returned: always
  type: list
  elements: str
"""

import errno
import os
import socket
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils._agent import status
from ansible_collections.amaranten.ha.plugins.module_utils._node import Node

POLL_S = 0.2
CONNECT_S = 1.0


def beats(node):
    """(interface, direction) to how many heartbeats arrived so far."""
    found = {}
    for name, link in status(node).get("links", {}).items():
        for direction in ("in", "out"):
            found[name, direction] = (link.get(direction) or {}).get("beats", 0)
    return found


def way(own, peer, port):
    """What is wrong with a way, or nothing: a new connection has to bring a byte of the peer."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_S)
            probe.bind((own, 0))
            probe.connect((peer, port))
            return "" if probe.recv(1) else "the peer hung up"
    except OSError as error:
        code = error.errno or errno.ETIMEDOUT
        return os.strerror(code).lower()


def look(node, parameters, expected):
    """(heartbeats, ways), after waiting for what is expected to pass, and at least for a beat."""
    deadline = time.monotonic() + parameters["wait_s"]
    first = beats(node)
    ways = {}
    while True:
        now = beats(node)
        passing = {key: now.get(key, 0) > first[key] for key in first}
        for item in parameters["ways"]:
            if ways.get(item["peer"], "not tried"):
                ways[item["peer"]] = way(item["own"], item["peer"], parameters["port"])
        missing = [key for key in first if expected(key) and not passing[key]]
        if time.monotonic() >= deadline or not (missing or any(ways.values())):
            return passing, ways
        time.sleep(POLL_S)


def sentences(before, passing, ways, port):
    """What had passed and does not."""
    found = []
    for direction, words in (("in", "from the peer"), ("out", "to the peer")):
        names = [
            name
            for (name, kind), passes in passing.items()
            if kind == direction
            and not passes
            and before["heartbeats"].get(name, {}).get(kind)
            # What the peer heard of a link is told over that link.
            and (kind == "in" or passing[name, "in"])
        ]
        if names:
            found.append(
                "The new ruleset cuts the heartbeats %s on %s, expected none that drops Ethernet "
                "frames of a link between the nodes." % (words, ", ".join(names))
            )
    for peer, problem in ways.items():
        if problem and before["replication"].get(peer) == "":
            found.append(
                "The new ruleset cuts the replication to %s (%s), expected one that accepts new "
                "connections to TCP port %d there." % (peer, problem, port)
            )
    return found


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "ways": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "own": {"type": "str", "required": True},
                    "peer": {"type": "str", "required": True},
                },
            },
            "port": {"type": "int", "default": 6780},
            "before": {"type": "dict"},
            "wait_s": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    before = module.params["before"]
    node = Node(module.run_command)

    def expected(key):
        return before is None or before["heartbeats"].get(key[0], {}).get(key[1], False)

    passing, ways = look(node, module.params, expected)
    heartbeats = {}
    for (name, direction), passes in passing.items():
        heartbeats.setdefault(name, {})[direction] = passes
    cut = sentences(before, passing, ways, module.params["port"]) if before else []
    module.exit_json(changed=False, heartbeats=heartbeats, replication=ways, cut=cut)


if __name__ == "__main__":
    main()
