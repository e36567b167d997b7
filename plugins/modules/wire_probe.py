#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) The amaranten.ha contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Speaks and listens on every interface of a node, while the other node does the same.

It observes, and judges nothing: that is done on the controller, from what both nodes have seen.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: wire_probe
short_description: Speak and listen on every interface of the pair at once
description:
  - Sends frames of its own on each interface and writes down what arrives where, with which
    hardware address, size and VLAN tag. Both nodes must run it in the same task.
  - Asks who has the node's own and the shared addresses, and the neighbours of each network, by ARP
    and neighbour solicitation, and writes down who answers.
  - Needs no address on an interface and nothing installed but Python and iproute2. What is seen is
    judged by M(amaranten.ha.wiring_check).
  - The frames have the EtherType 0x88B6, and small ones beside them also 0x88B5 (that of the
    heartbeats), ARP, IPv4 and IPv6. None of them can be taken for a heartbeat, and none changes a
    neighbour's tables but for the node's own addresses.
version_added: 0.2.0
author: The amaranten.ha contributors (@amaranten)
extends_documentation_fragment:
  - amaranten.ha.attributes
attributes:
  check_mode:
    support: full
    details: Does the same. A device that it brought up is down again before it returns.
  diff_mode:
    support: none
    details: Changes nothing that lasts.
  pair:
    support: full
options:
  run:
    description: A number of this run in 16 hexadecimal digits, the same for both nodes.
    type: str
    required: true
  cluster:
    description: The number of the pair.
    type: int
    required: true
  node:
    description: The number of this node, V(1) or V(2).
    type: int
    required: true
  interfaces:
    description: The interfaces of this node, as RV(amaranten.ha.cluster#module:pair) has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The logical name.
        type: str
        required: true
      link:
        description: The number of the interface, the same on both nodes.
        type: int
        required: true
      device:
        description: The device on this node.
        type: str
        required: true
      mtu:
        description: The largest packet that the network is meant to take; that of the device if it
          is not given.
        type: int
      own:
        description: Own addresses of this node, with their prefixes.
        type: list
        elements: str
        default: []
      peer_own:
        description: Own addresses of the other node, with their prefixes. They are not asked for.
        type: list
        elements: str
        default: []
      shared:
        description: Shared addresses, with their prefixes.
        type: list
        elements: str
        default: []
      networks:
        description: The networks on this interface.
        type: list
        elements: str
        default: []
      neighbours:
        description: Addresses of equipment that both nodes must reach.
        type: list
        elements: str
        default: []
  neighbours:
    description: More of them by logical name, as both nodes have them in their tables.
    type: list
    elements: dict
    default: []
  listen_s:
    description: Seconds to listen if not everything is heard before. Give it V(45) if the switch
      ports run spanning tree and the interfaces of the nodes are still down.
    type: int
    default: 5
  bring_up:
    description:
      - Whether an interface that is down and has no address is brought up for the probe. It is
        silent meanwhile but for the probe's own frames, IPv6 being off on it, and is put back
        when the probe ends, also when the probe is killed.
      - An interface that is down and has an address stays down, and so does every one of a node on
        which the agent runs.
    type: bool
    default: true
seealso:
  - module: amaranten.ha.wiring_check
"""

EXAMPLES = r"""
- name: Validate the pair
  amaranten.ha.cluster:
  register: found

- name: Choose a number for this run
  ansible.builtin.set_fact:
    run: "{{ lookup('ansible.builtin.password', '/dev/null', chars=['0123456789abcdef'],
      length=16) }}"
  run_once: true

- name: Speak and listen on every interface
  amaranten.ha.wire_probe:
    run: "{{ run }}"
    cluster: "{{ found.pair.id }}"
    node: "{{ found.pair.number }}"
    interfaces: "{{ found.pair.wiring }}"
  register: seen
