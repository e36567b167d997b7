# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line; every line of its behaviour is in ``Lab``.

Exit codes: 0 done, 1 the lab could not do it, 2 it was asked for something impossible, and for
``exec`` whatever the program in the node said.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from .lab import Lab
from .plan import DISKS, HOSTS, NETWORKS, NODES, BadRequest, LabError
from .shell import say
from .wires import Direction


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    top = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    prefix = argparse.ArgumentParser(add_help=False)
    prefix.add_argument("--prefix", default="", help="which lab; several may run side by side")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[prefix])

    add("up", "make the lab, or mend what is there")
    add("image", "build the node image now, if the cache lacks it; `up` does that as well")
    add("down", "remove everything that the lab made").add_argument(
        "--all", action="store_true", help="every lab that has disks on this machine"
    )
    add("mend", "undo what was done at the patch panel")
    add("status", "what is there").add_argument("--json", action="store_true")
    for name, text in (
        ("power-off", "pull a node's plug: silent at once, then killed"),
        ("boot", "switch a node on again"),
    ):
        add(name, text).add_argument("node", choices=NODES)
    for name, text in (
        ("cut", "take the carrier of a node's interface away"),
        ("silence", "drop all frames of a node's interface, carrier unchanged"),
        ("restore", "undo cut and silence"),
        ("unplug", "delete a node's device"),
        ("plug", "give a node the unplugged device again"),
    ):
        command = add(name, text)
        command.add_argument("node", choices=NODES)
        command.add_argument("interface", choices=NETWORKS)
        if name == "silence":
            ways = [way.value for way in Direction]
            command.add_argument("--direction", choices=ways, default=Direction.BOTH.value)
    command = add("exec", "run a program in a node or host: exec NODE -- PROGRAM ...")
    command.add_argument("node", choices=(*NODES, *HOSTS, "control", "switch"))
    command.add_argument("program", nargs="+")
    return top


def show(lab: Lab) -> None:
    """The status for people."""
    status = lab.status()
    print(f"{status['name']}: {'up' if status['up'] else 'down'}")
    if not status["up"]:
        return
    for name, node in status["nodes"].items():
        broken = ", ".join(f"{where} {what}" for where, what in node["broken"].items())
        print(f"  {name}: {'running' if node['running'] else 'off'}{broken and '; ' + broken}")
    print(f"  inventory: {status['inventory']}")


def execute(lab: Lab, place: str, program: list[str]) -> int:
    """Run a program with this terminal as its own."""
    if place in lab.nodes:
        return lab.node(place).popen(program).wait()
    host = lab.switch if place == "switch" else lab.host(place)
    return host.popen(program).wait()


def take_down_all() -> None:
    """Remove every lab of this machine, by the disks they have."""
    for disks in sorted(DISKS.glob("amha*")) if DISKS.exists() else []:
        say(f"lab: removing {disks.name}")
        Lab(disks.name.partition("-")[2]).down()


def perform(arguments: argparse.Namespace) -> int:
    """Do what the command line says."""
    lab = Lab(arguments.prefix)
    command = arguments.command
    if command == "up":
        lab.up()
        show(lab)
    elif command == "image":
        print(lab.make_image())
    elif command == "down":
        take_down_all() if arguments.all else lab.down()
    elif command == "status":
        print(json.dumps(lab.status(), indent=2)) if arguments.json else show(lab)
    elif command == "mend":
        lab.patch.mend()
    elif command == "power-off":
        lab.power_off(arguments.node)
    elif command == "boot":
        lab.boot(arguments.node)
    elif command == "silence":
        lab.silence(arguments.node, arguments.interface, Direction(arguments.direction))
    elif command == "exec":
        return execute(lab, arguments.node, arguments.program)
    else:
        getattr(lab, command)(arguments.node, arguments.interface)
    return 0


def main() -> int:
    """Parse, perform, and turn what went wrong into one sentence and an exit code."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_details: sys.exit(143))
    try:
        return perform(arguments)
    except LabError as problem:
        say(f"lab: {problem}")
        return 2 if isinstance(problem, BadRequest) else 1
    except KeyboardInterrupt:
        say("lab: interrupted; 'up' mends what is half-made, 'down' removes it")
        return 130


if __name__ == "__main__":
    sys.exit(main())
