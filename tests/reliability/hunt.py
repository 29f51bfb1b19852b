"""`make mutants`: faults put into the order core on purpose, each of which the explorer must find.

    make mutants                        every mutant, with as many seeds as it takes to find it
    make mutants ONLY="no dedupe"       one of them
    make explore SEED=5 MUTANT="..."    what one of them does in one seed, with the trace

A seed in which the unchanged core fails as well finds no mutant, and neither does a program that falls over.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.reliability.invariants import WHOLE
from tests.reliability.mutants import MUTANTS, DoesNotFit
from tests.reliability.report import PAGE, table, write
from tests.reliability.run import run

ROOT = Path(__file__).parents[2]
# The seed by which each mutant was found the last time: it is tried first, which makes most hunts short.
FINDERS = Path(__file__).with_name("finders.json")
# Seeds that a mutant may survive before it counts as one that is not found.
MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a mutant fared. `seed` None: it was not found, and `shown` says why."""

    name: str
    seed: int | None
    invariant: str
    shown: str
    seconds: float

    def __str__(self) -> str:
        if self.seed is None:
            return f"SURVIVES  {self.name}: {self.shown}"
        return (
            f"found     {self.name}, by seed {self.seed} in {self.seconds:.1f} s: {self.invariant}: {self.shown[:160]}"
        )


def hunt(name: str, first: int, most: int) -> Hunt:
    """Look for one mutant with seeds from one to another. Changes this process for good: give it one of its own."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    began = time.perf_counter()
    try:
        mutant.apply()
    except DoesNotFit as error:
        return Hunt(name, None, "", f"does not fit the code: {error}", 0.0)
    for seed in _seeds(name, first, most):
        findings = run(seed).findings
        if findings and findings[0][0] == WHOLE:
            # A program that falls over is no rule that is broken.
            return Hunt(name, None, "", f"does not fit the code: {findings[0][1]}", 0.0)
        if findings:
            return Hunt(name, seed, *findings[0], time.perf_counter() - began)
    return Hunt(name, None, "", f"not found by {most} seeds", time.perf_counter() - began)


def _seeds(name: str, first: int, most: int) -> Iterator[int]:
    """Where it was found the last time, then all others in turn."""
    known = json.loads(FINDERS.read_text(encoding="utf-8")).get(name, 0)
    if first == 1 and known:
        yield known
    yield from (seed for seed in range(first, most + 1) if seed != known or first > 1)


def hunted(names: Sequence[str], most: int, jobs: int) -> Iterator[Hunt]:
    """How each of these mutants fares, in the order in which they are found."""
    with ThreadPoolExecutor(jobs) as threads:
        for done in as_completed([threads.submit(_in_a_process, name, most) for name in names]):
            yield done.result()


def _in_a_process(name: str, most: int) -> Hunt:
    """Hunt in a process of its own, past seeds in which the unchanged core fails as well."""
    first = 1
    while True:
        command = [sys.executable, "-m", "tests.reliability.hunt", "--hunt", name]
        command += ["--first", str(first), "--most", str(most)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ran.returncode:
            return Hunt(name, None, "", f"its process failed: {ran.stderr[-500:]}", 0.0)
        found = Hunt(**json.loads(ran.stdout))
        if found.seed is None:
            return found
        command = [sys.executable, "-m", "tests.reliability.explorer", "--once", "--seed", str(found.seed)]
        if subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0:
            return found
        first = found.seed + 1


def main(argv: list[str] | None = None) -> int:
    """Run from the command line. Returns the exit code: 0 when every mutant is found."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="the mutants with this in their name")
    parser.add_argument("--most", type=int, default=MOST_SEEDS, help="seeds for each of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--hunt", default="", help="one of them, by its name, in this process; the outcome as JSON")
    parser.add_argument("--first", type=int, default=1, help="the seed to begin with (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.hunt:
        print(json.dumps(asdict(hunt(arguments.hunt, arguments.first, arguments.most))))
        return 0
    names = [mutant.name for mutant in MUTANTS if arguments.only in mutant.name]
    began, hunts = time.perf_counter(), []
    for found in hunted(names, arguments.most, arguments.jobs):
        hunts.append(found)
        print(found, flush=True)
    seconds = time.perf_counter() - began
    survivors = [found.name for found in hunts if found.seed is None]
    print(json.dumps({"mutants": len(hunts), "survivors": survivors, "seconds": round(seconds, 1)}))
    if survivors or not hunts:
        return 1
    if arguments.write:
        finders = {found.name: found.seed for found in sorted(hunts, key=lambda one: one.name)}
        FINDERS.write_text(json.dumps(finders, indent=2) + "\n", encoding="utf-8")
        rows = [(found.name, str(found.seed), found.invariant) for found in sorted(hunts, key=lambda one: one.name)]
        body = table(("fault put in", "found by seed", "which finds broken"), rows)
        write(PAGE, "mutants", "make mutants", seconds, body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
