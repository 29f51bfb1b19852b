"""`ibkr-gateway-mcp`: MCP on stdin and stdout, or by streamable HTTP."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING

from ibkr_gateway import GatewayError, Tls
from ibkr_gateway.connection import DEFAULT_TARGET
from ibkr_gateway.credentials import read_token
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_mcp import __version__
from ibkr_gateway_mcp.logs import configure
from ibkr_gateway_mcp.options import Limits, Options
from ibkr_gateway_mcp.plain import plain

if TYPE_CHECKING:
    from ibkr_gateway_mcp.adapter import Adapter
    from ibkr_gateway_mcp.http import Door

log = logging.getLogger("ibkr_gateway_mcp")

# sysexits.h: the command line is wrong; something in the set-up must be corrected.
EX_USAGE, EX_CONFIG = 64, 78
START_TIMEOUT_S = 3.0


def main() -> None:
    """Run the adapter. Exit codes: 0 ended by client or signal, 64 wrong options, 78 unusable token or address."""
    parser = _parser()
    given = parser.parse_args()
    configure(given.log_level)
    # A stray print of a library must not drain into the protocol when the process ends.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        asyncio.run(_run(given))
    except (ValueError, OSError) as error:
        log.error("cannot start", extra={"problem": str(error)})
        sys.exit(EX_CONFIG)
    except KeyboardInterrupt:
        pass
    # The thread that reads stdin cannot be interrupted, and would keep a process that is done.
    logging.shutdown()
    os._exit(0)


async def _run(given: argparse.Namespace) -> None:
    options, door = _options(given), _door(given)
    # Whoever asks for help, or has an option to correct, does not wait for the protocol to be imported.
    from ibkr_gateway_mcp.adapter import Adapter
    from ibkr_gateway_mcp.server import Server

    async with Adapter(options) as adapter:
        server = Server(adapter)
        await _greet(adapter)
        if door is None:
            await server.run_stdio_async()
        else:
            await door.serve(server)


def _door(given: argparse.Namespace) -> Door | None:
    """Where HTTP clients come in; None: it is stdin and stdout. Raises ValueError, OSError."""
    if given.http is None:
        if given.http_token_file or given.allowed_host:
            raise ValueError("--http-token-file and --allowed-host need --http")
        return None
    # Who is spoken to on stdin does not wait for a web server to be imported.
    from ibkr_gateway_mcp.http import listen

    token = read_token(given.http_token_file) if given.http_token_file else None
    return listen(*given.http, allowed_hosts=given.allowed_host, token=token)


async def _greet(adapter: Adapter) -> None:
    """Say to which gateway this is a client, or that none answers: tools are listed all the same, and say so too."""
    target = adapter.options.target
    try:
        health = await adapter.gateway.gateway.GetHealth(pb.GetHealthRequest(), timeout=START_TIMEOUT_S)
    except GatewayError as error:
        log.error(
            "the gateway does not answer; start it (ibkr-gateway serve), or correct --target or IBKR_GATEWAY_TARGET",
            extra={"target": target, "code": error.code.name},
        )
        return
    found = plain(health)
    told = {name: found[name] for name in ("status", "trading_mode", "orders_enabled", "version")}
    log.info("connected", extra={"target": target, "gateway": told})


def _options(given: argparse.Namespace) -> Options:
    if (given.tls_cert or given.tls_key) and not given.tls_ca:
        raise ValueError("--tls-cert and --tls-key need --tls-ca")
    return Options(
        target=given.target,
        token_file=given.token_file or None,
        tls=Tls(given.tls_ca, given.tls_cert or None, given.tls_key or None) if given.tls_ca else None,
        read_only=given.read_only,
        limits=Limits(
            per_minute=given.orders_per_minute,
            per_day=given.orders_per_day,
            approval_timeout_s=given.approval_timeout,
            drift_percent=given.max_drift,
        ),
    )


def _parser() -> argparse.ArgumentParser:
    limits, parser = Limits(), _Parser("ibkr-gateway-mcp", description=__doc__)
    add = parser.add_argument
    add("--version", action="version", version=__version__)
    add(
        "--target",
        default=os.environ.get("IBKR_GATEWAY_TARGET", DEFAULT_TARGET),
        help="gateway, HOST:PORT (%(default)s)",
    )
    add(
        "--token-file",
        default=os.environ.get("IBKR_GATEWAY_TOKEN_FILE"),
        help="file (chmod 600) with the token to show it",
    )
    add("--tls-ca", default=os.environ.get("IBKR_GATEWAY_TLS_CA"), help="speak TLS; this file signs its certificate")
    add("--tls-cert", default=os.environ.get("IBKR_GATEWAY_TLS_CERT"), help="own certificate, with --tls-ca")
    add("--tls-key", default=os.environ.get("IBKR_GATEWAY_TLS_KEY"), help="its key, with --tls-cert")
    add("--read-only", action="store_true", help="offer no tool that previews, places, changes, cancels or halts")
    add("--http", type=_address, metavar="HOST:PORT", help="serve streamable HTTP there instead of stdin and stdout")
    add("--http-token-file", help="file (chmod 600) with the token that HTTP clients must show")
    add(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="another name that HTTP clients may use",
    )
    add(
        "--orders-per-minute",
        type=_count,
        default=limits.per_minute,
        help="orders asked about in a minute (%(default)s)",
    )
    add("--orders-per-day", type=_count, default=limits.per_day, help="orders asked about in 24 hours (%(default)s)")
    add(
        "--approval-timeout",
        type=_seconds,
        default=limits.approval_timeout_s,
        help="seconds to answer in (%(default)s)",
    )
    add(
        "--max-drift",
        type=_percent,
        default=limits.drift_percent,
        help="percent the market may move meanwhile (%(default)s)",
    )
    add(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="least severe line on stderr"
    )
    return parser


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: object = None) -> None:
        super().print_help(sys.stderr)

    def error(self, message: str) -> None:  # type: ignore[override]
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 1000")
    return int(text)


def _seconds(text: str) -> float:
    return _between(text, 1, 600)


def _percent(text: str) -> float:
    return _between(text, 0, 100)


def _between(text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = most + 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not from {least:g} to {most:g}")
    return value


if __name__ == "__main__":
    main()
