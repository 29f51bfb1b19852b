"""What the gateway adds to an order: from the call to TWS's reading it, and to IBKR's first word, beside ib_async."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.harness import Benchmark
from benchmarks.processes import firehose, gateway, watched

OURS, DIRECT = "PlaceOrder through the gateway", "ib_async, no gateway"
# Far more than IBKR takes of one contract and side; what is measured is the way, not the rule.
MANY = {"ORDERS_ENABLED": "true", "MAX_OPEN_ORDERS": "100000"}


def benchmark(*, quick: bool) -> Benchmark:
    """One caller, 20 orders a second, each a limit order that rests."""
    count = 40 if quick else 200
    return Benchmark(
        name="order-path",
        question="a limit order, from the call to TWS and to the answer",
        cases={OURS: partial(_through, count), DIRECT: partial(_direct, count)},
        units=dict.fromkeys(("to TWS, p50", "to TWS, p99", "to the answer, p50", "to the answer, p99"), "ms"),
    )


def _through(count: int) -> dict[str, float]:
    with firehose(0.0) as broker, gateway(broker.port, environment=MANY) as ours:
        told = watched("orderers", "grpc", ours.port, count)
        return _figures(told, broker.placed())


def _direct(count: int) -> dict[str, float]:
    with firehose(0.0) as broker:
        return _figures(watched("orderers", "direct", broker.port, count), broker.placed())


def _figures(told: Mapping[str, Any], placed: list[float]) -> dict[str, float]:
    began, answered = told["began"], told["answered"]
    assert isinstance(began, list)
    assert isinstance(answered, list)
    ways = sorted(read - asked for asked, read in zip(began, placed[-len(began) :], strict=True))
    return {
        "to TWS, p50": _of(ways, 50),
        "to TWS, p99": _of(ways, 99),
        "to the answer, p50": _of(sorted(answered), 50),
        "to the answer, p99": _of(sorted(answered), 99),
    }


def _of(values: list[float], percent: int) -> float:
    return values[min(len(values) * percent // 100, len(values) - 1)] * 1e3
