"""The harness of the benchmarks: what it reports is what the runs were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Benchmark, Machine, json_line, table, write_report

MACHINE = Machine("2026-11-23 15:00 UTC", "3.11.7", "Linux x86_64", 2, 0.5, 0.75)


def measured() -> Benchmark:
    figures = iter(
        ({"ticks": 10.0}, {"ticks": 2000.0}, {"ticks": 30.0}, {"ticks": 1000.0}, {"ticks": 20.0}, {"ticks": 3000.0})
    )
    made = Benchmark(
        name="example",
        question="which is faster",
        cases={"one": lambda: next(figures), "other": lambda: next(figures)},
        units={"ticks": "1/s"},
    )
    made.run(3, lambda _line: None)
    return made


def test_cases_are_run_in_turn_and_their_medians_told_with_the_extremes() -> None:
    assert table(measured()).splitlines() == [
        "| case | ticks (1/s) |",
        "|---|---|",
        "| one | 20 (10 to 30) |",
        "| other | 2,000 (1,000 to 3,000) |",
    ]


def test_a_result_is_a_line_of_json_with_its_runs_and_its_machine() -> None:
    told = json.loads(json_line(measured().measures[0], MACHINE))
    assert (told["case"], told["runs"], told["median"]) == ("one", [10.0, 30.0, 20.0], 20.0)
    assert told["machine"]["load_after"] == 0.75


def test_the_report_is_written_in_its_place_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "performance.md"
    report.write_text("before\n<!-- example: begin -->\nold\n<!-- example: end -->\nafter\n")
    monkeypatch.setattr(harness, "REPORT", report)
    write_report([measured()], MACHINE, 3)
    text = report.read_text()
    assert text.startswith("before\n<!-- example: begin -->\n| case |")
    assert text.endswith("<!-- example: end -->\nafter\n")
    assert "old" not in text
    assert "load 0.5 before and 0.75 after; median of 3 runs" in text
    report.write_text("nothing")
    with pytest.raises(RuntimeError, match="has no place for example"):
        write_report([measured()], MACHINE, 3)


def test_every_benchmark_has_its_place_in_the_report() -> None:
    text = harness.REPORT.read_text()
    for module in sorted(Path(harness.__file__).parent.glob("simulator_*.py")):
        name = module.stem.replace("_", "-")
        assert f"<!-- {name}: begin -->" in text
