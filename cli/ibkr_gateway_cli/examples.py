"""An example of every command, as it is shown at the end of its help and in docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.models import CommandInfo

EXAMPLES = {
    "serve": "serve --mode simulation",
    "start-api": "start-api --mode simulation --port 50052",
    "simulate": "simulate --seed 7",
    "healthcheck": "healthcheck --json",
    "version": "version --server",
    "status": "status --watch",
    "metrics": "metrics --watch",
    "demo": "demo --seconds 10",
    "quote": "quote AAPL MES:FUT EUR.USD --watch",
    "bars": "bars AAPL --size '1 hour' --start 2026-06-01 --end 2026-07-01 --csv",
    "depth": "depth AAPL --rows 5 --watch",
    "search": "search apple",
    "chain": "chain AAPL --exchange SMART",
    "account": "account --json",
    "positions": "positions --account DU1234567",
    "pnl": "pnl --watch",
    "executions": "executions --symbol AAPL --since 2026-11-23 --limit 500 --csv",
    "order preview": "order preview buy 10 AAPL --limit 187.30",
    "order place": "order place buy 10 AAPL --limit 187.30 --tif GTC",
    "order bracket": "order bracket buy 10 AAPL --limit 187 --take-profit 195 --stop-loss 180",
    "order modify": "order modify 0f8b2c6d4e1a4b7c9d3e5f60718293a4 --limit 187.40 --quantity 20",
    "order cancel": "order cancel 0f8b2c6d4e1a4b7c9d3e5f60718293a4",
    "order cancel-all": "order cancel-all --account DU1234567 --yes",
    "order status": "order status 0f8b2c6d4e1a4b7c9d3e5f60718293a4",
    "order list": "order list --external",
    "order events": "order events --order 0f8b2c6d4e1a4b7c9d3e5f60718293a4",
    "order watch": "order watch --after 1200 --json",
    "audit query": "audit query --kind order.intent --limit 20",
    "audit export": "audit export --since 2026-11-01 --output november.csv",
    "audit verify": "audit verify",
    "audit accept-rollback": "audit accept-rollback --comment 'compared with the statement'",
    "halt": "halt --level cancel-own --comment 'runaway strategy'",
    "resume": "resume --yes --comment 'strategy stopped'",
    "token create": "token create desk --scope read --scope trade --expires 2027-01-31",
}


def commands_of(app: typer.Typer, prefix: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Every command with its whole name, in the order of the help."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__.replace("_", "-")), command
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands_of(group.typer_instance, f"{prefix}{group.name} ")


def add_to(app: typer.Typer) -> None:
    """Give the help of each command its example, unless it has its own already."""
    for name, command in commands_of(app):
        if name in EXAMPLES and not command.epilog:
            # The mark keeps the line as it is.
            command.epilog = f"\b\nExample:\n  ibkr-gateway {EXAMPLES[name]}"


def summary_of(command: CommandInfo) -> str:
    """The first paragraph of a command's help, as one line."""
    assert command.callback is not None
    text = command.help or command.callback.__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split())
