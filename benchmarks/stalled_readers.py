"""What readers that have stopped cost those that have not, and the server."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Benchmark, Target
from benchmarks.processes import firehose, gateway, watched

HEALTHY, STALLED, RATE = 10, 10, 1000
# Until the windows of those that do not read are full.
FILLED_S = 2.0
ALONE, BESIDE = "10 that read", "10 that read beside 10 that have stopped"


def benchmark(*, quick: bool) -> Benchmark:
    """Ten readers by themselves, and the same beside ten that take what their window holds and nothing more."""
    seconds = 1.5 if quick else 5.0
    return Benchmark(
        name="stalled-readers",
        question=f"readers of ten lines with {RATE} ticks per second together",
        cases={ALONE: partial(_run, 0, seconds), BESIDE: partial(_run, STALLED, seconds)},
        units={"p50": "ms old", "p99": "ms old", "memory": "MiB at the end", "growth": "KiB per second"},
        targets=(Target(BESIDE, "p99", over=ALONE, at_most=1.2), Target(BESIDE, "growth", at_most=64.0)),
    )


def _run(stalled: int, seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, gateway(broker.port) as server:
        options = ("--readers", HEALTHY, "--stalled", stalled, "--warm-up", FILLED_S, "--seconds", seconds)
        found = watched("readers", "grpc", server.port, *options, meter=lambda: {"memory": server.memory_kib()})
        memory = server.memory_kib()
    return {
        "p50": found["p50"],
        "p99": found["p99"],
        "memory": memory / 1024,
        "growth": found["memory"] / seconds,
    }
