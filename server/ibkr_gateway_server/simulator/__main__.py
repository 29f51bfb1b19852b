"""`python -m ibkr_gateway_server.simulator`: the simulated IB Gateway by itself."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from ibkr_gateway_server.simulator.listener import DEFAULT_ACCOUNT, DEFAULT_SEED, TICK_INTERVAL_S, Simulator
from ibkr_gateway_server.simulator.session import MAX_SERVER_VERSION, MIN_CLIENT_VERSION

# sysexits.h: the service is not available, as when its port is taken.
EX_UNAVAILABLE = 69


def main(argv: list[str] | None = None) -> int:
    """Parse arguments and serve until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="ibkr-gateway simulate",
        description="A simulated IB Gateway: any TWS API client can connect to it. No account is needed.",
        epilog="Its market never closes. The same seed gives the same prices in every run.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=4002, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="decides all prices (default: %(default)s)")
    parser.add_argument("--account", action="append", help=f"account number, repeatable (default: {DEFAULT_ACCOUNT})")
    parser.add_argument(
        "--tick-interval", type=float, default=TICK_INTERVAL_S, help="seconds between ticks (default: %(default)s)"
    )
    parser.add_argument(
        "--server-version",
        type=int,
        default=MAX_SERVER_VERSION,
        choices=range(MIN_CLIENT_VERSION, MAX_SERVER_VERSION + 1),
        metavar=f"{MIN_CLIENT_VERSION}..{MAX_SERVER_VERSION}",
        help="highest protocol version to agree to (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    return asyncio.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> int:
    simulator = Simulator(
        seed=arguments.seed,
        accounts=tuple(arguments.account or [DEFAULT_ACCOUNT]),
        server_version=arguments.server_version,
        tick_interval_s=arguments.tick_interval,
    )
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
