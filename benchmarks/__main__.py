"""`make bench`: run the benchmarks, print a JSON line a figure, and write the tables into docs/performance.md."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from benchmarks import (
    audit_commits,
    fan_out,
    flood,
    latency,
    observability,
    order_path,
    peers_http,
    simulator_hours,
    simulator_ticks,
    stalled_readers,
    subscribers,
    tick_path,
    unary,
)
from benchmarks.harness import Benchmark, Machine, json_line, missing, verdict_line, write_report

RUNS, QUICK_RUNS = 3, 1
# A whole server, whose processor time and memory are looked at by psutil.
WHOLE = (
    latency.benchmark,
    fan_out.benchmark,
    peers_http.benchmark,
    unary.benchmark,
    subscribers.benchmark,
    stalled_readers.benchmark,
    flood.benchmark,
    observability.benchmark,
    order_path.benchmark,
)
PARTS = (
    audit_commits.benchmark,
    tick_path.benchmark,
    tick_path.burst,
    simulator_ticks.benchmark,
    simulator_hours.benchmark,
)
ALL = (*WHOLE, *PARTS)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs; nothing is written (QUICK=1)")
    parser.add_argument("--only", metavar="NAME", action="append", help="run the one with this name; repeatable")
    arguments = parser.parse_args()
    made = [(make(quick=arguments.quick), missing("psutil") if make in WHOLE else "") for make in ALL]
    names = [benchmark.name for benchmark, _ in made]
    if unknown := set(arguments.only or ()) - set(names):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for benchmark, why in made:
        if benchmark.name not in (arguments.only or names):
            continue
        if why:
            print(f"{benchmark.name} is left out: {why}", file=sys.stderr)
            continue
        _measure(benchmark, is_quick=arguments.quick)
    return 0


def _measure(benchmark: Benchmark, *, is_quick: bool) -> None:
    """Run one, tell its figures and what became of its targets, and put them into the report."""
    count = QUICK_RUNS if is_quick else RUNS
    machine = Machine.now()
    print(f"{benchmark.name}: {benchmark.question}", file=sys.stderr)
    for case, why in benchmark.left_out.items():
        print(f"  {case} is left out: {why}", file=sys.stderr)
    benchmark.run(count, lambda line: print(f"  {line}", file=sys.stderr))
    machine = replace(machine, load_after=round(os.getloadavg()[0], 2))
    for measure in benchmark.measures:
        print(json_line(measure, machine), flush=True)
    for verdict in benchmark.verdicts:
        print(f"  {verdict.wanted}: {verdict.told}", file=sys.stderr)
        print(verdict_line(benchmark, verdict), flush=True)
    if not is_quick:
        write_report([benchmark], machine, count)


if __name__ == "__main__":
    sys.exit(main())
