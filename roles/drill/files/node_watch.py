# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what the agent of this node says, as soon as it says something new, for a whole drill.

Runs on a node, started over a drill's own SSH session. It asks heart over the control socket twenty
times a second, prints {"state": ...} when something that matters has changed and {"event": ...} for
each new event, with times of the node's monotonic clock. While it runs it holds the lock of drills:
a second drill of this pair finds it held and is refused. It ends when its standard input is closed,
when nothing came from there for some time or when its own time is over, and the lock ends with it,
whatever became of the controller and of the way to it.
"""

import argparse
import fcntl
import json
import os
import select
import socket
import sys
import time

HEART = "/run/amaranten-ha/heart.sock"
LOCK = "/run/amaranten-ha-drill.lock"
PACKET = 1 << 20
EVERY_S = 0.05
LOCK_S = 1.0
ASK_EVENTS_S = 0.5


class Agent:
    """The control socket of heart, made again whenever heart is."""

    def __init__(self):
        self.channel = None

    def ask(self, operation):
        """What heart answers, or nothing if there is none that does."""
        try:
            if self.channel is None:
                channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                channel.settimeout(0.2)
                channel.connect(HEART)
                self.channel = channel
            self.channel.send(json.dumps({"op": operation}).encode())
            return json.loads(self.channel.recv(PACKET))
        except (OSError, ValueError):
            if self.channel is not None:
                self.channel.close()
            self.channel = None
            return {}


def state_of(status):
    """What a drill looks at."""
    peer, replica, gate = (status.get(key, {}) for key in ("peer", "replica", "gate"))
    return {
        "role": status.get("role", "no agent"),
        "reason": status.get("reason", ""),
        "epoch": status.get("epoch", 0),
        "ready": bool(status.get("ready")),
        "reasons": status.get("reasons", []),
        "peer": peer.get("state", "unknown"),
        "silence": peer.get("silence", ""),
        "replica": replica.get("state", "unknown"),
        "gate_open": bool(gate.get("open")),
    }


def say(kind, value, at_ns):
    """One line for the controller."""
    print(json.dumps({kind: value, "at_ns": at_ns}), flush=True)


def lock(holder):
    """Take the lock of drills, or end and say who has it; who only asks has it for a moment."""
    file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                other = os.read(file, 200).decode("utf-8", "replace")
                print(json.dumps({"locked": other}), flush=True)
                sys.exit(3)
            time.sleep(0.05)
    os.ftruncate(file, 0)
    os.pwrite(file, holder.encode(), 0)
    return file


def watch(seconds, unheard_s):
    """Look until standard input is closed or silent for that long, or the time is over."""
    agent, known, told_ns = Agent(), None, time.monotonic_ns()
    events_due = 0.0
    deadline = time.monotonic() + seconds
    heard = time.monotonic()
    while time.monotonic() < min(deadline, heard + unheard_s):
        status = agent.ask("status")
        now_ns = time.monotonic_ns()
        state = state_of(status)
        if state != known:
            say("state", state, now_ns)
        if status and (state != known or time.monotonic() >= events_due):
            events_due = time.monotonic() + ASK_EVENTS_S
            for event in agent.ask("events").get("events", []):
                if event["at_ns"] > told_ns:
                    told_ns = event["at_ns"]
                    say("event", {"kind": event["kind"], "text": event["text"]}, told_ns)
        known = state
        if select.select([sys.stdin], [], [], EVERY_S)[0]:
            if not os.read(0, 4096):
                return
            heard = time.monotonic()


def main():
    """Watch as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--unheard-seconds", type=float, default=600)
    parser.add_argument("--holder", default="a drill")
    arguments = parser.parse_args()
    held = lock(arguments.holder)
    try:
        say("ready", True, time.monotonic_ns())
        watch(arguments.seconds, arguments.unheard_seconds)
    finally:
        os.close(held)


if __name__ == "__main__":
    main()
