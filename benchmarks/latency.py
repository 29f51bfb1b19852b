"""How long a tick takes from TWS to a program's handler, without and with the gateway between them."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Benchmark, Target, cores
from benchmarks.processes import firehose, gateway, watched

RATE = 500
DIRECT = "ib_async, no gateway"
ONE, TEN = "through the gateway, 1 subscriber", "through the gateway, 10 subscribers"


def benchmark(*, quick: bool) -> Benchmark:
    """The same ticks to ib_async itself, and through the gateway to one and to ten programs with its Python client."""
    seconds = 1.0 if quick else 4.0
    return Benchmark(
        name="latency",
        question=f"from TWS's send to the handler, at {RATE} ticks per second of one line",
        cases={
            DIRECT: partial(_direct, seconds),
            ONE: partial(_through, 1, seconds),
            TEN: partial(_through, 10, seconds),
        },
        units={"p50": "ms", "p99": "ms"},
        targets=(Target(ONE, "p50", over=DIRECT, at_most=1.5), Target(TEN, "p50", over=DIRECT, at_most=3.0)),
    )


def _direct(seconds: float) -> dict[str, float]:
    # It stands where the gateway stands: on the measured core.
    with firehose(RATE) as broker:
        found = watched("direct", broker.port, 1, seconds, core=cores()[0])
    return {"p50": found["p50"], "p99": found["p99"]}


def _through(subscribers: int, seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, gateway(broker.port) as server:
        found = watched("programs", server.port, 1, seconds, subscribers)
    return {"p50": found["p50"], "p99": found["p99"]}
