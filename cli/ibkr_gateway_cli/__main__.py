"""`ibkr-gateway`: the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from ibkr_gateway import Tls

from ibkr_gateway_cli import (
    account,
    audit,
    contracts,
    demo,
    examples,
    executions,
    halts,
    market,
    metrics,
    order_changes,
    order_watch,
    orders,
    servers,
    status,
    tokens,
)
from ibkr_gateway_cli.session import EXIT_CODES, INTERRUPTED, USAGE, Options

EPILOG = (
    "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".\n\n"
    "Shell completion: ibkr-gateway --install-completion, once, then begin a new shell. --show-completion prints it "
    "instead, to be put where you like."
)

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
    host: Annotated[str, typer.Option(help="Host of the server.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GRPC_PORT", min=1, max=65535, help="Port of the server.")] = 50051,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
    paper: Annotated[bool, typer.Option("--paper", help="Refuse to talk to a server that trades live.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Refuse to talk to a server that does not trade live.")] = False,
    token_file: Annotated[
        str, typer.Option(envvar="IBKR_GATEWAY_TOKEN_FILE", help="File (chmod 600) with the token to show.")
    ] = "",
    tls_ca: Annotated[
        str, typer.Option(envvar="IBKR_GATEWAY_TLS_CA", help="Speak TLS; this file signs the server's certificate.")
    ] = "",
    tls_cert: Annotated[str, typer.Option(envvar="IBKR_GATEWAY_TLS_CERT", help="Own certificate, with --tls-ca.")] = "",
    tls_key: Annotated[str, typer.Option(envvar="IBKR_GATEWAY_TLS_KEY", help="Its key, with --tls-cert.")] = "",
) -> None:
    if paper and live:
        typer.echo("--paper and --live exclude each other", err=True)
        raise typer.Exit(USAGE)
    if (tls_cert or tls_key) and not tls_ca:
        typer.echo("--tls-cert and --tls-key need --tls-ca", err=True)
        raise typer.Exit(USAGE)
    tls = Tls(tls_ca, tls_cert or None, tls_key or None) if tls_ca else None
    mode = "paper" if paper else "live" if live else ""
    context.obj = Options(host, port, as_json, mode, token_file or None, tls)


app.command(context_settings=servers.PASS_ON)(servers.serve)
app.command("start-api", context_settings=servers.PASS_ON, help="Start the server: the same as serve.")(servers.serve)
app.command(context_settings=servers.PASS_ON)(servers.simulate)
app.command()(servers.healthcheck)
app.command()(servers.version)
app.command()(status.status)
app.command()(metrics.metrics)
app.command()(demo.demo)
app.command()(market.quote)
app.command()(market.bars)
app.command()(market.depth)
app.command()(contracts.search)
app.command()(contracts.chain)
app.command()(account.account)
app.command()(account.positions)
app.command()(executions.executions)
orders.orders.command()(order_changes.modify)
orders.orders.command("cancel-all")(order_changes.cancel_all)
orders.orders.command()(order_watch.watch)
app.command()(account.pnl)
app.add_typer(orders.orders, name="order")
app.add_typer(audit.audit, name="audit")
app.command()(halts.halt)
app.command()(halts.resume)
app.add_typer(tokens.tokens, name="token")
examples.add_to(app)

_ANYWHERE = ("--json", "--paper", "--live")


def with_kind_of_plot(arguments: list[str]) -> list[str]:
    """The arguments with `--plot candles` for `--plot` alone: typer has no option whose value may be left out."""
    following = [*arguments[1:], ""]
    return [
        part
        for argument, after in zip(arguments, following, strict=True)
        for part in ((argument, market.PLOTS[0]) if argument == "--plot" and after not in market.PLOTS else (argument,))
    ]


def main() -> None:
    """Run one command; its flags for all commands are taken behind the command as well as before it, and
    `--plot` without its kind."""
    arguments = sys.argv[1:]
    passes_on = any(argument in ("serve", "start-api", "simulate") for argument in arguments)
    if not passes_on:
        first = [flag for flag in _ANYWHERE if flag in arguments]
        arguments = with_kind_of_plot([*first, *(each for each in arguments if each not in _ANYWHERE)])
    try:
        app(args=arguments, prog_name="ibkr-gateway")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
