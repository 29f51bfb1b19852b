"""How old what is delivered is when there is much of it: five thousand ticks a second to ten programs."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Benchmark, Target
from benchmarks.processes import firehose, gateway, watched

RATE, SUBSCRIBERS, LINES = 5000, 10, 10
OURS = "the gateway"


def benchmark(*, quick: bool) -> Benchmark:
    """Ten programs with the Python client, in one process, each on its connection."""
    return Benchmark(
        name="flood",
        question=f"ten lines with {RATE} ticks per second together, to {SUBSCRIBERS} programs",
        cases={OURS: partial(_run, 1.0 if quick else 4.0)},
        units={
            "delivered": "% of ticks × programs",
            "told": "% with those conflated",
            "clients' core": "% busy",
            "p50": "ms old",
            "p99": "ms old",
            "oldest": "ms",
        },
        targets=(Target(OURS, "p50", at_most=1.0), Target(OURS, "oldest", at_most=5.0)),
    )


def _run(seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, gateway(broker.port) as server:
        found = watched(
            "programs",
            server.port,
            LINES,
            seconds,
            SUBSCRIBERS,
            meter=lambda: {"sent": broker.sent(), "broker": broker.cpu_s()},
        )
    due = found["sent"] * SUBSCRIBERS
    return {
        "delivered": found["updates"] / due * 100,
        "told": (found["updates"] + found["conflated"]) / due * 100,
        "clients' core": (found["client"] + found["broker"]) / seconds * 100,
        "p50": found["p50"],
        "p99": found["p99"],
        "oldest": found["max"],
    }
