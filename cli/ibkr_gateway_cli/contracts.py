"""What can be traded: symbols by name, options by underlying."""

from __future__ import annotations

from typing import Annotated

import typer
from ibkr_gateway import parse_instrument
from ibkr_gateway.v1 import reference_data_service_pb2 as pb

from ibkr_gateway_cli.session import NOT_FOUND, Options, console, errors_as_exit_codes, gateway, print_json


def search(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(help="Beginning of a symbol, or words of a name: AAP, apple.")],
) -> None:
    """Find symbols by how they or their names begin."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.reference_data.SearchSymbols(pb.SearchSymbolsRequest(pattern=pattern))
        if options.as_json:
            for match in answer.matches:
                print_json(match)
        else:
            from ibkr_gateway_cli.render import matches_table

            console().print(matches_table(pattern, answer.matches))
        if not answer.matches:
            raise typer.Exit(NOT_FOUND)


def chain(
    context: typer.Context,
    underlying: Annotated[str, typer.Argument(help="AAPL, MES:FUT, SPX:IND, or a contract id")],
    exchange: Annotated[str, typer.Option("--exchange", "-e", help="Of the options; by default all.")] = "",
) -> None:
    """Show which expiries and strikes of options are listed; with --json each of them."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.GetOptionChainRequest(underlying=parse_instrument(underlying), exchange=exchange)
        with gateway(options) as connected:
            answer = connected.reference_data.GetOptionChain(request)
        if options.as_json:
            for listed in answer.chains:
                print_json(listed)
        else:
            from ibkr_gateway_cli.render import chains_table

            console().print(chains_table(underlying, answer.chains))
        if not answer.chains:
            raise typer.Exit(NOT_FOUND)
