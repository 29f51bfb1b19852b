"""The harness of the benchmarks: what it reports is what the runs were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__, harness
from benchmarks.harness import Benchmark, Machine, Target, json_line, missing, table, verdict_line, write_report

MACHINE = Machine("2026-11-23 15:00 UTC", "3.11.7", "Linux x86_64", 2, 0.5, 0.75)


def measured(*targets: Target) -> Benchmark:
    figures = iter(
        ({"ticks": 10.0}, {"ticks": 2000.0}, {"ticks": 30.0}, {"ticks": 1000.0}, {"ticks": 20.0}, {"ticks": 3000.0})
    )
    made = Benchmark(
        name="example",
        question="which is faster",
        cases={"one": lambda: next(figures), "other": lambda: next(figures)},
        units={"ticks": "1/s"},
        targets=targets,
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
    for make in __main__.ALL:
        name = make(quick=True).name
        assert text.count(f"<!-- {name}: begin -->\n") == text.count(f"<!-- {name}: end -->\n") == 1


def test_every_module_with_a_benchmark_is_run() -> None:
    found = {path.stem for path in Path(__main__.__file__).parent.glob("*.py") if "-> Benchmark:" in path.read_text()}
    assert {make.__module__.rpartition(".")[2] for make in __main__.ALL} == found


def test_a_target_names_what_is_measured_and_one_limit() -> None:
    for make in __main__.ALL:
        made = make(quick=True)
        known = {*made.cases, *made.left_out}
        for target in made.targets:
            assert {target.case, target.over or target.case} <= known
            assert target.figure in made.units
            assert (target.at_most is None) != (target.at_least is None)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Target("one", "ticks", at_most=25.0), "one: ticks ≤ 25 1/s | 20 1/s: met"),
        (Target("one", "ticks", at_most=16.0), "one: ticks ≤ 16 1/s | 20 1/s: missed by 25%"),
        (Target("one", "ticks", at_least=40.0), "one: ticks ≥ 40 1/s | 20 1/s: missed by 50%"),
        # Turn by turn 200, 33 and 150: not the multiple of the medians, which is 100.
        (Target("other", "ticks", over="one", at_least=150.0), "other: ticks ≥ 150 × one | 150: met"),
        (Target("gone", "ticks", over="one", at_most=1.0), "gone: ticks ≤ 1 × one | not measured"),
    ],
)
def test_a_target_is_told_with_what_was_found_and_by_how_much_it_is_missed(target: Target, told: str) -> None:
    assert table(measured(target)).splitlines()[-1] == f"| {told} |"


def test_what_became_of_a_target_is_a_line_of_json() -> None:
    benchmark = measured(Target("one", "ticks", at_most=16.0))
    told = json.loads(verdict_line(benchmark, benchmark.verdicts[0]))
    assert (told["target"], told["value"], told["missed_by"]) == ("one: ticks ≤ 16 1/s", 20.0, 0.25)
    assert told["is_met"] is False


def test_a_case_that_cannot_be_run_is_in_the_table_with_its_reason() -> None:
    benchmark = measured()
    benchmark.left_out = {"third": missing("json", "no_such_package")}
    assert (
        table(benchmark).splitlines()[-1] == "| third | left out: no_such_package not installed: `make bench` does it |"
    )
    assert missing("json", "pathlib") == ""
