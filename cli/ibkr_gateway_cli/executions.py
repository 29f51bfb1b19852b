"""Executions: what has filled."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from datetime import UTC
from typing import Annotated

import typer
from ibkr_gateway.v1 import account_service_pb2 as pb
from ibkr_gateway.v1 import common_pb2

from ibkr_gateway_cli.account import AccountOption
from ibkr_gateway_cli.session import Options, console, errors_as_exit_codes, gateway, print_json
from ibkr_gateway_cli.times import SinceOption, UntilOption, set_span

MAX_PAGE = 1000

COLUMNS = (
    *("execution_id", "execution_time", "account_id", "client_order_id", "order_id", "perm_id", "con_id", "symbol"),
    *("security_type", "side", "quantity", "price", "exchange", "commission", "commission_currency", "realized_pnl"),
)


def executions(
    context: typer.Context,
    account_id: AccountOption = "",
    symbol: Annotated[str, typer.Option("--symbol", help="Only this symbol.")] = "",
    order: Annotated[str, typer.Option("--order", help="Only of this client_order_id.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a header line.")] = False,
) -> None:
    """Show what has filled, newest first, with commissions and realized P&L."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if as_csv and options.as_json:
            raise ValueError("--csv and --json exclude each other")
        request = pb.ListExecutionsRequest(account_id=account_id, symbol=symbol, client_order_id=order)
        set_span(request, since, until)
        found = _up_to(limit, options, request)
        if as_csv:
            _write(found)
        elif options.as_json:
            for execution in found:
                print_json(execution)
        else:
            from ibkr_gateway_cli.render_orders import executions_table

            console().print(executions_table(found))


def _up_to(limit: int, options: Options, request: pb.ListExecutionsRequest) -> list[pb.Execution]:
    """All pages, up to so many executions."""
    found: list[pb.Execution] = []
    with gateway(options) as connected:
        while len(found) < limit:
            request.page_size = min(limit - len(found), MAX_PAGE)
            answer = connected.account.ListExecutions(request)
            found += answer.executions
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    return found


def _write(found: Iterable[pb.Execution]) -> None:
    """As CSV: decimals and ids as they are, times in UTC as ISO 8601, nothing where nothing is known."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(COLUMNS)
    for execution in found:
        instrument = execution.instrument
        rows.writerow(
            (
                execution.execution_id,
                execution.execution_time.ToDatetime(UTC).isoformat(),
                execution.account_id,
                execution.client_order_id,
                execution.order_id,
                execution.perm_id,
                instrument.con_id,
                instrument.symbol,
                common_pb2.SecurityType.Name(instrument.security_type).removeprefix("SECURITY_TYPE_"),
                common_pb2.Side.Name(execution.side).removeprefix("SIDE_"),
                execution.quantity,
                execution.price,
                execution.exchange,
                execution.commission.amount,
                execution.commission.currency_code,
                execution.realized_pnl,
            )
        )
