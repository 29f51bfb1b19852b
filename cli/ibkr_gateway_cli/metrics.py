"""How the gateway does: its metrics, by what they are about."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_cli.live import CountOption, WatchOption, showing
from ibkr_gateway_cli.session import Options, console, errors_as_exit_codes, gateway, print_json


def metrics(
    context: typer.Context,
    show_all: Annotated[bool, typer.Option("--all", help="Also what is zero or was never observed.")] = False,
    watch: WatchOption = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, max=3600, help="With --watch: seconds between two readings.")
    ] = 2.0,
    count: CountOption = 0,
) -> None:
    """Show what the gateway counts and measures, once or live; --json has all of it."""
    options: Options = context.obj
    from ibkr_gateway_cli.figures import metrics_tables

    with errors_as_exit_codes(options.as_json), gateway(options) as connected:
        if not watch:
            answer = connected.gateway.GetMetrics(pb.GetMetricsRequest())
            if options.as_json:
                print_json(answer)
            else:
                console().print(metrics_tables(answer, show_all=show_all))
            return
        with showing(options) as shown:
            told = 0
            while True:
                answer = connected.gateway.GetMetrics(pb.GetMetricsRequest())
                tables = metrics_tables(answer, show_all=show_all)
                shown.tell(answer, tables)
                shown.draw(tables)
                told += 1
                if told == count:
                    return
                time.sleep(interval_s)
