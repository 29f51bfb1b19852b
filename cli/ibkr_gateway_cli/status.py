"""Whether an order would be sent now, how the session with IBKR is, and what of the limits is used."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from ibkr_gateway import SyncGateway
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_cli.session import Options, console, dictionary, errors_as_exit_codes, gateway, print_json

SESSION_TIMEOUT_S = 10.0


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Tell each change until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("--count", min=0, help="With --watch: end after so many; 0: never.")] = 0,
) -> None:
    """Show whether an order would be sent now, and if not, why and what to do; the session with IBKR; the limits."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json), gateway(options) as connected:
        if watch:
            _watch(options, connected, count)
        else:
            _once(options, connected)


def _once(options: Options, connected: SyncGateway) -> None:
    trading = connected.gateway.GetTradingStatus(pb.GetTradingStatusRequest()).status
    session = _session(connected)
    usage = connected.gateway.GetUsage(pb.GetUsageRequest())
    if options.as_json:
        parts = {"trading_status": dictionary(trading), "session": dictionary(session)}
        print(json.dumps({**parts, "limits": dictionary(usage).get("limits", [])}))
        return
    from ibkr_gateway_cli.render_status import session_table, trading_table, usage_table

    for shown in (trading_table(trading), session_table(session), usage_table(usage.limits)):
        console().print(shown)


def _session(connected: SyncGateway) -> pb.SessionStatus:
    """How the session is now, which is what its stream begins with."""
    responses = connected.gateway.WatchSession(pb.WatchSessionRequest(), timeout=SESSION_TIMEOUT_S)
    return next(response.status for response in responses if response.HasField("status"))


def _watch(options: Options, connected: SyncGateway, count: int) -> None:
    from ibkr_gateway_cli.render_status import trading_table

    told = 0
    for response in connected.gateway.WatchTradingStatus(pb.WatchTradingStatusRequest()):
        if not response.HasField("status"):
            continue
        if options.as_json:
            print_json(response)
        else:
            console().print(trading_table(response.status))
        told += 1
        if told == count:
            return
