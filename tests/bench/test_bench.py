# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's arithmetic and its tables, with control cases; no lab, no clock, no duration.

A figure that flatters is worse than none: silences that never end, nodes that forward at once and
cells that failed are each given in a case where a careless bench would say nothing.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__, document, events, failover_table, faults, figures, sync_table
from tests.bench.cells import Cell, Cells, interleaved
from tests.bench.flows import send_gap_ms, silence_ms
from tests.bench.ground import ruleset
from tests.bench.holdings import ports_in
from tests.bench.owners import Change, owned_by_two_ms, taken
from tests.bench.rival import cached_entries
from tests.bench.wire import at_once, lasted_ms
from tests.lab.plan import BadRequest, wire_of
from tests.lab.watch import Frame, Way

MS = 1_000_000


def rows(*answered_ms: int | None) -> list[list[int | None]]:
    """A probe's packets, one a millisecond, and when each was answered."""
    return [
        [number, number * MS, None if at is None else at * MS]
        for number, at in enumerate(answered_ms)
    ]


def test_silence_is_the_longest_gap_and_lasts_to_the_end_if_it_never_ends() -> None:
    assert silence_ms(rows(0, 1, 2, 3), 0, 4 * MS) == 1
    assert silence_ms(rows(0, None, None, 3), 0, 4 * MS) == 3
    assert silence_ms(rows(0, 1, None, None), 0, 100 * MS) == 99
    assert silence_ms(rows(None, None), 0, 100 * MS) == 100


def test_a_stall_of_the_probe_is_told_from_a_silence_of_the_path() -> None:
    stalled: list[list[int | None]] = [[0, 0, 1 * MS], [1, 40 * MS, 41 * MS], [2, 41 * MS, 42 * MS]]
    assert send_gap_ms(stalled, 0, 50 * MS) == 40
    assert send_gap_ms(rows(0, None, None, 3), 0, 4 * MS) == 1


def test_median_worst_and_number() -> None:
    found = figures.figure([30, 10, 20, None])
    assert found == figures.Figure(20, 10, 30, 3)
    assert found.text() == "20 (30)"
    assert found.spread() == "20 (10 to 30)"
    assert figures.figure([1, 2]) == figures.Figure(1.5, 1, 2, 2)
    assert figures.figure([None]) is None
    assert figures.said(None) == figures.NOTHING
    assert figures.number(12345.67, 1) == "12 345.7"


def test_survivors_say_all_only_if_it_was_all_every_time() -> None:
    whole = {"connections": 200, "survived": 200}
    assert figures.survivors([whole, whole]) == "200 of 200, every run"
    assert figures.survivors([whole, {**whole, "survived": 4}]) == "102 (worst 4) of 200"


def frame(node: str, at_ms: float) -> Frame:
    """A delivered packet that came through a node."""
    mac = bytes.fromhex(wire_of(node, "wan").mac.replace(":", ""))
    return Frame(int(at_ms * MS), "server-wan", Way.OUT, bytes(6) + mac + b"\x08\x00")


def test_a_change_of_hands_is_not_two_at_once_but_a_pinned_host_shows_it() -> None:
    before = [frame("fw-a", at) for at in range(100)]
    afterwards = [frame("fw-b", at) for at in range(100, 200)]
    assert at_once(before + afterwards, "fw-a") == []
    back = [frame("fw-a", at) for at in range(400, 500)]
    assert at_once(before + afterwards + back, "fw-a") == []
    pinned = [frame("fw-a", at + 0.5) for at in range(100, 150)]
    times = at_once(before + afterwards + pinned, "fw-a")
    assert len(times) == 50
    assert lasted_ms(times) == 49


def test_owners_count_switches_and_the_time_of_two() -> None:
    changes = [
        Change(0, "fw-a", True),
        Change(100 * MS, "fw-b", True),
        Change(130 * MS, "fw-a", False),
        Change(500 * MS, "fw-b", True),  # said again: no switch
    ]
    assert taken(changes, 1, 1000 * MS) == 1
    assert owned_by_two_ms(changes, 0, 1000 * MS) == 30
    assert owned_by_two_ms(changes[:2], 0, 1000 * MS) == 900
    assert owned_by_two_ms(changes[:1], 0, 1000 * MS) == 0


def result(**values: Any) -> dict[str, Any]:
    """What a failover cell finds, a good one."""
    return {
        "path_ms": 10.0,
        "existing_ms": 10.0,
        "lost": 0,
        "connections": 200,
        "survived": 200,
        "both_packets": 0,
        "owned_by_two_ms": 0.0,
        "unprovoked": 0,
        "stall_ms": 1.0,
        "answered_again": True,
        "switches_after": 0,
        "return_path_ms": 1.0,
        "return_existing_ms": 1.0,
        "return_lost": 0,
        "load_before": 0.5,
        "cpu_percent": {
            f"cpu_{what}_{node}": 1.0
            for what in ("agent", "replication")
            for node in ("fw-a", "fw-b")
        },
        **values,
    }


