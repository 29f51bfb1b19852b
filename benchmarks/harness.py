"""What every benchmark shares: runs in turn, processes pinned to cores, medians with their spread, and the report."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one case: its runs, in their order."""

    benchmark: str
    case: str
    figure: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the runs."""
        return statistics.median(self.runs)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest run."""
        return min(self.runs), max(self.runs)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when it was measured."""

    time: str
    python: str
    system: str
    cores: int
    load_before: float
    load_after: float = 0.0

    @classmethod
    def now(cls) -> Machine:
        """This machine at this moment."""
        return cls(
            time=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            cores=os.cpu_count() or 1,
            load_before=round(os.getloadavg()[0], 2),
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure of one case must be: by itself, or as a multiple of what it is in the case `over`.

    Multiples are of figures of the same turn, so that what else the machine does is in both. Exactly one of `at_most`
    and `at_least` is given.
    """

    case: str
    figure: str
    over: str = ""
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target. `value` is the median of the runs; None: a case it speaks of was left out."""

    target: Target
    unit: str
    value: float | None

    @property
    def missed_by(self) -> float:
        """How far the value is on the wrong side, as a share of the limit; 0 where it is not."""
        if self.value is None:
            return 0.0
        target = self.target
        if target.at_most is not None:
            return max(self.value / target.at_most - 1, 0.0)
        assert target.at_least is not None
        return max(1 - self.value / target.at_least, 0.0)

    @property
    def wanted(self) -> str:
        """The target in words."""
        target = self.target
        limit = target.at_most if target.at_most is not None else target.at_least
        assert limit is not None
        sign = "≤" if target.at_most is not None else "≥"
        what = f"{target.case}: {target.figure} {sign} {shown(limit)}"
        return f"{what} × {target.over}" if target.over else f"{what} {self.unit}"

    @property
    def told(self) -> str:
        """What was found, and whether that meets it."""
        if self.value is None:
            return "not measured"
        value = f"{shown(self.value)}{'' if self.target.over else f' {self.unit}'}"
        return f"{value}: " + (f"missed by {self.missed_by:.0%}" if self.missed_by else "met")


@dataclass(slots=True)
class Benchmark:
    """One comparison: what it asks, its cases, and how one run of a case is done.

    A case's function does one run and returns its figures by name; `units` says what they are in. Runs go A B C A B C,
    so that what else the machine does meets all cases alike. `left_out` are cases that cannot be run here, and why.
    """

    name: str
    question: str
    cases: Mapping[str, Callable[[], Mapping[str, float]]]
    units: Mapping[str, str]
    targets: Sequence[Target] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)

    def run(self, count: int, tell: Callable[[str], None]) -> None:
        """Every case `count` times, in turn."""
        runs: dict[tuple[str, str], list[float]] = {}
        for number in range(count):
            for case, do in self.cases.items():
                found = do()
                for figure, value in found.items():
                    runs.setdefault((case, figure), []).append(value)
                told = ", ".join(f"{figure} {shown(value)} {self.units[figure]}" for figure, value in found.items())
                tell(f"{self.name} {number + 1}/{count} {case}: {told}")
        self.measures = [
            Measure(self.name, case, figure, self.units[figure], tuple(values))
            for (case, figure), values in runs.items()
        ]

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each target."""
        return [Verdict(target, self.units[target.figure], self._value(target)) for target in self.targets]

    def _value(self, target: Target) -> float | None:
        runs = {measure.case: measure.runs for measure in self.measures if measure.figure == target.figure}
        if target.case not in runs or (target.over and target.over not in runs):
            return None
        values = runs[target.case]
        if target.over:
            # A case may be without the figure in some turns.
            values = tuple(one / other for one, other in zip(values, runs[target.over], strict=False) if other)
        return statistics.median(values) if values else None


