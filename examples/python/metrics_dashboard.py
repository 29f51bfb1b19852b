"""Shows how the gateway does: requests, errors, how long they took, session and orders; once, or time and again."""

from __future__ import annotations

import json
import time
from typing import Any

import options
from google.protobuf.json_format import MessageToDict
from ibkr_gateway import SyncGateway
from ibkr_gateway.v1 import gateway_service_pb2 as pb

CLEAR = "\x1b[2J\x1b[H"


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="show it again every so often, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="one object")
    arguments = parser.parse_args()
    with options.connected(arguments) as gateway:
        while True:
            shown = as_json(gateway) if arguments.json else dashboard(gateway)
            print(shown if arguments.json or not arguments.watch else CLEAR + shown, flush=True)
            if not arguments.watch:
                return
            time.sleep(arguments.watch)


def as_json(gateway: SyncGateway) -> str:
    answer = gateway.gateway.GetMetrics(pb.GetMetricsRequest())
    return json.dumps(MessageToDict(answer, preserving_proto_field_name=True))


def dashboard(gateway: SyncGateway) -> str:
    health = gateway.gateway.GetHealth(pb.GetHealthRequest())
    metrics = gateway.gateway.GetMetrics(pb.GetMetricsRequest())
    usage = gateway.gateway.GetUsage(pb.GetUsageRequest())
    return "\n".join(
        [
            f"ibkr-gateway {health.version}  {pb.HealthStatus.Name(health.status).removeprefix('HEALTH_STATUS_')}"
            f"  {pb.TradingMode.Name(health.trading_mode).removeprefix('TRADING_MODE_')}"
            f"  orders {'on' if health.orders_enabled else 'off'}",
            *table("counts", [(named(each), f"{each.value:g}") for each in metrics.counters]),
            *table("times, s: count, p50, p95, p99", [(named(each), times(each)) for each in metrics.histograms]),
            *table("now", [(named(each), f"{each.value:g}") for each in metrics.gauges]),
            *table("limits", [(each.name, f"{each.used_count} of {each.limit_count}") for each in usage.limits]),
        ]
    )


def named(metric: Any) -> str:
    """A metric's name and labels; of an RPC its short name."""
    labels = ", ".join(value.rpartition(".")[2] for _, value in sorted(metric.labels.items()))
    return f"{metric.name} {labels}".strip()


def times(metric: pb.HistogramMetric) -> str:
    known = [getattr(metric, name) if metric.HasField(name) else None for name in ("p50", "p95", "p99")]
    return "  ".join([str(metric.value_count), *("-" if value is None else f"{value:.4f}" for value in known)])


def table(title: str, rows: list[tuple[str, str]]) -> list[str]:
    return ["", title, *(f"  {name:<72} {value}" for name, value in sorted(rows))]


if __name__ == "__main__":
    main()