def cells_in(folder: Path) -> Cells:
    """Two contenders, one good, one that failed once and lost once."""
    cells = Cells("failover", "abc1234", folder)
    for number in range(2):
        cells.keep(Cell("metal", "power", number), result(path_ms=10.0 + number), "", 20)
    loser = result(path_ms=3000.0, answered_again=False, survived=3, unprovoked=1)
    cells.keep(Cell("ka10-cached", "power", 0), loser, "", 20)
    cells.keep(Cell("ka10-cached", "power", 1), None, "it fell over", 20)
    return cells


def test_cells_are_measured_once_and_failed_ones_again_when_asked(tmp_path: Path) -> None:
    cells = cells_in(tmp_path)
    wanted = interleaved(["metal", "ka10-cached"], [("power", 3), ("switchover", 1)])
    assert [each.contender for each in wanted[:4]] == ["metal", "ka10-cached"] * 2
    assert len(wanted) == 8
    todo = cells.missing(wanted)
    assert len(todo) == 4
    assert Cell("ka10-cached", "power", 1) not in todo
    assert Cell("ka10-cached", "power", 1) in cells.missing(wanted, again=True)
    cells.path(Cell("metal", "power", 0)).write_text('{"cut off in the mid')
    assert Cell("metal", "power", 0) in cells.missing(wanted)
    other = Cells("failover", "def5678", tmp_path)
    assert len(other.missing(wanted)) == 8
    assert other.all() == []


def test_the_tables_say_what_was_lost_what_never_ended_and_what_failed(tmp_path: Path) -> None:
    cells = cells_in(tmp_path)
    merged = cells.merge("make bench-failover")
    text = failover_table.text(merged)
    row = next(line for line in text.splitlines() if line.startswith("| keepalived 10 ms, FTFW c"))
    assert "3 000; 1 never" in row
    assert "3 (worst 3) of 200" in row
    assert "1 of 1" in row
    assert row.rstrip("| ").endswith("1")
    assert "it fell over" in text
    assert "200 of 200, every run" in text
    assert "| power loss, virtual: at most 300 ms | - | not measured |" in text


def test_a_variant_is_measured_where_it_differs() -> None:
    options = __main__.parser().parse_args(["failover", "-n", "1"])
    cells = __main__.failover_cells(options)
    assert [each.what for each in cells if each.contender == "metal-monitor"] == ["cable"]
    assert len([each for each in cells if each.contender == "metal"]) == len(faults.FAULTS)


@pytest.mark.parametrize(("lost", "verdict"), [(0, "met"), (1, "**not met**")])
def test_a_goal_of_nothing_is_met_by_nothing_only(lost: int, verdict: str) -> None:
    cells = [
        {"contender": "fast", "what": "switchover", "result": result(lost=each)}
        for each in (0, lost)
    ]
    assert failover_table.zero(cells, "fast", "switchover", "lost", "none")[2] == verdict
    failed = {"contender": "fast", "what": "switchover", "result": None, "failed": "refused"}
    found = failover_table.zero([*cells, failed], "fast", "switchover", "lost", "none")
    assert found[2] == "**not met**"


def test_only_the_part_between_the_marks_is_written(tmp_path: Path) -> None:
    cells_in(tmp_path).merge("make bench-failover")
    page = tmp_path / "benchmarks.md"
    page.write_text(f"above\n{document.BEGIN}\nold\n{document.END}\nbelow\n")
    document.write(page, tmp_path)
    text = page.read_text()
    assert text.startswith("above\n") and text.endswith("below\n")
    assert "old" not in text
    assert "commit abc1234" in text
    document.write(page, tmp_path)
    assert page.read_text() == text
    page.write_text("no marks")
    with pytest.raises(document.DocumentError):
        document.write(page, tmp_path)


def test_a_bench_that_was_not_run_is_said_to_be_missing(tmp_path: Path) -> None:
    assert document.inside("", tmp_path).count("Not measured yet.") == 2
    (tmp_path / "failover.json").write_text("{")
    with pytest.raises(document.DocumentError):
        document.inside("", tmp_path)


def test_a_section_of_which_nothing_is_left_to_merge_stays_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    earlier = "## Replication\n\ncommit 1, measured elsewhere\n\n### Lag\n\n7 ms\n"
    page.write_text(
        f"{document.BEGIN}\n\n## Failover and switchover\n\nold\n\n{earlier}\n{document.END}\n"
    )
    cells_in(tmp_path).merge("make bench-failover")
    document.write(page, tmp_path)
    assert earlier in page.read_text()
    assert "old" not in page.read_text()


