"""What it costs to tell everybody: a hundred readers of a thousand ticks a second."""

from __future__ import annotations

from functools import partial

from benchmarks.following import UNITS, followed
from benchmarks.harness import Benchmark, Target, cores
from benchmarks.processes import firehose, gateway, server

READERS, RATE = 100, 1000
INTERVAL_MS = 5
PROMPT, PACED = "the gateway", f"the gateway, min_interval {INTERVAL_MS} ms"
NAIVE = "bare grpc.aio, a message per tick"


def benchmark(*, quick: bool) -> Benchmark:
    """The gateway with and without a least interval, beside grpc.aio with a message for every tick and reader."""
    seconds = 1.0 if quick else 3.0
    return Benchmark(
        name="fan-out",
        question=f"{READERS} readers of ten lines with {RATE} ticks per second together",
        cases={
            PROMPT: partial(through_gateway, READERS, RATE, seconds, 0),
            PACED: partial(through_gateway, READERS, RATE, seconds, INTERVAL_MS),
            NAIVE: partial(_naive, seconds),
        },
        units=UNITS,
        targets=(
            Target(PROMPT, "told", at_least=99.0),
            Target(PACED, "told", at_least=99.0),
            Target(PROMPT, "server CPU", at_most=10.0),
            Target(PACED, "server CPU", at_most=8.0),
            Target(PACED, "server CPU", over=NAIVE, at_most=0.2),
        ),
    )


def through_gateway(readers: int, rate: float, seconds: float, interval_ms: float) -> dict[str, float]:
    """One run of our own server."""
    with firehose(rate) as broker, gateway(broker.port) as ours:
        return followed("grpc", broker, ours, readers, seconds, "--interval-ms", interval_ms)


def _naive(seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, server(cores()[0], "benchmarks.peers.bare_grpc", str(broker.port)) as peer:
        return followed("grpc", broker, peer, READERS, seconds)
