# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench-pairs`: preflight and drift of one pair, and drift of many pairs in one inventory.

An engineer enters. A real pair is deployed in a lab of its own and looked at again and again; then
its power is cut, and its disks become those of the light pairs. Everything is removed at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from tests.lab import Lab, LabError
from tests.lab.plan import NODES, ROOT, own_prefix
from tests.lab.shell import say
from tests.pairs.light import LightPairs

PLAYBOOK = ROOT / ".venv/bin/ansible-playbook"
RESULT = ROOT / "build/bench/pairs.json"
PLAY_S_MAX = 900


def play(inventory: Path, playbook: str, *arguments: str) -> tuple[float, int, str]:
    """(seconds, exit code, output) of a playbook."""
    began = time.monotonic()
    done = subprocess.run(
        [str(PLAYBOOK), "-i", str(inventory), f"playbooks/{playbook}.yml", *arguments],
        cwd=ROOT,
        env=dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PLAY_S_MAX,
        check=False,
    )
    return time.monotonic() - began, done.returncode, done.stdout


def expected(code: int, wanted: tuple[int, ...], output: str) -> None:
    """Refuse to time a playbook that did something else."""
    if code not in wanted:
        raise LabError(f"exit code {code}, expected {wanted}:\n{output[-3000:]}")


def timed(inventory: Path, playbook: str, runs: int) -> list[float]:
    """The seconds of several runs that find nothing."""
    found = []
    for number in range(1, runs + 1):
        seconds, code, output = play(inventory, playbook)
        expected(code, (0,), output)
        say(f"{playbook} {number} of {runs}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
        found.append(round(seconds, 1))
    return found


def many(lab: Lab, pairs: LightPairs) -> Path:
    """The lab's inventory with the light pairs in the place of its own."""
    inventory = yaml.safe_load(lab.inventory.read_text())
    firewalls = inventory["all"]["children"]["firewalls"]
    settings = firewalls["vars"]
    children = {}
    for first, second in zip(pairs.nodes[::2], pairs.nodes[1::2], strict=True):
        names = dict(zip(NODES, (first.name, second.name), strict=True))
        cluster = json.loads(json.dumps(settings["ha_cluster"]))
        cluster.update(id=first.pair, name=f"pair{first.pair:02d}")
        cluster.update(primary=first.name, backup=second.name)
        for interface in cluster["interfaces"].values():
            interface["nodes"] = {names[node]: told for node, told in interface["nodes"].items()}
        hosts = {node.name: one(settings, node.name, node.way_in) for node in (first, second)}
        children[f"fw_{first.pair:02d}"] = {"hosts": hosts, "vars": {"ha_cluster": cluster}}
    shared = {name: value for name, value in settings.items() if name != "ha_cluster"}
    inventory["all"]["children"] = {"firewalls": {"children": children, "vars": shared}}
    path = lab.inventory.with_name("pairs.yml")
    path.write_text(yaml.safe_dump(inventory))
    return path


def one(settings: dict[str, Any], name: str, way_in: str) -> dict[str, str]:
    """The variables of a light node."""
    known = settings["ansible_ssh_common_args"].partition("-o ProxyCommand")[0]
    strict = known.replace("StrictHostKeyChecking=yes", "StrictHostKeyChecking=no")
    own = strict.replace("/known_hosts", f"/known_hosts-{name}")
    return {
        "ansible_host": f"{name}.pairs",
        "ansible_ssh_common_args": f"{own}-o ProxyCommand='{way_in}'",
    }


def bench(lab: Lab, pairs: int, runs: int) -> dict[str, Any]:
    """All figures."""
    lab.up()
    seconds, code, output = play(lab.inventory, "site")
    expected(code, (0,), output)
    say(f"site.yml on bare nodes: {seconds:.1f} s")
    found: dict[str, Any] = {"site_bare_s": round(seconds, 1)}
    found["site_again_s"] = timed(lab.inventory, "site", 1)
    found["preflight_s"] = timed(lab.inventory, "preflight", runs)
    found["drift_s"] = timed(lab.inventory, "drift", runs)
    image = Path(str(lab.state()["image"]))
    for node in NODES:
        lab.power_off(node)
    with LightPairs(lab.plan, image, pairs) as light:
        inventory = many(lab, light)
        for forks in (5, 20):
            seconds, code, output = play(inventory, "drift", "--forks", str(forks))
            # Their units do not run, and that is drift.
            expected(code, (2,), output)
            (RESULT.parent / f"pairs-{forks}.log").write_text(output)
            say(f"drift of {pairs} pairs, {forks} forks: {seconds:.1f} s")
            found[f"drift_{pairs}_pairs_{forks}_forks_s"] = round(seconds, 1)
    return found


def main() -> int:
    """Run it; the figures go to build/bench/pairs.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.pairs", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="light pairs (20)")
    parser.add_argument("--runs", type=int, default=5, help="runs on the one real pair (5)")
    asked = parser.parse_args()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    lab = Lab(own_prefix("pairs"))
    try:
        found = bench(lab, asked.pairs, asked.runs)
    except LabError as problem:
        print(f"bench-pairs: {problem}", file=sys.stderr)
        return 1
    finally:
        with contextlib.suppress(LabError):
            lab.down()
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    for name, value in found.items():
        middle = f" median {statistics.median(value)}" if isinstance(value, list) else ""
        print(f"{name}: {value}{middle}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