def test_a_figure_names_every_command_that_it_was_measured_with(tmp_path: Path) -> None:
    cells_in(tmp_path).merge("first")
    cells_in(tmp_path).merge("second")
    merged = cells_in(tmp_path).merge("first")
    assert "`first`, then `second`, commit abc1234" in document.heading(merged)
    merged = Cells("failover", "def5678", tmp_path).merge("third")
    assert merged["commands"] == ["third"]


def test_a_second_bench_at_once_is_refused(tmp_path: Path) -> None:
    with cells_in(tmp_path).alone():
        with pytest.raises(BadRequest, match="another bench"), cells_in(tmp_path).alone():
            pass
    with cells_in(tmp_path).alone():
        pass


def test_the_ruleset_of_the_bench_is_the_example_with_additions() -> None:
    assert ruleset().count("vrrp accept") == 1
    assert "bench_open" in ruleset()


def test_what_conntrackd_says_of_its_cache_is_read_or_refused() -> None:
    said = "cache internal:\ncurrent active connections: 5\ncache external:\n"
    assert cached_entries(said + "current active connections:\t 17\n") == 17
    with pytest.raises(Exception, match="external cache"):
        cached_entries("cache internal:\n")


def test_a_row_of_another_width_is_refused_and_a_bar_does_not_break_a_row() -> None:
    assert "a\\|b" in figures.table(["x"], [["a|b"]])
    with pytest.raises(ValueError):
        figures.table(["x"], [["a", "b"]])


def test_the_page_in_the_tree_has_its_marks() -> None:
    assert json.dumps(document.replaced(document.DOCUMENT.read_text(), ""))


def replicated(contender: str, what: str, **values: float) -> dict[str, Any]:
    """A cell of the replication bench."""
    return {"contender": contender, "what": what, "repetition": 0, "result": values, "failed": ""}


def test_a_share_of_the_best_ftfw_is_met_or_not() -> None:
    theirs = [
        replicated("ftfw-cached", "cost-udp", cpu_active_us=30, cpu_passive_us=20),
        replicated("ftfw-direct", "cost-udp", cpu_active_us=40, cpu_passive_us=10),
    ]
    mine = replicated("virtual", "cost-udp", cpu_active_us=10, cpu_passive_us=6, wire_bytes=61)
    lines = sync_table.goals([*theirs, mine]).splitlines()
    active, passive, wire = (line for line in lines if line.startswith("| cost-udp"))
    assert "10.0 against 30.0: 0.33 | met" in active
    assert "6.0 against 10.0: 0.60 | **not met**" in passive
    assert wire.endswith("| 61 | **not met** |")
    assert "not measured" in sync_table.goals(theirs)


def test_a_bulk_that_never_became_whole_and_one_that_is_impossible_are_said() -> None:
    cells = [
        replicated("virtual", "bulk-200k", seconds=2.0, switch_s=0.1),
        replicated("notrack", "bulk-200k", switch_s=0.1),
        {**replicated("virtual", "bulk-500k"), "result": {"impossible": "too small"}},
    ]
    text = sync_table.one_table(cells, "bulk-200k", sync_table.BULK)
    assert "| ours, virtual | 1 | 2.00 | 0 of 1 |" in text
    assert "| conntrackd NOTRACK, no caches | 1 | - | 1 of 1 |" in text
    text = sync_table.one_table(cells, "bulk-500k", sync_table.BULK)
    assert text == "Not possible here: too small."


def test_the_load_is_found_in_a_listing_by_its_original_ports_only() -> None:
    listing = (
        "udp 17 29 src=10.20.1.100 dst=198.51.100.100 sport=1024 dport=20001 "
        "src=198.51.100.100 dst=198.51.100.1 sport=20001 dport=1024\n"
        "udp 17 29 src=10.20.1.100 dst=198.51.100.100 sport=7000 dport=7000\n"
    )
    assert ports_in(listing) == {("1024", "20001")}


def test_events_of_the_load_are_noted_once_and_others_never() -> None:
    def event(client: int, server: int) -> bytes:
        body = bytearray(80)
        struct.pack_into("=I", body, 0, len(body))
        struct.pack_into("!H", body, events.CLIENT_PORT, client)
        struct.pack_into("!H", body, events.SERVER_PORT, server)
        return bytes(body)

    seen: dict[str, int] = {}
    events.note(event(1024, 20000) + event(1025, 20000) + event(1024, 7000), 5, seen)
    events.note(event(1024, 20000), 9, seen)
    assert seen == {"1024:20000": 5}
    events.note(b"\0" * 16, 9, seen)
