"""Metrics: one registry, one table of names.

The names are the product's own; Prometheus reads them as text, GetMetrics answers them as counters, histograms with
percentiles, and gauges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ibkr_gateway_server.domain.tallies import Count, Tallies

# Seconds; from a local answer to the longest a caller waits.
_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# From a commit on a quiet disk to one that waits for a checkpoint; from no wait for room to the longest an order has.
_COMMIT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_FILL = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400)
PERCENTILES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Value:
    """A counter or a gauge at this moment."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram at this moment; percentiles are interpolated within buckets, None while nothing was observed."""

    name: str
    labels: dict[str, str]
    count: int
    sum: float
    percentiles: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All metrics at this moment."""

    counters: tuple[Value, ...]
    histograms: tuple[Distribution, ...]
    gauges: tuple[Value, ...]


class Metrics:
    """The registry. Attributes are Prometheus metrics; use `.labels(...)` and `.inc()`, `.observe()`, `.set()`."""

    def __init__(self, tallies: Tallies | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        if tallies is not None:
            registry.register(_Tallied(tallies))
        self.api_requests = Counter("api_requests_total", "RPCs answered", ["endpoint", "status"], registry=registry)
        self.api_request_duration = Histogram(
            "api_request_duration_seconds", "Time to answer an RPC", ["endpoint"], buckets=_LATENCY, registry=registry
        )
        self.ibkr_operations = Counter(
            "ibkr_operations_total", "Requests to IBKR", ["operation", "status"], registry=registry
        )
        self.ibkr_operation_duration = Histogram(
            "ibkr_operation_duration_seconds",
            "Time until IBKR's answer",
            ["operation"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.orders = Counter(
            "orders_total", "Orders by the state they came to", ["status", "symbol"], registry=registry
        )
        self.order_time_to_fill = Histogram(
            "order_time_to_fill_seconds", "From intent to complete fill", ["symbol"], buckets=_FILL, registry=registry
        )
        self.audit_commit = Histogram(
            "ibkr_gateway_audit_commit_seconds",
            "Time until a transaction of the record is on the disk",
            buckets=_COMMIT,
            registry=registry,
        )
        self.order_queue_wait = Histogram(
            "ibkr_gateway_order_queue_wait_seconds",
            "Time that an order waited for room among the messages to TWS",
            buckets=_COMMIT,
            registry=registry,
        )
        self.connection_status = Gauge("ibkr_connection_status", "1 while TWS reaches IBKR, else 0", registry=registry)
        self.active_orders = Gauge("active_orders", "Orders that may still fill", ["status"], registry=registry)
        self.settings_changed = Gauge(
            "settings_changed_files", "Files of settings that differ from what the gateway runs with", registry=registry
        )
        self.open_streams = Gauge("open_streams", "Streams being served", ["endpoint"], registry=registry)

    def snapshot(self) -> Snapshot:
        """Every metric's values now."""
        counters: list[Value] = []
        histograms: list[Distribution] = []
        gauges: list[Value] = []
        for metric in self.registry.collect():
            if metric.type == "histogram":
                histograms += _distributions(metric)
                continue
            values = counters if metric.type == "counter" else gauges
            values += [
                Value(sample.name, dict(sample.labels), sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ]
        return Snapshot(tuple(counters), tuple(histograms), tuple(gauges))


class _Tallied(Collector):
    """What the session has counted, in Prometheus's words."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies

    def collect(self) -> Iterable[Metric]:
        for kind, values in self._tallies.values():
            make = CounterMetricFamily if isinstance(kind, Count) else GaugeMetricFamily
            family = make(kind.name, kind.about, labels=[kind.label] if kind.label else [])
            for label, value in values.items():
                family.add_metric([label] if kind.label else [], value)
            yield family


def _distributions(metric: Metric) -> list[Distribution]:
    """The samples of one histogram, gathered by their labels."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in metric.samples:
        labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "le"))
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [
        Distribution(
            name=metric.name,
            labels=dict(labels),
            count=int(counts[-1][1]),
            sum=sums.get(labels, 0.0),
            percentiles=tuple(percentile(counts, part) for part in PERCENTILES),
        )
        for labels, counts in buckets.items()
    ]


def percentile(buckets: list[tuple[float, float]], part: float) -> float | None:
    """The value below which `part` of the observations lie; `buckets` are (upper bound, cumulative count), ascending.

    Within a bucket values are taken as evenly spread; above the last bound nothing more is known than that bound.
    """
    total = buckets[-1][1]
    if not total:
        return None
    rank = part * total
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= rank:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / max(count - below, 1e-12)
        lower, below = upper, count
    return lower
