"""What every command shares: where the server is, how to print, and how errors become exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import typer
from google.protobuf.json_format import MessageToDict
from ibkr_gateway import (
    Conflict,
    Exhausted,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotServed,
    Refused,
    SyncGateway,
    TimedOut,
    Tls,
    Unauthenticated,
    Unavailable,
    connect_sync,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

OK, ERROR, USAGE, UNAVAILABLE, REFUSED, TIMED_OUT, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130

EXIT_CODES = {
    OK: "done",
    ERROR: "an error that no other code names",
    USAGE: "the command or the request is wrong",
    UNAVAILABLE: "the server or IBKR cannot be reached now",
    REFUSED: "a rule of the gateway or of IBKR forbids it, or its budget is used up",
    TIMED_OUT: "no answer in time",
    NOT_FOUND: "what was named is not there",
    INTERRUPTED: "interrupted by Ctrl-C",
}

_CODES: dict[type[GatewayError], int] = {
    InvalidRequest: USAGE,
    Conflict: REFUSED,
    Refused: REFUSED,
    Unauthenticated: REFUSED,
    Exhausted: REFUSED,
    Unavailable: UNAVAILABLE,
    TimedOut: TIMED_OUT,
    NotFound: NOT_FOUND,
    NotServed: ERROR,
}

_NEXT = {
    "TRADING_DISABLED": "start the server with ORDERS_ENABLED=true, on a paper account first",
    "BROKER_DISCONNECTED": "start TWS or IB Gateway, or use the simulator: ibkr-gateway serve --mode simulation",
    "MARKET_DATA_NOT_SUBSCRIBED": "start the server with MARKET_DATA_TYPE=delayed",
    "CONTRACT_AMBIGUOUS": "name one by its contract id, the number in front",
    "TOKEN_MISSING": "name the file with your token: --token-file, or IBKR_GATEWAY_TOKEN_FILE",
    "TRADING_HALTED": "find out why; then, with the scope admin: ibkr-gateway resume --yes",
    "NOT_IMPLEMENTED": "use a newer server",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The global options of one run."""

    host: str = "127.0.0.1"
    port: int = 50051
    as_json: bool = False
    mode: str = ""
    token_file: str | None = None
    tls: Tls | None = None

    @property
    def target(self) -> str:
        """Where the server is."""
        return f"{self.host}:{self.port}"


def console(*, to_stderr: bool = False) -> Console:
    """Where to print: data to stdout, talk to stderr. Colour only on a terminal, and not with NO_COLOR."""
    from rich.console import Console

    # In a pipe a table must not be cut to the width of a terminal that is not there.
    wide = None if sys.stdout.isatty() or to_stderr else int(os.environ.get("COLUMNS", "200"))
    return Console(stderr=to_stderr, width=wide, highlight=False)


class WrongMode(Refused):
    """The server is in another mode than --paper or --live asks for."""


@contextmanager
def gateway(options: Options) -> Iterator[SyncGateway]:
    """A connection to the server; with --paper or --live only to one that is in that mode.

    Raises WrongMode, ValueError for a token or a certificate that cannot be used.
    """
    try:
        made = connect_sync(options.target, token_file=options.token_file, tls=options.tls or False)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from None
    with made as connected:
        if options.mode:
            _check_mode(connected, options.mode)
        yield connected


@contextmanager
def errors_as_exit_codes(as_json: bool) -> Iterator[None]:
    """An error of the gateway is one sentence and what to do next, on stderr, with an exit code of its own."""
    try:
        yield
    except GatewayError as error:
        if as_json:
            shape = {"error_code": error.reason or error.code.name, "message": error.message, "details": error.details}
            print(json.dumps(shape), file=sys.stderr)
        else:
            out = console(to_stderr=True)
            out.print(f"[bold red]{error.reason or error.code.name}[/]: ", end="")
            out.print(error.message, markup=False)
            if (advice := _advice(error)) is not None:
                out.print(f"Next: {advice}", markup=False)
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), ERROR)
        raise typer.Exit(code) from None
    except ValueError as error:
        console(to_stderr=True).print(str(error), markup=False)
        raise typer.Exit(USAGE) from None


def confirm(question: str, undone: str) -> None:
    """Have a person agree, or end the command with `undone`; without one at a terminal nothing is asked nor done."""
    if not sys.stdin.isatty():
        console(to_stderr=True).print(f"{undone}: there is no terminal to ask at; give --yes.", markup=False)
        raise typer.Exit(USAGE)
    if not typer.confirm(question, err=True):
        console(to_stderr=True).print(f"{undone}.", markup=False)
        raise typer.Exit(ERROR)


def print_json(message: Message) -> None:
    """One message as one line of JSON, with the contract's own field names."""
    print(json.dumps(MessageToDict(message, preserving_proto_field_name=True)), flush=True)


def dictionary(message: Message) -> dict[str, Any]:
    """A message as plain data."""
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _advice(error: GatewayError) -> str | None:
    if error.reason in _NEXT:
        return _NEXT[error.reason]
    if isinstance(error, Unavailable) and not error.reason:
        return "start the server: ibkr-gateway serve --mode simulation, or name it by --host and --port"
    if error.retry_after_s:
        return f"try again in {error.retry_after_s:g} s"
    return None


def _check_mode(connected: SyncGateway, mode: str) -> None:
    """Raises WrongMode. No real money is in a simulation: --paper takes it."""
    from ibkr_gateway.v1 import gateway_service_pb2 as pb

    health = connected.gateway.GetHealth(pb.GetHealthRequest())
    found = pb.TradingMode.Name(health.trading_mode).removeprefix("TRADING_MODE_").lower()
    if found not in {"paper": ("paper", "simulation"), "live": ("live",)}[mode]:
        raise WrongMode(
            f"the server trades {found}, not {mode}; nothing was asked of it", code=grpc.StatusCode.FAILED_PRECONDITION
        )
