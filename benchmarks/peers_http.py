"""The same quotes by HTTP: FastAPI under uvicorn with SSE and WebSockets, as commonly written and batched as well."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.fan_out import INTERVAL_MS, PACED, PROMPT, RATE, READERS, through_gateway
from benchmarks.following import UNITS, followed
from benchmarks.harness import Benchmark, Target, cores, missing
from benchmarks.processes import firehose, server

NEEDED = ("fastapi", "uvicorn", "websockets")
SSE, WEBSOCKET = "FastAPI SSE, an event per tick", "FastAPI WebSocket, a message per tick"
BATCHED_SSE, BATCHED_WEBSOCKET = "FastAPI SSE, batched", "FastAPI WebSocket, batched"


def benchmark(*, quick: bool) -> Benchmark:
    """The gateway beside four ways of doing it over HTTP."""
    seconds = 1.0 if quick else 3.0
    peers: dict[str, Callable[[], dict[str, float]]] = {
        SSE: partial(_through_fastapi, "sse", "naive", seconds),
        WEBSOCKET: partial(_through_fastapi, "websocket", "naive", seconds),
        BATCHED_SSE: partial(_through_fastapi, "sse", "batched", seconds),
        BATCHED_WEBSOCKET: partial(_through_fastapi, "websocket", "batched", seconds),
    }
    why = missing(*NEEDED)
    ours = {
        PROMPT: partial(through_gateway, READERS, RATE, seconds, 0),
        PACED: partial(through_gateway, READERS, RATE, seconds, INTERVAL_MS),
    }
    return Benchmark(
        name="peers-http",
        question=f"{READERS} readers of ten lines with {RATE} ticks per second together, over gRPC and over HTTP",
        cases=ours if why else {**ours, **peers},
        left_out=dict.fromkeys(peers, why) if why else {},
        units=UNITS,
        targets=(
            Target(PROMPT, "server CPU", over=SSE, at_most=0.5),
            Target(PROMPT, "server CPU", over=WEBSOCKET, at_most=0.5),
            Target(PROMPT, "server CPU", over=BATCHED_SSE, at_most=1.5),
            Target(PROMPT, "server CPU", over=BATCHED_WEBSOCKET, at_most=1.5),
        ),
    )


def _through_fastapi(kind: str, way: str, seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, server(cores()[0], "benchmarks.peers.fastapi_app", str(broker.port), way) as peer:
        return followed(kind, broker, peer, READERS, seconds)
