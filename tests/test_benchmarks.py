"""The benchmark's own sums: slopes, frontiers, and the figures that go from a record into README.md."""

import math
import mmap
import os
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import pages, report
from benchmarks.figures import figures_block, newest_complete
from benchmarks.frontier import Frontier
from benchmarks.load import Result
from benchmarks.measure import Sample
from benchmarks.pages import PAGE, Memory
from benchmarks.report import Report, append_record
from benchmarks.scenarios import Outcome, StartTimes
from benchmarks.slope import slope
from benchmarks.slowloris import measure


def sample(rate: float, p99: float = 1.0) -> Sample:
    result = Result(done=int(rate), seconds=1.0, p50=p99 / 2, p99=p99, failed=0)
    return Sample(result, 40.0, 60.0, True, 0.0, 80.0)


def finished_report(rate: float) -> Report:
    samples = {"direct": [sample(60_000)], "nginx": [sample(50_000)], "pointsman": [sample(rate, 2.5)]}
    outcomes = [
        Outcome("requests, 1 connections", "request", False, {name: [sample(7)] for name in samples}),
        Outcome("requests, 64 connections", "request", False, samples),
        Outcome("half load, 32 connections, 9,000/s", "request", True, samples),
    ]
    found = Frontier("pointsman", [(1000, 0.5), (23_456, 4.0), (30_000, 7.0), (40_000, math.inf)])
    return Report(outcomes, {"pointsman": StartTimes(0.7, [0.5])}, {}, [found.line()], complete=True)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty RESULTS.md."""
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n")
    monkeypatch.setattr(report, "RESULTS", path)
    monkeypatch.setattr(report.machine, "describe", lambda: [("processor", "a fast one, 2 cores")])
    return path


def test_the_figures_come_from_the_newest_complete_record(results: Path) -> None:
    append_record(finished_report(20_000), "first")
    append_record(finished_report(25_000), "second")
    incomplete = finished_report(99_000)
    incomplete.complete = False
    peer = {"litellm": [sample(110)], "portkey": [sample(990)]}
    incomplete.outcomes[1] = replace(incomplete.outcomes[1], samples={**incomplete.outcomes[1].samples, **peer})
    append_record(incomplete, "third")
    grown = {"pointsman-grown": [sample(11_000)]}
    incomplete.outcomes[1] = replace(
        incomplete.outcomes[1], samples={**finished_report(99_000).outcomes[1].samples, **grown}
    )
    append_record(incomplete, "fourth")
    report.append_section("soak of 3 minutes", "soak", [], "| figure | before |\n|---|--:|\n| RSS MB | 1 |")
    record = newest_complete(results.read_text())
    assert record is not None
    assert record.facts["command"] == "`second`"
    block = figures_block(results.read_text())
    assert "| 25,000 a second, 40.0 us of CPU each, 0.50 of nginx's rate |" in block
    assert "| 0.75 ms (median), 1.50 ms (99th percentile) |" in block
    assert "| highest steady rate with p99 under 5 ms | 23,456/s |" in block
    assert "| start to first answer | 0.50 s |" in block
    assert "a fast one, 2 cores" in block
    assert "| 900.0 times litellm and 100.0 times portkey |" in block


def test_without_a_complete_record_there_are_no_figures() -> None:
    assert "No complete run" in figures_block("# Results\n\n## 2026-01-01\n\n- scenarios: some\n")


def test_a_slope_is_the_lines_own_and_sure_when_nothing_scatters() -> None:
    line = slope([0, 5, 10, 15], [100, 101, 102, 103])
    assert (line.per_second, line.error) == (pytest.approx(0.2), pytest.approx(0))


def test_scatter_makes_a_slope_unsure() -> None:
    line = slope([0, 5, 10, 15], [100, 104, 98, 103])
    assert line.error > abs(line.per_second)


def test_a_frontier_is_below_the_first_rate_that_was_too_slow() -> None:
    found = Frontier("x", [(1000, 0.5), (2000, 3.0), (3000, 0.9), (4000, 12.0)])
    assert (found.best(1.0), found.best(5.0), found.best(0.1)) == (1000, 3000, None)


def test_a_slowloris_attack_beside_idle_connections_harms_neither_the_healthy_nor_the_idle() -> None:
    siege = measure(200, 40, 1.2, header_timeout_seconds=0.5, body_timeout_seconds=0.5)
    assert [stage.failed for stage in siege.stages] == [0, 0, 0]
    assert all(len(stage.times) > 16 for stage in siege.stages)
    assert siege.idle_left == 200
    assert siege.cut_off > 0


def test_the_pages_that_a_process_gains_are_told_with_what_is_in_them() -> None:
    mapping = mmap.mmap(-1, 3 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with closing(Memory(os.getpid())) as memory, mapping as gained:
        before = memory.pages()
        gained[PAGE : PAGE + 16] = struct.pack("<QQ", id(Report), id(Report))
        gained[PAGE + 100 : PAGE + 114] = b"a text in them"
        lines = list(pages.report(memory, before, memory.pages()))
    [line] = [line for line in lines if "a text in them" in line]
    assert "2 Report" in line
    assert "anonymous" in line
    assert any("anonymous" in line and "pages of 4 KiB" in line for line in lines)  # beside others: this process lives
