"""Balances and positions."""

from __future__ import annotations

from typing import Annotated

import typer
from ibkr_gateway.v1 import account_service_pb2 as pb

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


def positions(context: typer.Context, account_id: AccountOption = "") -> None:
    """Show positions at their marks."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.account.GetPositions(pb.GetPositionsRequest(account_id=account_id))
        if options.as_json:
            for position in answer.positions:
                print_json(position)
        else:
            from ibkr_gateway_cli.render import positions_table

            console().print(positions_table(answer.positions))
