"""What a GetQuote costs, with everything that is around a call, beside a bare gRPC server and a REST one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from benchmarks.harness import Benchmark, Target, cores, missing
from benchmarks.processes import Server, firehose, gateway, server, watched

CALLERS = 16
OURS, BARE, REST = "the gateway", "bare grpc.aio, a constant quote", "FastAPI, a constant quote by GET"
UNITS = {"p50 of 1 caller": "ms", "calls of 16 callers": "1/s", "server CPU": "µs per call"}


def benchmark(*, quick: bool) -> Benchmark:
    """One caller for the time, sixteen for the throughput."""
    seconds = 1.0 if quick else 2.0
    cases: dict[str, Callable[[], dict[str, float]]] = {
        OURS: partial(_asked, "grpc", _gateway, seconds),
        BARE: partial(_asked, "grpc", _bare, seconds),
    }
    if not (why := missing("fastapi", "uvicorn")):
        cases[REST] = partial(_asked, "rest", _fastapi, seconds)
    return Benchmark(
        name="unary",
        question="GetQuote of a line that is live",
        cases=cases,
        left_out={REST: why} if why else {},
        units=UNITS,
        targets=(
            Target(OURS, "server CPU", over=BARE, at_most=1.15),
            Target(OURS, "p50 of 1 caller", over=REST, at_most=1.2),
        ),
    )


def _asked(kind: str, serving: Callable[[], AbstractContextManager[Server]], seconds: float) -> dict[str, float]:
    with serving() as asked:
        one = watched("callers", kind, asked.port, 1, seconds)
        many = watched("callers", kind, asked.port, CALLERS, seconds, meter=lambda: {"cpu": asked.cpu_s()})
    return {
        "p50 of 1 caller": one["p50"],
        "calls of 16 callers": many["calls"] / seconds,
        "server CPU": many["cpu"] / many["calls"] * 1e6,
    }


@contextmanager
def _gateway() -> Iterator[Server]:
    # A tick a second keeps the line fresh.
    with firehose(1.0) as broker, gateway(broker.port) as ours:
        yield ours


@contextmanager
def _bare() -> Iterator[Server]:
    with server(cores()[0], "benchmarks.peers.bare_grpc", "0") as peer:
        yield peer


@contextmanager
def _fastapi() -> Iterator[Server]:
    with server(cores()[0], "benchmarks.peers.fastapi_app", "0", "naive") as peer:
        yield peer