def cores() -> tuple[set[int], set[int]]:
    """A core for what is measured and one for its other end; the same one where there is but one."""
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    usable = sorted(os.sched_getaffinity(0))
    return {usable[0]}, {usable[-1]}


def pin(core: set[int], process: int = 0) -> None:
    """Keep a process on a core, where the system can; 0 is this one."""
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(process, core)


@contextmanager
def simulator(core: set[int], *options: str) -> Iterator[int]:
    """A simulator as a process of its own, on a free port. Yields the port."""
    command = [sys.executable, "-m", "ibkr_gateway_server.simulator", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(core))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r":(\d+)\s*$", line)
        if match is None:
            raise RuntimeError(f"the simulator did not start: {line!r}")
        yield int(match[1])
    finally:
        process.terminate()
        process.communicate(timeout=20)


def client(python: str | Path, script: str, core: set[int], *arguments: str) -> dict[str, float]:
    """Run a client's script to its end; its figures are the JSON line that it prints."""
    command = [str(python), str(Path(__file__).parent / "clients" / script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, preexec_fn=lambda: pin(core)
    )
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def shown(value: float) -> str:
    """A figure in three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def json_line(measure: Measure, machine: Machine) -> str:
    """One result for a program to read."""
    return json.dumps({**asdict(measure), "median": measure.median, "machine": asdict(machine)})


def verdict_line(benchmark: Benchmark, verdict: Verdict) -> str:
    """What became of a target, for a program to read."""
    found = {"value": verdict.value, "missed_by": verdict.missed_by, "is_met": verdict.told.endswith(": met")}
    return json.dumps({"benchmark": benchmark.name, "target": verdict.wanted, **asdict(verdict.target), **found})


def missing(*packages: str) -> str:
    """Why a case that needs these packages cannot be run; "" when it can."""
    absent = [package for package in packages if find_spec(package) is None]
    return f"{' and '.join(absent)} not installed: `make bench` does it" if absent else ""


def table(benchmark: Benchmark) -> str:
    """One benchmark's results for people: medians, and what the runs were between."""
    figures = list(dict.fromkeys(measure.figure for measure in benchmark.measures))
    rows = [f"| case | {' | '.join(f'{figure} ({benchmark.units[figure]})' for figure in figures)} |"]
    rows.append("|---" * (len(figures) + 1) + "|")
    for case in benchmark.cases:
        known = {measure.figure: measure for measure in benchmark.measures if measure.case == case}
        cells = [_cell(known[figure]) if figure in known else "–" for figure in figures]
        rows.append(f"| {case} | {' | '.join(cells)} |")
    rows += [f"| {case} | left out: {why}{' |' * len(figures)}" for case, why in benchmark.left_out.items()]
    if benchmark.targets:
        rows += ["", "| target | found |", "|---|---|"]
        rows += [f"| {verdict.wanted} | {verdict.told} |" for verdict in benchmark.verdicts]
    return "\n".join(rows)


def _cell(measure: Measure) -> str:
    low, high = measure.spread
    return f"{shown(measure.median)} ({shown(low)} to {shown(high)})"


def write_report(benchmarks: Sequence[Benchmark], machine: Machine, count: int) -> None:
    """Put each benchmark's table where the report has its place, between its two marks."""
    text = REPORT.read_text()
    for benchmark in benchmarks:
        begin, end = f"<!-- {benchmark.name}: begin -->", f"<!-- {benchmark.name}: end -->"
        if begin not in text or end not in text:
            raise RuntimeError(f"{REPORT} has no place for {benchmark.name}: {begin} and {end}")
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        where = (
            f"Measured {machine.time}: Python {machine.python}, {machine.system}, {machine.cores} cores, "
            f"load {machine.load_before} before and {machine.load_after} after; median of {count} runs, in turn, "
            "with the least and the greatest."
        )
        text = f"{head}{begin}\n{table(benchmark)}\n\n{where}\n{end}{tail}"
    REPORT.write_text(text)
