"""Balances, positions, profit and loss."""

from __future__ import annotations

from typing import Annotated

import typer
from ibkr_gateway.v1 import account_service_pb2 as pb

from ibkr_gateway_cli.live import CountOption, WatchOption, follow
from ibkr_gateway_cli.session import Options, console, errors_as_exit_codes, gateway, print_json

AccountOption = Annotated[str, typer.Option("--account", "-a", help="Account number; needed when there are several.")]


def account(context: typer.Context, account_id: AccountOption = "") -> None:
    """Show balances and margin."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.account.GetAccountSummary(pb.GetAccountSummaryRequest(account_id=account_id))
        if options.as_json:
            print_json(answer.summary)
        else:
            from ibkr_gateway_cli.render import summary_table

            console().print(summary_table(answer.summary))


def positions(
    context: typer.Context, account_id: AccountOption = "", watch: WatchOption = False, count: CountOption = 0
) -> None:
    """Show positions at their marks, once or live."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if watch:
            from ibkr_gateway_cli.account_views import PositionsView

            with gateway(options) as connected:
                stream = connected.account.StreamPositions(pb.StreamPositionsRequest(account_id=account_id))
                follow(options, stream, PositionsView(), count)
            return
        with gateway(options) as connected:
            answer = connected.account.GetPositions(pb.GetPositionsRequest(account_id=account_id))
        if options.as_json:
            for position in answer.positions:
                print_json(position)
        else:
            from ibkr_gateway_cli.render import positions_table

            console().print(positions_table(answer.positions))


def pnl(
    context: typer.Context, account_id: AccountOption = "", watch: WatchOption = False, count: CountOption = 0
) -> None:
    """Show the day's profit and loss, of the account and by position, once or live."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if watch:
            from ibkr_gateway_cli.account_views import PnlView

            request = pb.StreamPnlRequest(account_id=account_id, include_positions=True)
            with gateway(options) as connected:
                follow(options, connected.account.StreamPnl(request), PnlView(), count)
            return
        with gateway(options) as connected:
            answer = connected.account.GetPnl(pb.GetPnlRequest(account_id=account_id))
        if options.as_json:
            print_json(answer.pnl)
        else:
            from ibkr_gateway_cli.account_views import pnl_table

            console().print(pnl_table(answer.pnl))
