"""`make explore SEEDS=10000 [SEED=1] [JOBS=2]`: many seeds of hostile luck, each held against the broker's truth.

    make explore SEEDS=10000            10,000 seeds from 1 on
    make explore SEED=1194              one seed, with the trace of everything that happened in it
    make explore SEEDS=10000 WRITE=1    the figures also into docs/reliability.md

A run fails when any seed finds anything; it then prints the seed, what is wrong, the trace, and the command that does
exactly the same again. One of 10,000 seeds and more fails as well when a class of failure has hardly struck.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator

from tests.reliability.mutants import MUTANTS
from tests.reliability.report import OFTEN, PAGE, Totals, write
from tests.reliability.run import Outcome, run

# Seeds that one process takes at a time.
PORTION = 20
# Failures that are printed with their trace; of more only the seeds.
SHOWN = 3
TRACE_LINES = 150


def explored(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """The outcome of each seed, in the order in which they end."""
    if jobs == 1:
        yield from map(run, seeds)
        return
    # Started anew, not forked: whoever explores may have threads.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_without_trace, seeds, PORTION)


def _without_trace(seed: int) -> Outcome:
    """Traces are long, and only those of failures are looked at."""
    outcome = run(seed)
    if not outcome.findings:
        outcome.trace = []
    return outcome


def main(argv: list[str] | None = None) -> int:
    """Run from the command line. Returns the exit code: 0 nothing found, 1 something found."""
    arguments = _parser().parse_args(argv)
    if arguments.mutant:
        next(mutant for mutant in MUTANTS if mutant.name == arguments.mutant).apply()
    if arguments.once:
        outcomes = [run(seed) for seed in range(arguments.seed, arguments.seed + arguments.seeds)]
        told = [{"seed": one.seed, "digest": one.digest, "findings": one.findings} for one in outcomes]
        print(json.dumps(told))
        return any(one.findings for one in outcomes)
    if arguments.seeds == 1:
        outcome = run(arguments.seed)
        _show(outcome, len(outcome.trace), arguments.mutant)
        return bool(outcome.findings)
    return _explore(arguments)


def _explore(arguments: argparse.Namespace) -> int:
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    totals, began = Totals(jobs=arguments.jobs, first_seed=arguments.seed), time.perf_counter()
    told_at, failed = began, []
    for outcome in explored(seeds, arguments.jobs):
        totals.add(outcome)
        if outcome.findings:
            failed.append(outcome.seed)
            if len(failed) <= SHOWN:
                _show(outcome, TRACE_LINES, "")
        if time.perf_counter() - told_at > 10:
            told_at = time.perf_counter()
            print(f"  {totals.seeds} of {len(seeds)} seeds, {len(failed)} failed", flush=True)
    totals.seconds = time.perf_counter() - began
    print(totals.tables())
    print(json.dumps(totals.figures()))
    if failed:
        print(f"{len(failed)} seeds failed: {', '.join(map(str, sorted(failed)[:40]))}", file=sys.stderr)
        return 1
    if arguments.write:
        write(PAGE, "explore", totals.command, totals.seconds, totals.tables())
    if totals.rare:
        print(f"struck fewer than {OFTEN} times: {', '.join(totals.rare)}", file=sys.stderr)
        return 1
    return 0


def _show(outcome: Outcome, lines: int, mutant: str) -> None:
    print(f"--- seed {outcome.seed}: {outcome.digest[:16]}")
    print("\n".join(outcome.trace[-lines:]))
    for invariant, text in outcome.findings:
        print(f"BROKEN: {invariant}: {text}")
    again = f" MUTANT={mutant}" if mutant else ""
    print(f"again: make explore SEED={outcome.seed}{again}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make explore", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: one, with its trace)")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--mutant", default="", choices=[mutant.name for mutant in MUTANTS], help="a fault to put in")
    parser.add_argument("--once", action="store_true", help="digests and findings alone, as JSON")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/reliability.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
