# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller dies at every boundary of the playbooks that change a pair in steps, one by one.

`make test-boundaries` enters; it takes hours, so `make test` has a sample of it. What the
boundaries are is read from a whole run: each begin of a task, each host that was changed in one.
After each death the pair must work by itself, and the next run must end what that one began.
BOUNDARIES=12,30-33 tries these numbers alone, so that a run that ended early is taken up again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

from tests.integration import steps
from tests.integration.deployment import Run, chosen, play, varied
from tests.integration.test_day_two_keys import counts, keys, only
from tests.integration.test_day_two_upgrade import other_version, versions, working
from tests.integration.test_rules import change, phase, rules, template, with_rule
from tests.lab import Lab
from tests.lab.plan import NODES, ROOT

# By processor: packets that came in, and those that the machine dropped, its queue being full.
SOFTNET = Path("/proc/net/softnet_stat")
PENDING = ("provisional", "held", "settling", "committing")


def in_turn(
    lab: Lab,
    ways: tuple[Callable[..., Run], Callable[..., Run]],
    holds: Callable[[], None],
    first: str = "changed: ",
    by_itself: bool = True,
) -> None:
    """Go one way and the other by turns, each time interrupted one boundary later, then ended.

    What dies before the boundary `first` has changed nothing, and is not ended. What a death leaves
    is waited for, or at every second boundary met by the next run as it is, unless `by_itself`.
    """
    # Twice: what is brought to a node for the first time is a change that later ways do not have.
    whole = [way() for way in ways * 2]
    assert [run.code for run in whole] == [0] * 4, [run.end() for run in whole]
    found = [run.boundaries for run in whole[2:]]
    looks = [next(n for n, line in enumerate(each) if first in line) - 1 for each in found]
    side, packets, tried = 0, 0, 0
    for number in chosen(os.environ.get("BOUNDARIES", ""), max(map(len, found))):
        if number > len(found[side]):
            # This way is the shorter one: go it, and let the other one die.
            assert ways[side]().code == 0
            side = 1 - side
        before = dropped()
        with steps.traffic(lab, connections=200) as probing:
            # The connections are new: on a busy machine the replica may lack some yet.
            working(lab)
            died = ways[side](die_at=number)
            if by_itself or number % 2 or number <= looks[side]:
                holds()
            if number > looks[side]:
                working(lab)
                run = ways[side]()
                assert run.code == 0, run.end()
                holds()
        where = f"{number} of {len(found[side])}, {('there', 'back')[side]}"
        udp, tcp = probing.result.udp, probing.result.tcp
        print(f"{where}: {died.boundaries[-1].rstrip(' *')}", flush=True)
        # A machine that starves its queues loses packets that no firewall has seen.
        end = f"the machine dropped {dropped() - before}, {died.end()}"
        assert udp["packets_lost"] == 0, f"{where}: {udp}, {end}"
        assert tcp["connections_survived"] == 200, f"{where}: {tcp}, {end}"
        packets, tried = packets + udp["sent"], tried + 1
        side = 1 - side if number > looks[side] else side
    print(f"{tried} boundaries, 0 of {packets} packets lost, 0 of {200 * tried} connections")
    for way in ways:
        run = way()
        assert run.code == 0, run.end()


def dropped() -> int:
    """Packets of all labs and the rest that this machine dropped since it booted, for its load."""
    return sum(int(line.split()[1], 16) for line in SOFTNET.read_text().splitlines())


def test_an_upgrade_and_its_way_back(pair: Lab, tmp_path: Path) -> None:
    steps.ready(pair)
    newer, here = other_version(tmp_path / "newer", "0.2.0", "1, 3"), versions(pair)

    def ended(root: Path, **options: int) -> Run:
        run = play(pair, "upgrade", root=root, **options)
        if not options:
            assert versions(pair) == ({"0.2.0"} if root == newer else here), run.end()
        return run

    in_turn(
        pair,
        (lambda **options: ended(newer, **options), lambda **options: ended(ROOT, **options)),
        lambda: working(pair),
    )
    assert versions(pair) == here


def test_a_rotation_of_keys_there_and_back(pair: Lab) -> None:
    holder, epoch, before = steps.ready(pair), steps.epoch(pair), counts(pair)
    key = base64.b64encode(bytes(range(32))).decode()
    rotated = varied(pair, "rotated", only(2, key))

    def ended(inventory: Path, number: int, **options: int) -> Run:
        run = play(pair, "rotate_key", inventory=inventory, **options)
        if not options:
            assert all(keys(pair, node)[node] == [number] for node in NODES), run.end()
        return run

    in_turn(
        pair,
        (
            lambda **options: ended(rotated, 2, **options),
            lambda **options: ended(pair.inventory, 1, **options),
        ),
        lambda: working(pair),
    )
    assert counts(pair) == before
    assert (steps.ready(pair), steps.epoch(pair)) == (holder, epoch)


def test_rules_there_and_back(pair: Lab) -> None:
    holder, epoch = steps.ready(pair), steps.epoch(pair)
    path = template(pair, "there", with_rule("udp dport 4004 accept"))
    # What died must end soon, and what did not must get to its end on a busy machine.
    short = ("-e", "ha_hold_s=45", "-e", "ha_rollback_s=20")

    def alike() -> None:
        over = [lambda n=node: phase(pair, n) not in PENDING for node in NODES]
        steps.until("no trial any more", lambda: all(each() for each in over), 150)
        found = {node: rules(pair)[node].count("udp dport 4004 accept") for node in NODES}
        assert set(found.values()) in ({0}, {2}), found

    def ended(wanted: Path | None, **options: int) -> Run:
        run = change(pair, wanted, *(short if options else ()), **options)
        if not options:
            assert run.code == 0, run.end()
            said = rules(pair).values()
            assert {text.count("udp dport 4004 accept") for text in said} == {2 if wanted else 0}
        return run

    in_turn(
        pair,
        (lambda **options: ended(path, **options), lambda **options: ended(None, **options)),
        alike,
        "Load the ruleset on the passive node",
        by_itself=False,
    )
    assert (steps.ready(pair), steps.epoch(pair)) == (holder, epoch)
