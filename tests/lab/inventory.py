# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab writes for its users: keys, known hosts, and an inventory that is ready to use.

All of it goes to the build directory of the lab. Secrets are files of their own that only their
owner can read; the inventory looks them up and never contains them.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from .plan import DEVICES, FIREWALLED, HOSTS, NODES, Plan, address, shared_addresses
from .shell import run

Value = dict[str, "Value"] | list["Value"] | str | int

KEY_PAIRS = ("ssh_key", *(f"host_key_{node}" for node in NODES))
FILES = (
    *KEY_PAIRS,
    *(f"{name}.pub" for name in KEY_PAIRS),
    "known_hosts",
    "cluster_key",
    "inventory.yml",
)

HEADER = """# Written by the lab ({name}); edits are lost with the next `up`.
# The path to a node leads through the lab's management namespace, so this needs root.
"""
PROXY = "ip netns exec {namespace} /usr/bin/python3 -I {pipe} {{{{ lab_address }}}} 22"


def yaml(value: Value, indent: int = 0) -> str:
    """A block of YAML; what is not a mapping or a list of its own lines is written as JSON is."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, inner in value.items():
            nested = isinstance(inner, (dict, list)) and inner
            text = f"\n{yaml(inner, indent + 1)}" if nested else f" {json.dumps(inner)}\n"
            lines.append(f"{pad}{key}:{text}")
        return "".join(lines)
    if isinstance(value, list):
        return "".join(f"{pad}- {json.dumps(item)}\n" for item in value)
    return json.dumps(value)


def secret_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first moment."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def make_ssh_key(path: Path, comment: str) -> str:
    """A new key pair without a passphrase; the public half's text."""
    public = path.with_name(f"{path.name}.pub")
    path.unlink(missing_ok=True)
    public.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return public.read_text().strip()


def make_keys(plan: Plan) -> tuple[str, dict[str, Path]]:
    """Everything secret in a lab: the login key's public text, and the host keys."""
    build = plan.build
    build.mkdir(parents=True, exist_ok=True)
    login = make_ssh_key(build / "ssh_key", f"{plan.name} lab")
    host_keys = {}
    known = ""
    for node in NODES:
        path = build / f"host_key_{node}"
        public = make_ssh_key(path, node)
        ipv4 = address(node, "mgmt").partition("/")[0]
        known += f"{plan.address_name(node)},{ipv4} {' '.join(public.split()[:2])}\n"
        host_keys[node] = path
    (build / "known_hosts").write_text(known)
    secret_file(build / "cluster_key", base64.b64encode(os.urandom(32)).decode() + "\n")
    return login, host_keys


def cluster() -> dict[str, Value]:
    """The pair of this lab in the words of the product."""
    interfaces: dict[str, Value] = {}
    for network in (*FIREWALLED, "sync"):
        nodes: dict[str, Value] = {
            node: {
                "device": DEVICES[node][network],
                "addresses": [address(node, network), address(node, network, 6)],
            }
            for node in NODES
        }
        if network == "sync":
            interfaces[network] = {"role": "sync", "nodes": nodes}
        else:
            shared: list[Value] = [*shared_addresses(network)]
            interfaces[network] = {"shared": shared, "nodes": nodes}
    return {
        "id": 7,
        "name": "edge",
        "profile": "virtual",
        "keys": {"1": "{{ lookup('ansible.builtin.file', inventory_dir ~ '/cluster_key') }}"},
        "send_key": 1,
        "primary": "fw-a",
        "backup": "fw-b",
        "interfaces": interfaces,
        "ruleset": "edge.nft.j2",
        # Tests provoke one failover after the other; each is to be as fast as the first.
        "damping": False,
    }


def port_forwards() -> list[Value]:
    """What the example ruleset lets in from outside: a port that leads to the host on dmz."""
    return [
        {"protocol": "tcp", "port": 8001, "to": target, "to_port": 7001}
        for target in (address("dmzhost", "dmz", family).partition("/")[0] for family in (4, 6))
    ]


def ssh_arguments(plan: Plan) -> str:
    """How SSH reaches a node: own known hosts, and a way into the management namespace."""
    pipe = "{{ inventory_dir }}/../../tests/lab/pipe.py"
    proxy = PROXY.format(namespace=plan.namespace("control"), pipe=pipe)
    return (
        "-o UserKnownHostsFile={{ inventory_dir }}/known_hosts -o GlobalKnownHostsFile=/dev/null "
        f"-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o ProxyCommand='{proxy}'"
    )


def lab_command(plan: Plan, *words: str) -> str:
    """A command of this lab, as the inventory's hard power switch of a node."""
    prefix = f" --prefix {plan.prefix}" if plan.prefix else ""
    root = "{{ inventory_dir }}/../.."
    return f"cd {root} && .venv/bin/python -m tests.lab {' '.join(words)}{prefix}"


def vantage_host(plan: Plan, host: str) -> dict[str, Value]:
    """A host from which a drill looks at the pair: this machine, in the host's network."""
    return {
        "lab_namespace": plan.namespace(host),
        "vantage_command": f"ip netns exec {plan.namespace(host)}",
    }


def drill_flows() -> list[Value]:
    """The traffic of a drill in this lab: through the NAT, a port forward, and IPv6."""
    ipv4, ipv6 = (address("server", "wan", family).partition("/")[0] for family in (4, 6))
    out: dict[str, Value] = {"from": "client", "to": "server", "address": ipv4}
    forward = shared_addresses("wan")[0].partition("/")[0]
    return [
        {"name": "udp through the NAT", "kind": "udp", **out},
        {"name": "udp over IPv6", "kind": "udp", **out, "address": ipv6},
        {"name": "tcp through the NAT", "kind": "tcp", **out},
        {
            "name": "tcp through the port forward",
            "kind": "tcp",
            "from": "server",
            "to": "dmzhost",
            "address": forward,
            "port": 8001,
            "connections": 50,
        },
        {"name": "a tcp stream", "kind": "bulk", **out},
        {"name": "new tcp connections", "kind": "connects", **out},
    ]


def write_inventory(plan: Plan) -> Path:
    """Write the inventory; its path."""
    firewalls: dict[str, Value] = {}
    for node in NODES:
        firewalls[node] = {
            "ansible_host": plan.address_name(node),
            "lab_address": address(node, "mgmt").partition("/")[0],
            "ha_power_off_command": lab_command(plan, "power-off", node),
            "ha_power_on_command": lab_command(plan, "boot", node),
        }
    settings: dict[str, Value] = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": "{{ inventory_dir }}/ssh_key",
        "ansible_ssh_common_args": ssh_arguments(plan),
        "ha_packages_dir": "{{ inventory_dir }}/../packages",
        "ha_cluster": cluster(),
        "edge_port_forwards": port_forwards(),
    }
    vantage: dict[str, Value] = {host: vantage_host(plan, host) for host in HOSTS}
    groups: dict[str, Value] = {
        "firewalls": {"hosts": firewalls, "vars": settings},
        "vantage": {"hosts": vantage, "vars": {"ansible_connection": "local"}},
    }
    top: dict[str, Value] = {"children": groups, "vars": {"drill_flows": drill_flows()}}
    path = plan.build / "inventory.yml"
    path.write_text(HEADER.format(name=plan.name) + yaml({"all": top}))
    return path
