"""What watching costs: calls and streams of the server with its logs and metrics, and of one without.

The record is not among it: what is measured here only reads, and reads leave no trace there. Orders do.
"""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from benchmarks.following import followed
from benchmarks.harness import Benchmark, Target
from benchmarks.processes import firehose, gateway, watched

READERS, RATE = 10, 1000
CALLERS = 16
WATCHED, UNWATCHED = "with logs and metrics", "without"
SCRAPE_EVERY_S = 1.0


def benchmark(*, quick: bool) -> Benchmark:
    """GetQuote by sixteen callers, then ten readers of a stream, with and without."""
    seconds = 1.0 if quick else 3.0
    return Benchmark(
        name="observability",
        question="calls per second, and what an update costs, with logs and metrics and without",
        cases={
            WATCHED: partial(_watched, seconds),
            UNWATCHED: partial(_run, "benchmarks.peers.unwatched", {"LOG_LEVEL": "ERROR"}, seconds),
        },
        units={"calls": "1/s", "call": "µs of server CPU", "update": "µs of server CPU"},
        targets=(
            Target(WATCHED, "calls", over=UNWATCHED, at_least=0.95),
            Target(WATCHED, "update", over=UNWATCHED, at_most=1.05),
        ),
    )


def _watched(seconds: float) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with _scraping(port):
        return _run("ibkr_gateway_server", {"METRICS_PORT": str(port), "LOG_LEVEL": "INFO"}, seconds)


@contextmanager
def _scraping(port: int) -> Iterator[None]:
    """Read the metrics every second, more often than a scraper would."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_EVERY_S):
            # Between servers there is nobody to ask.
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _run(module: str, settings: dict[str, str], seconds: float) -> dict[str, float]:
    with firehose(RATE) as broker, gateway(broker.port, module, settings) as server:
        stream = followed("grpc", broker, server, READERS, seconds)
    with firehose(1.0) as broker, gateway(broker.port, module, settings) as server:
        calls = watched("callers", "grpc", server.port, CALLERS, seconds, meter=lambda: {"cpu": server.cpu_s()})
    return {
        "calls": calls["calls"] / seconds,
        "call": calls["cpu"] / calls["calls"] * 1e6,
        "update": stream["server CPU"],
    }