"""

RETURN = r"""
wiring:
  description: What this node has seen; see M(amaranten.ha.wiring_check).
  returned: always
  type: dict
  contains:
    interfaces:
      description: By logical name, the device with C(present), C(up), C(carrier), C(mac), C(mtu),
        C(speed), C(duplex), C(driver), and what was asked and answered on it.
      type: dict
    heard:
      description: Each kind of frame of this run that arrived, with C(device) and C(at), the
        interface where it arrived, C(node) and C(link) that sent it, C(kind), C(vlan), C(mac), and
        C(size), the largest.
      type: list
      elements: dict
    beats:
      description: Heartbeats that were heard, by C(cluster), C(node) and C(mac).
      type: list
      elements: dict
    others:
      description: Frames of other runs of a probe.
      type: list
      elements: dict
    skew_ns:
      description: This node's clock less the peer's, and the time on the way, in nanoseconds, by
        interface.
      type: dict
    ran_s:
      description: Seconds that it spoke and listened.
      type: float
"""

import fcntl
import ipaddress
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.amaranten.ha.plugins.module_utils import _wire_device as device
from ansible_collections.amaranten.ha.plugins.module_utils._wire_run import Port, Run

LOCK = "/run/amaranten-ha-wire-probe.lock"
TARGETS_MAX = 256
INTERFACE = {
    "name": {"type": "str", "required": True},
    "link": {"type": "int", "required": True},
    "device": {"type": "str", "required": True},
    "mtu": {"type": "int"},
    "own": {"type": "list", "elements": "str", "default": []},
    "peer_own": {"type": "list", "elements": "str", "default": []},
    "shared": {"type": "list", "elements": "str", "default": []},
    "networks": {"type": "list", "elements": "str", "default": []},
    "neighbours": {"type": "list", "elements": "str", "default": []},
}


def senders(addresses, own):
    """The address to ask from, by family: an own one that is on the device, else a link-local one.

    A shared address is never asked from: it may be the other node's now.
    """
    found = {}
    declared = {ipaddress.ip_interface(text).ip for text in own}
    for item in addresses:
        if "local" not in item or item.get("tentative") or item.get("dadfailed"):
            continue
        address = ipaddress.ip_address(item["local"])
        if address in declared:
            found[address.version] = address
        elif address.version == 6 and item.get("scope") == "link" and item["prefixlen"] == 64:
            if address != ipaddress.ip_address("fe80::1"):
                found.setdefault(6, address)
    return found


def bare(texts):
    """Addresses without their prefixes."""
    return [ipaddress.ip_interface(text).ip for text in texts]


def questions(interface, extra, addresses):
    """Address to (what is asked for, from which own address), and how many were left out.

    The peer's own addresses are not asked for: an answer without one for the shared address before
    it could look to a heart on this node like that of a kernel whose agent is lost.
    """
    own, shared, peer = (bare(interface[key]) for key in ("own", "shared", "peer_own"))
    neighbours = bare(text.split("%")[0] for text in interface["neighbours"] + extra)
    sender = senders(addresses, interface["own"])
    targets = {}
    for address in own + shared + [a for a in neighbours if a not in peer]:
        # For our own and the shared ones nobody is named who could be taken for their owner.
        source = None if address in own or address in shared else sender.get(address.version)
        targets.setdefault(str(address), (address.packed, source.packed if source else None))
    kept = dict(list(targets.items())[:TARGETS_MAX])
    return kept, len(targets) - len(kept)


def prepare(module, devices, loan):
    """Facts of each interface, and the ports to speak on, once the devices have been made ready."""
    states, ready, ups, mtus = {}, [], [], {}
    for interface in module.params["interfaces"]:
        name = interface["device"]
        state = devices.facts(name)
        states[interface["name"]] = state
        state["networks"] = interface["networks"]
        state["addresses"] = [a["local"] for a in devices.addresses(name) if "local" in a]
        state["own"] = [str(address) for address in bare(interface["own"])]
        state["pair"] = state["own"] + [str(address) for address in bare(interface["shared"])]
        state["declared"] = [str(address) for address in bare(interface["neighbours"])]
        state["wanted_mtu"] = interface["mtu"] or 0
        if not state["present"] or not state["ethernet"]:
            continue
        why = devices.in_use(name)
        raised = (interface["mtu"] or 0) > state["mtu"]
        state["left_alone"] = "" if state["up"] and not raised else why
        up = not state["up"] and module.params["bring_up"] and not why
        larger = interface["mtu"] if raised and not why and (up or state["up"]) else 0
        state["brought_up"], state["raised"] = up, bool(larger)
        loan.ready(name, up, larger, state)
        if up:
            ups.append(name)
        if larger:
            mtus[name] = larger
        if up or state["up"]:
            ready.append(interface)
    loan.begin(ups, mtus)
    return states, ready, mtus


def listeners(devices, declared):
    """Devices beside the pair's on which frames of a wrong cable could turn up."""
    for name, _link in sorted(devices.links.items()):
        facts = devices.facts(name)
        if name not in declared and facts["ethernet"] and facts["up"] and not facts["master"]:
            if name != "lo" and not any(
                each.get("link") == name for each in devices.links.values()
            ):
                yield name, facts


