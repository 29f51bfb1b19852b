"""How many ticks a second reach one client over TCP, when the simulator sends as fast as it can."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness import ROOT, Benchmark, client, cores, simulator

IB_INSYNC = ROOT / ".venv-compat-ib_insync" / "bin" / "python"

# Every look is a quarter of a simulated second on, so that every line has something new to say, and looks follow each
# other as fast as they can be made.
FLOOD = ("--tick-interval", "0.0001", "--speed", "2500")


def benchmark(*, quick: bool) -> Benchmark:
    """ib_async beside ib_insync (where its environment is) and a client that only cuts frames: the wire's limit."""
    seconds = 2.0 if quick else 5.0
    readers: dict[str, tuple[Path | str, str]] = {"frames only": (sys.executable, "frames.py")}
    readers["ib_async"] = (sys.executable, "ib_ticks.py")
    if IB_INSYNC.exists():
        readers["ib_insync"] = (IB_INSYNC, "ib_ticks.py")
    cases: dict[str, Callable[[], dict[str, float]]] = {}
    for lines in (1, 10, 90):
        for name, (python, script) in readers.items():
            cases[f"{name}, {lines} line{'s' if lines > 1 else ''}"] = partial(_run, python, script, lines, seconds)
    return Benchmark(
        name="simulator-ticks",
        question="ticks per second delivered to one client",
        cases=cases,
        units={"ticks": "1/s", "client CPU": "µs per tick"},
    )


def _run(python: Path | str, script: str, lines: int, seconds: float) -> dict[str, float]:
    here, there = cores()
    with simulator(here, *FLOOD) as port:
        found = client(python, script, there, str(port), str(lines), str(seconds))
    return {"ticks": found["ticks"] / found["wall_s"], "client CPU": found["cpu_s"] / found["ticks"] * 1e6}
