"""`ibkr-gateway`: the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ibkr_gateway_cli import account, contracts, demo, market, orders, servers
from ibkr_gateway_cli.session import EXIT_CODES, INTERRUPTED, USAGE, Options

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    help="An Interactive Brokers account behind a typed gRPC contract. Start with: ibkr-gateway demo",
)


@app.callback()
def options(
    context: typer.Context,
    host: Annotated[str, typer.Option(envvar="GRPC_HOST", help="Host of the server.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GRPC_PORT", min=1, max=65535, help="Port of the server.")] = 50051,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Refuse to talk to a server that trades live.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Refuse to talk to a server that does not trade live.")] = False,
) -> None:
    if paper and live:
        typer.echo("--paper and --live exclude each other", err=True)
        raise typer.Exit(USAGE)
    context.obj = Options(host, port, as_json, "paper" if paper else "live" if live else "")


app.command(context_settings=servers.PASS_ON)(servers.serve)
app.command("start-api", context_settings=servers.PASS_ON, hidden=True)(servers.serve)
app.command(context_settings=servers.PASS_ON)(servers.simulate)
app.command()(servers.healthcheck)
app.command()(servers.version)
app.command()(demo.demo)
app.command()(market.quote)
app.command()(market.bars)
app.command()(contracts.search)
app.command()(contracts.chain)
app.command()(account.account)
app.command()(account.positions)
app.add_typer(orders.orders, name="order")


def main() -> None:
    """Run one command; `--json` is taken behind the command as well as before it."""
    arguments = sys.argv[1:]
    passes_on = any(argument in ("serve", "start-api", "simulate") for argument in arguments)
    if "--json" in arguments and not passes_on:
        arguments = ["--json", *(argument for argument in arguments if argument != "--json")]
    try:
        app(args=arguments, prog_name="ibkr-gateway")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
