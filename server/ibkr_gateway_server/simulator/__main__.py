"""`python -m ibkr_gateway_server.simulator`: the simulated IB Gateway by itself."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ibkr_gateway_server.simulator.behaviour import MAX_SERVER_VERSION, MIN_CLIENT_VERSION, Behaviour
from ibkr_gateway_server.simulator.listener import DEFAULT_ACCOUNT, DEFAULT_SEED, TICK_INTERVAL_S, Simulator
from ibkr_gateway_server.simulator.listings import CURRENCIES
from ibkr_gateway_server.simulator.market import BadTape, Tape
from ibkr_gateway_server.simulator.market.tape import moment
from ibkr_gateway_server.simulator.scenario import Scenario, WrongScenario, read

# sysexits.h: the command was used wrongly; the service is not available, as when its port is taken.
EX_USAGE = 64
EX_UNAVAILABLE = 69


class _Parser(argparse.ArgumentParser):
    """One that ends with the exit code that this program documents."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: error: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """Parse arguments and serve until SIGTERM or SIGINT. Returns the exit code."""
    parser = _Parser(
        prog="ibkr-gateway simulate",
        description="A simulated IB Gateway: any TWS API client can connect to it. No account is needed.",
        epilog="Its market never closes, unless --hours or a scenario says so. The same seed gives the same prices in "
        "every run. "
        "A scenario is a TOML file of what goes wrong and when: lost links, farms, acknowledgements, connections; see "
        "docs/scenarios.md and examples/scenarios. What it says of the gateway comes before the options here. "
        "Exit codes: 0 ended by SIGTERM or SIGINT, 64 wrong arguments or a wrong scenario, 69 cannot listen.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=4002, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides all prices (default: %(default)s)")
    parser.add_argument(
        "--account",
        type=_account,
        action="append",
        metavar="NUMBER[:CURRENCY]",
        help=f"account, and the currency it counts in where that is not USD; repeatable (default: {DEFAULT_ACCOUNT})",
    )
    parser.add_argument(
        "--tick-interval",
        type=_positive,
        default=TICK_INTERVAL_S,
        help="seconds between ticks (default: %(default)s)",
    )
    parser.add_argument(
        "--speed",
        type=_positive,
        default=1.0,
        help="how fast its clock runs: 60 for an hour a minute, up to 1000 (default: %(default)s)",
    )
    parser.add_argument(
        "--scenario", type=_scenario, metavar="FILE", help="let these events happen, in seconds of its clock"
    )
    parser.add_argument(
        "--enforce-pacing",
        action="store_true",
        help="end connections that send more than 50 messages in a second, and refuse bars that violate IBKR's pacing",
    )
    parser.add_argument(
        "--server-version",
        type=int,
        default=MAX_SERVER_VERSION,
        choices=range(MIN_CLIENT_VERSION, MAX_SERVER_VERSION + 1),
        metavar=f"{MIN_CLIENT_VERSION}..{MAX_SERVER_VERSION}",
        help="highest protocol version to agree to (default: %(default)s)",
    )
    parser.add_argument(
        "--hours",
        choices=("always", "exchange"),
        default="always",
        help="when the market is open: always, or when the exchanges are, with their holidays (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        type=_moment,
        metavar="TIME",
        help="the time at which it begins, as 2026-11-23T14:30:00Z (default: now)",
    )
    parser.add_argument(
        "--tape",
        type=_tape,
        metavar="FILE",
        help="quotes and trades that take the place of the seed's: CSV of time,symbol,bid,ask,last and, if you like, "
        "bid_size,ask_size,last_size; the clock begins at its first row, unless --start says otherwise",
    )
    arguments = parser.parse_args(argv)
    return asyncio.run(_serve(arguments))


def _port(text: str) -> int:
    """A TCP port, 0 for a free one."""
    return int(_bounded(text, lambda port: 0 <= port <= 65535 and port == int(port), "is not a port, 0 to 65535"))


def _account(text: str) -> tuple[str, str]:
    """An account's number and its base currency."""
    number, _, currency = text.partition(":")
    if not number or currency not in ("", *CURRENCIES):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, or a number and one of {', '.join(CURRENCIES)}")
    return number, currency or "USD"


def _scenario(text: str) -> Scenario:
    """A file's scenario."""
    try:
        return read(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    except WrongScenario as wrong:
        raise argparse.ArgumentTypeError(f"{text}: {wrong}") from None


def _moment(text: str) -> float:
    """A time with a zone, or epoch seconds."""
    try:
        return moment(text)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from None


def _tape(text: str) -> Tape:
    """A file's tape."""
    try:
        # Spreadsheets put a mark before the heading.
        with Path(text).open(encoding="utf-8-sig", newline="") as file:
            return Tape.read(file)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{text}: it is not UTF-8 text") from None
    except BadTape as wrong:
        raise argparse.ArgumentTypeError(f"{text}: {wrong}") from None


def _positive(text: str) -> float:
    """A number above 0."""
    return _bounded(text, lambda number: 0 < number < float("inf"), "is not a number above 0")


def _bounded(text: str, is_allowed: Callable[[float], bool], why_not: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number != number or not is_allowed(number):
        raise argparse.ArgumentTypeError(f"{text!r} {why_not}")
    return number


async def _serve(arguments: argparse.Namespace) -> int:
    accounts: dict[str, str] = dict(arguments.account or [(DEFAULT_ACCOUNT, "USD")])
    simulator = Simulator(
        seed=arguments.seed,
        accounts=tuple(accounts),
        server_version=arguments.server_version,
        tick_interval_s=arguments.tick_interval,
        speed=arguments.speed,
        behaviour=Behaviour(
            enforces_pacing=arguments.enforce_pacing,
            base_currencies=accounts,
            always_open=arguments.hours == "always",
        ),
        start=arguments.start,
        tape=arguments.tape,
    )
    if arguments.tape is not None and (unknown := simulator.gateway.unlisted(arguments.tape)):
        print(f"the tape has what is not listed: {', '.join(unknown)}", file=sys.stderr)
        return EX_USAGE
    if arguments.scenario is not None:
        try:
            simulator.play(arguments.scenario)
        except WrongScenario as wrong:
            print(f"the scenario cannot be played: {wrong}", file=sys.stderr)
            return EX_USAGE
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with simulator.listen(arguments.host, arguments.port) as address:
            print(f"listening on {address}", flush=True)
            await stop.wait()
    except OSError as error:
        print(f"cannot listen on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        return EX_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
