"""Commands that start the server or the simulator, as programs of their own, and ask how a server is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Annotated

import typer
from ibkr_gateway import GatewayError, Refused, Unauthenticated, Unavailable, __version__
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_cli.session import (
    REFUSED,
    Options,
    WrongMode,
    console,
    errors_as_exit_codes,
    gateway,
    print_json,
)

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

VERSION_TIMEOUT_S = 5.0

# sysexits.h, as service managers and container health checks read them.
EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 69, 75, 77, 78


def serve(context: typer.Context) -> None:
    """Start the server. Takes the server's own options: see ibkr-gateway serve --help."""
    raise typer.Exit(run_module("ibkr_gateway_server", context.args))


def simulate(context: typer.Context) -> None:
    """Start the simulated IB Gateway by itself, for any TWS API client: see ibkr-gateway simulate --help."""
    raise typer.Exit(run_module("ibkr_gateway_server.simulator", context.args))


def run_module(module: str, arguments: list[str]) -> int:
    """Run a program of the server's package until it ends.

    Ctrl-C reaches it as it reaches us, SIGTERM is passed on. Returns its exit code.
    """
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])
    signal.signal(signal.SIGTERM, lambda _signal, _frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The terminal has sent it the same signal: it drains and ends by itself.
            continue


def healthcheck(context: typer.Context) -> None:
    """Ask the server how it is: exit 0 when healthy, 69 when it does not answer, 75 when IBKR is away for now, 77 when
    the caller is refused, 78 when the session with IBKR has ended for good and a person must correct something."""
    options: Options = context.obj
    try:
        with gateway(options) as connected:
            health = connected.gateway.GetHealth(pb.GetHealthRequest(), timeout=5.0)
    except WrongMode as error:
        console(to_stderr=True).print(error.message, markup=False)
        raise typer.Exit(REFUSED) from None
    except GatewayError as error:
        if options.as_json:
            print(json.dumps({"error_code": error.reason or error.code.name, "message": error.message, "details": {}}))
        else:
            what = "no server answers" if isinstance(error, Unavailable) else error.message
            console(to_stderr=True).print(f"{what} at {options.target}", markup=False)
        raise typer.Exit(EX_NOPERM if isinstance(error, Unauthenticated | Refused) else EX_UNAVAILABLE) from None
    except ValueError as error:
        console(to_stderr=True).print(str(error), markup=False)
        raise typer.Exit(2) from None
    if options.as_json:
        print_json(health)
    else:
        status = pb.HealthStatus.Name(health.status).removeprefix("HEALTH_STATUS_")
        mode = pb.TradingMode.Name(health.trading_mode).removeprefix("TRADING_MODE_").lower()
        time = health.server_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
        broker = "connected" if health.is_broker_connected else "not connected"
        orders = "enabled" if health.orders_enabled else "disabled"
        console().print(f"{status}: mode {mode}, IBKR {broker}, orders {orders}, server {health.version}, {time}")
    if health.session_state == common_pb2.SESSION_STATE_FATAL:
        raise typer.Exit(EX_CONFIG)
    if health.status != pb.HEALTH_STATUS_OK:
        raise typer.Exit(EX_TEMPFAIL)


def version(
    context: typer.Context,
    server: Annotated[bool, typer.Option("--server", help="Fail when no server answers.")] = False,
) -> None:
    """Show the versions of this program, of the contract it speaks, and of the server when one answers."""
    options: Options = context.obj
    found = {"cli": __version__, "contract": common_pb2.DESCRIPTOR.package}
    with errors_as_exit_codes(options.as_json):
        try:
            with gateway(options) as connected:
                info = connected.gateway.GetServerInfo(pb.GetServerInfoRequest(), timeout=VERSION_TIMEOUT_S)
            found |= {"server": info.version, "broker_library": info.broker_library}
        except GatewayError as error:
            if server or isinstance(error, WrongMode):
                raise
            if not options.as_json:
                what = "none answers" if isinstance(error, Unavailable) else error.message
                console(to_stderr=True).print(f"server: {what} at {options.target}", markup=False)
    print(json.dumps(found) if options.as_json else "\n".join(f"{name} {value}" for name, value in found.items()))
