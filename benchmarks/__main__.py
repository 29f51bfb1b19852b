"""`make bench`: run the benchmarks, print a JSON line a figure, and write the tables into docs/performance.md."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from benchmarks import simulator_hours, simulator_ticks, tick_path
from benchmarks.harness import Machine, json_line, write_report

RUNS, QUICK_RUNS = 5, 2


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs; nothing is written (QUICK=1)")
    parser.add_argument("--only", help="run the one with this name")
    arguments = parser.parse_args()
    made = [module.benchmark(quick=arguments.quick) for module in (tick_path, simulator_ticks, simulator_hours)]
    made.append(tick_path.burst(quick=arguments.quick))
    chosen = [benchmark for benchmark in made if arguments.only in (None, benchmark.name)]
    if not chosen:
        parser.error(f"there is no benchmark {arguments.only}; there are {', '.join(each.name for each in made)}")
    count = QUICK_RUNS if arguments.quick else RUNS
    for benchmark in chosen:
        machine = Machine.now()
        print(f"{benchmark.name}: {benchmark.question}", file=sys.stderr)
        benchmark.run(count, lambda line: print(f"  {line}", file=sys.stderr))
        machine = replace(machine, load_after=round(os.getloadavg()[0], 2))
        for measure in benchmark.measures:
            print(json_line(measure, machine), flush=True)
        if not arguments.quick:
            write_report([benchmark], machine, count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