def observe(module, devices, loan):
    """The whole run; what was seen."""
    states, ready, mtus = prepare(module, devices, loan)
    extra = {}
    for table in module.params["neighbours"]:
        for name, addresses in table.items():
            extra.setdefault(name, []).extend(addresses)
    ports = []
    for interface in ready:
        name, state = interface["device"], states[interface["name"]]
        asked, left = questions(
            interface, extra.get(interface["name"], []), devices.addresses(name)
        )
        port = Port(name, state, devices.vlans(name), dict(interface, ask=asked))
        port.mtu = mtus.get(name, state["mtu"])
        state["asked"] = {text: bool(target[1]) for text, target in asked.items()}
        state["not_asked"] = left
        ports.append(port)
    declared = {interface["device"] for interface in module.params["interfaces"]}
    ports += [Port(name, facts, set()) for name, facts in listeners(devices, declared)]
    run = Run(
        module.params["cluster"], module.params["node"], bytes.fromhex(module.params["run"]),
        ports, module.params["listen_s"],
    )  # fmt: skip
    run.go()
    for port in run.spoken:
        state = states[port.name]
        state["carrier"] = device.carrier(port.device)
        state["speed"], state["duplex"] = device.speed(port.device)
        state["sent_mtu"], state["error"], state["echoes"] = port.mtu, port.errors, port.echoes
        state["answers"] = {text: sorted(macs) for text, macs in port.answers.items()}
        state["speakers"] = sorted(port.speakers)
    return seen(module, states, run, {port.device: port.name for port in ports})


def seen(module, states, run, names):
    """What was seen, as the controller wants it."""

    def table(heads, keys):
        return [
            dict(((head, key[i]) for i, head in enumerate(heads)), at=names[key[0]])
            for key in sorted(keys)
        ]

    heard = table(("device", "node", "link", "kind", "vlan", "mac"), run.heard)
    for entry, key in enumerate(sorted(run.heard)):
        heard[entry]["size"] = run.heard[key]
    strangers = ("device", "cluster", "node", "mac")
    return {
        "run": module.params["run"],
        "cluster": module.params["cluster"],
        "number": module.params["node"],
        "interfaces": states,
        "links": {i["name"]: i["link"] for i in module.params["interfaces"]},
        "heard": heard,
        "beats": table(strangers, run.beats),
        "others": table(strangers, run.others),
        "skew_ns": run.skew_ns,
        "ran_s": round(time.monotonic() - run.began, 3),
    }


def main():
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str", "required": True},
            "cluster": {"type": "int", "required": True},
            "node": {"type": "int", "required": True},
            "interfaces": {
                "type": "list", "elements": "dict", "required": True, "options": INTERFACE,
            },
            "neighbours": {"type": "list", "elements": "dict", "default": []},
            "listen_s": {"type": "int", "default": 5},
            "bring_up": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )  # fmt: skip
    if len(module.params["run"]) != 16 or module.params["run"].strip("0123456789abcdef"):
        module.fail_json(msg="run is %r, expected 16 hexadecimal digits." % module.params["run"])
    if not 1 <= module.params["listen_s"] <= 120:
        module.fail_json(
            msg="listen_s is %d, expected seconds from 1 to 120." % module.params["listen_s"]
        )
    with open(LOCK, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            module.fail_json(msg="Another wire probe runs on this node, expected one at a time.")
        loan = device.Loan(module.run_command)
        try:
            found = observe(module, device.Devices(module.run_command), loan)
        finally:
            loan.end()
    module.exit_json(changed=False, wiring=found)


if __name__ == "__main__":
    main()
