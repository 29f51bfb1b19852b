"""Metrics as tables: requests and IBKR's operations with their times, open streams, and all the rest by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ibkr_gateway.v1 import gateway_service_pb2 as pb
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.render import DASH, table

QUANTILES: tuple[Literal["p50", "p90", "p99"], ...] = ("p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class Kind:
    """A thing that is counted and timed under one label."""

    title: str
    label: str
    counter: str
    histogram: str


KINDS = (
    Kind("Requests", "endpoint", "api_requests_total", "api_request_duration_seconds"),
    Kind("IBKR's operations", "operation", "ibkr_operations_total", "ibkr_operation_duration_seconds"),
)
STREAMS = "open_streams"


def metrics_tables(answer: pb.GetMetricsResponse, *, show_all: bool) -> Group:
    """All tables that have a row; without `show_all` no row that is zero."""
    tables = [_timed(kind, answer, show_all=show_all) for kind in KINDS]
    named = {name for kind in KINDS for name in (kind.counter, kind.histogram)}
    streams = [each for each in answer.gauges if each.name == STREAMS]
    tables.append(_values("Open streams", streams, show_all=show_all, has_name=False))
    tables.append(_times([each for each in answer.histograms if each.name not in named], show_all=show_all))
    tables.append(_values("Now", [each for each in answer.gauges if each.name != STREAMS], show_all=show_all))
    tables.append(
        _values("Since the start", [each for each in answer.counters if each.name not in named], show_all=show_all)
    )
    return Group(*(made for made in tables if made.row_count))


def _timed(kind: Kind, answer: pb.GetMetricsResponse, *, show_all: bool) -> Table:
    """A row for each value of the label: how many went well, how many did not and why, and how long they took."""
    counts: dict[str, dict[str, float]] = {}
    for counter in answer.counters:
        if counter.name == kind.counter:
            by_status = counts.setdefault(counter.labels[kind.label], {})
            status = counter.labels["status"]
            by_status[status] = by_status.get(status, 0) + counter.value
    times = {each.labels[kind.label]: each for each in answer.histograms if each.name == kind.histogram}
    columns = ("count", *(f"{name}, ms" for name in QUANTILES))
    made = table(kind.title, kind.label, *columns, "not OK", numbers=columns)
    for name in dict.fromkeys([*counts, *times]):
        by_status = counts.get(name, {})
        total = sum(by_status.values())
        if total or show_all:
            failed = {status: value for status, value in by_status.items() if status != "OK" and value}
            text = ", ".join(f"{status} {value:,.0f}" for status, value in sorted(failed.items()))
            ended = Text(text or DASH, style="red" if text else "")
            made.add_row(_short(name), f"{total:,.0f}", *_quantiles(times.get(name), 1e3), ended)
    return made


def _times(histograms: Sequence[pb.HistogramMetric], *, show_all: bool) -> Table:
    columns = ("count", *QUANTILES)
    made = table("Distributions", "name", *columns, numbers=columns)
    for each in histograms:
        if each.value_count or show_all:
            made.add_row(_named(each.name, each.labels), f"{each.value_count:,}", *_quantiles(each, 1))
    return made


def _values(
    title: str, metrics: Iterable[pb.CounterMetric | pb.GaugeMetric], *, show_all: bool, has_name: bool = True
) -> Table:
    made = table(title, "name", "value", numbers=("value",))
    for each in metrics:
        if each.value or show_all:
            made.add_row(_named(each.name if has_name else "", each.labels), f"{each.value:,.6g}")
    return made


def _quantiles(metric: pb.HistogramMetric | None, factor: float) -> list[str]:
    if metric is None:
        return [DASH] * len(QUANTILES)
    known = (getattr(metric, name) if metric.HasField(name) else None for name in QUANTILES)
    return [DASH if value is None else f"{value * factor:,.3g}" for value in known]


def _named(name: str, labels: Mapping[str, str]) -> str:
    """A metric's name and labels, as short as they are clear."""
    values = " ".join(_short(value) for _, value in sorted(labels.items()))
    return f"{name.removeprefix('ibkr_gateway_')} {values}".strip()


def _short(value: str) -> str:
    """An RPC without its package: MarketDataService/GetQuote."""
    return value.rpartition(".")[2] if value.startswith("/") else value
