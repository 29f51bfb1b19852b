"""What a subscriber costs that has nothing to hear: the memory of its stream."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Benchmark, Target
from benchmarks.processes import firehose, gateway, watched

SUBSCRIBERS, QUICK_SUBSCRIBERS = 500, 200
SHARED, OWN = "on one connection", "on a connection each"


def benchmark(*, quick: bool) -> Benchmark:
    """Streams that share a connection, as of one program, and streams that do not, as of many."""
    count = QUICK_SUBSCRIBERS if quick else SUBSCRIBERS
    return Benchmark(
        name="subscribers",
        question=f"memory of the server with {count} idle subscribers of one line, less what it is with 20",
        cases={SHARED: partial(_run, count, "one"), OWN: partial(_run, count, "each")},
        units={"memory": "KiB per subscriber"},
        targets=(Target(SHARED, "memory", at_most=64.0), Target(OWN, "memory", at_most=64.0)),
    )


def _run(count: int, connections: str) -> dict[str, float]:
    with firehose(0.0) as broker, gateway(broker.port) as server:
        found = watched("idlers", server.port, count, connections, meter=lambda: {"memory": server.memory_kib()})
    return {"memory": found["memory"] / found["subscribers"]}
